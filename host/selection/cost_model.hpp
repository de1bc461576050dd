#pragma once

#include "thresher/fit.hpp"

namespace thresher {

/// Sizes a call is planned from.
struct CallShape {
  Index n_samples = 0;
  Index n_features = 0;
  Index n_responses = 0;
  Index n_l1_ratios = 0;
  Index n_lambdas = 0;
  Index n_folds = 0;         ///< 0: no cross-validation
  bool own_weights = false;  ///< every response has its own row weights
  bool predictions = false;
  bool results_in_memory = true;
  bool row_major = false;
  bool float_data = false;
  bool on_device = false;          ///< the engines run on a device: plan the host's part
  bool may_extend = false;         ///< cross-validation on automatic grids: they may double once
  bool any_ridge = false;          ///< some l1_ratio is 0
  double smallest_l1_ratio = 1.0;  ///< above 0
  double largest_l1_ratio = 1.0;
};

/// What was decided, with the memory model behind it (docs/cost_model.md).
struct CallPlan {
  Engine engine = Engine::kActiveSet;  ///< for l1_ratio > 0
  Mode mode = Mode::kResidual;
  bool gram_grows = false;     ///< X'WX holds what the call's only path needs (decision 0013)
  bool build_columns = false;  ///< all double columns at once, rather than as they are used
  bool half_panels = false;
  std::size_t fixed_bytes = 0;     ///< whatever the tile
  std::size_t response_bytes = 0;  ///< per response in a tile
  std::size_t result_bytes = 0;    ///< kept until the end, for all responses
  std::size_t limit = 0;
  Index responses_per_tile = 0;
  Index n_tiles = 0;
  int threads = 0;
  double seconds = 0.0;       ///< on the CPU with these threads
  double core_seconds = 0.0;  ///< on one core, so that a choice made from it knows no threads
  std::size_t bytes() const {
    return fixed_bytes + static_cast<std::size_t>(responses_per_tile) * response_bytes +
           result_bytes;
  }
};

/// Throws   Error{kOutOfMemory} with the numbers if one response does not fit.
CallPlan plan_call(const CallShape& shape, const Options& options, int threads);

/// The engine for problems of one l1_ratio: the one asked for, else ridge at 0, proximal gradient
/// where a small l1_ratio and p > n make supports larger than n, active set otherwise.
Engine engine_for(const CallShape& shape, const Options& options, double l1_ratio);

/// Device auto takes a device from this many seconds of one core on. Opening a device and bringing
/// X there takes tenths of a second. Untuned: no GPU has run this yet.
constexpr double kDevicePaysSeconds = 2.0;

/// Memory the process may still take, from /proc/meminfo and the control group.
std::size_t available_memory();

}  // namespace thresher

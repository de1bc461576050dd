#include "selection/cost_model.hpp"

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "backend/cpu_working_set_backend.hpp"
#include "backend/half_panels.hpp"
#include "backend/packed_product.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

// Rates of one core in flop/s and byte/s, measured on a shared cloud core (docs/cost_model.md).
// They only rank engines and give the plan's order of magnitude; no answer depends on them.
constexpr double kDenseRate = 3e10;   // double matrix products
constexpr double kHalfRate = 6e10;    // half-precision passes
constexpr double kFitSeconds = 3e-5;  // what any fit costs, however small
constexpr double kVectorRate = 4e9;   // dot products and updates out of cache

// Gram mode pays p^2 n once for each distinct w and p per change afterwards; residual mode pays n p
// per pass. With n >= 2 p the Gram matrix is smaller than X and paths on it are cheaper, if enough
// of them share it. Processor ms, gram against residual mode: 5,000 x 500, one lambda 36 and 16, 10
// lambdas to 0.03 lambda_max 37 and 38, 100 to 0.01 57 and 108; 20,000 x 1,000: 463 and 90, 470 and
// 124, 518 and 592.
constexpr Index kGramRowsPerColumn = 2;
constexpr Index kGramFeaturesPerFit = 10;
constexpr Index kGramMostFeatures = 8192;
// A matrix that the call's only path needs can grow with it, which pays for fewer fits; and for
// more of them where forming all of it would be most of the work. 100 lambdas to 0.01 lambda_max,
// processor s, residual mode, whole matrix, growing: 8,000 x 1,000 0.23 0.14 0.17, 8,000 x 1,600
// 0.31 0.35 0.25, 8,190 x 1,497 (grants_other) 0.50 0.37 0.37, 20,000 x 1,000 0.25 0.40 0.19,
// 100,000 x 1,000 1.54 1.6 0.74; ten lambdas to 0.1, 8,000 x 1,600: 0.028, 0.29, 0.035. Growing
// became faster since: 100,000 x 1,000 0.79 -> 0.61, grants_other 0.40 -> 0.36.
constexpr Index kGrowingFeatures = 256;
constexpr Index kGrowingRowsPerColumn = 5;
constexpr Index kGrowingFeaturesPerFit = 32;
constexpr Index kAlwaysGrowingRowsPerColumn = 20;
// An entry of X costs 1.3 ns to write in half precision and 0.07 to read so in a pass, against 0.25
// to 0.3 in double, straight from X (5,000 x 500).
constexpr Index kFewPasses = 4;
// Below this l1_ratio, with p > n, supports outgrow n and the active set's k x k factor is dearer
// than gradient steps: golub, 10 folds, two threads: 5 s against 12 s at 0.1, 51 s against 28 s at
// 0.02.
constexpr double kSmallL1Ratio = 0.05;
// The reserve Gram mode and ridge need beside their named arrays.
constexpr std::size_t kSlack = std::size_t{8} << 20;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::size_t meminfo_available() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  std::size_t value = 0;
  while (file >> key >> value) {
    if (key == "MemAvailable:") return value * 1024;
    std::getline(file, unit);
  }
  return std::size_t{4} << 30;
}

std::size_t number_in(const char* path) {
  std::ifstream file(path);
  std::size_t value = 0;
  return file >> value ? value : std::numeric_limits<std::size_t>::max();
}

}  // namespace

std::size_t available_memory() {
  std::size_t free = meminfo_available();
  const std::size_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::size_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<std::size_t>::max() && used < limit) {
    free = std::min(free, limit - used);
  }
  return free;
}

Engine engine_for(const CallShape& shape, const Options& options, double l1_ratio) {
  if (options.engine != Engine::kAuto) return options.engine;
  if (l1_ratio == 0.0) return Engine::kRidge;
  const bool large_support = l1_ratio < kSmallL1Ratio && shape.n_features > shape.n_samples;
  return large_support ? Engine::kProximalGradient : Engine::kActiveSet;
}

CallPlan plan_call(const CallShape& shape, const Options& options, int threads) {
  CallPlan plan;
  plan.threads = threads;
  plan.limit = options.max_memory > 0 ? options.max_memory : available_memory() / 5 * 4;
  const Index n = shape.n_samples;
  const Index p = shape.n_features;
  const std::size_t n_weightings = at(1 + shape.n_folds);

  plan.engine = engine_for(shape, options, shape.largest_l1_ratio);
  const bool active_set = plan.engine == Engine::kActiveSet;
  const bool proximal =
      plan.engine == Engine::kProximalGradient ||
      engine_for(shape, options, shape.smallest_l1_ratio) == Engine::kProximalGradient;
  plan.mode = Mode::kAuto;
  if (active_set) {
    const Index fits = shape.n_responses * shape.n_l1_ratios * shape.n_lambdas;
    const bool only_path =
        shape.n_responses == 1 && shape.n_l1_ratios == 1 && shape.n_folds == 0 && !shape.on_device;
    const bool may_grow = only_path && p >= kGrowingFeatures && n >= kGrowingRowsPerColumn * p;
    const Index per_fit = may_grow ? kGrowingFeaturesPerFit : kGramFeaturesPerFit;
    const bool gram_pays = n >= kGramRowsPerColumn * p && p <= kGramMostFeatures &&
                           p <= per_fit * fits && !shape.own_weights;
    plan.gram_grows =
        may_grow && (n >= kAlwaysGrowingRowsPerColumn * p || p > kGramFeaturesPerFit * fits);
    plan.mode = options.mode != Mode::kAuto ? options.mode
                : gram_pays                 ? Mode::kGram
                                            : Mode::kResidual;
  }
  const bool gram = plan.mode == Mode::kGram;
  const bool residual = plan.mode == Mode::kResidual;
  // Passes over X: for lambda_max, which alone is left to the host of a device, for the start of
  // each path, and for each lambda.
  const bool device = shape.on_device && active_set;
  const Index n_problems_per_response = shape.n_l1_ratios * (1 + shape.n_folds);
  const Index passes = shape.n_responses * n_problems_per_response *
                       ((options.lambda_grid.empty() ? 1 : 0) + (device ? 0 : 1 + shape.n_lambdas));
  plan.half_panels = residual && options.low_precision && passes > kFewPasses;
  const bool many = shape.n_responses * n_problems_per_response > 4;
  const bool little = at(n) * at(p) * sizeof(double) <= kLittleMatrix;
  plan.build_columns = device ? shape.row_major || shape.any_ridge || proximal
                              : !active_set || many || proximal || shape.row_major ||
                                    shape.any_ridge || (gram && little);

  // X as the engines see it.
  const std::size_t support = at(std::min(n, p));
  std::size_t fixed = 0;
  const std::size_t lazy_columns = std::min(at(p), 3 * support + 200);
  fixed += (plan.build_columns ? at(p) : lazy_columns) * at(n) * sizeof(double);
  if (plan.half_panels) fixed += HalfPanels::bytes(n, p);
  fixed += at(p) * 40;  // means, norms, exponents, slacks, states of Columns
  fixed += at(threads) * blas::packed_product_bytes();
  const std::size_t weighting = at(p) * 25 + at(n) * 16 + at(p) * 25;  // with its penalties
  if (!shape.own_weights) fixed += n_weightings * weighting;
  // All folds together hold out every row once, filled up to a multiple of 32 rows each.
  const std::size_t held_out = shape.n_folds > 0 ? at(n + 16 * shape.n_folds) * at(p) : 0;
  const std::size_t gram_bytes = (n_weightings * at(p) * at(p) + held_out) * sizeof(double);
  if (gram && !device) {
    // What making Gram matrices needs is gone before the paths begin.
    const std::size_t paths = (32 * (at(n) + 10 * at(p)) + support * support) * 8;
    fixed += at(threads) * std::max(gram_scratch_bytes(n), paths);
    if (!shape.own_weights) fixed += gram_bytes;
  }
  if (residual && !device) {
    const Index slots = std::clamp<Index>((Index{2} << 20) / (options.look_ahead * p), 1, 8);
    const Index in_flight = std::min(slots, shape.n_responses * n_problems_per_response);
    const auto lanes = std::min<Index>(threads, shape.n_responses * n_problems_per_response);
    fixed += at(lanes * in_flight) * ResidualBackend::slot_bytes(n, p, options.look_ahead);
  }
  if (proximal) fixed += at(threads) * 32 * (4 * at(p) + 2 * at(n)) * 8;
  // Ridge alone takes its folds first and forms only the coefficients that are kept.
  const bool few_coef =
      options.keep_chosen && plan.engine == Engine::kRidge && shape.largest_l1_ratio == 0.0;
  if (shape.any_ridge) {
    // A wave of decompositions: each has a copy of X, its Gram matrix, eigenvectors and their
    // defect; fits on all rows of a wide X also map eigenvectors to columns. Then chunks of fits
    // (engines/ridge_spectrum.cpp) in five matrices.
    const std::size_t systems = shape.own_weights ? at(shape.n_responses) : 1;
    const std::size_t wave = std::min(at(threads), n_weightings * systems);
    const std::size_t side = at(std::max(n, p));
    const std::size_t chunk =
        5 * side * std::clamp((std::size_t{1} << 20) / side, std::size_t{32}, std::size_t{512});
    const std::size_t own = 3 * support * support;
    std::size_t numbers = wave * (at(n) * at(p) + own + chunk);
    if (few_coef) {
      const Index training = n - n / shape.n_folds;
      const std::size_t of_folds = std::min(at(threads), at(shape.n_folds) * systems);
      const std::size_t of_all = std::min(at(threads), systems);
      numbers = std::max(of_folds * (at(training) * at(p) + own),
                         of_all * (at(n) * at(p) + own) + at(threads) * chunk);
    }
    fixed += numbers * sizeof(double);
    // X'X of all rows, of which folds leave some out, and per response X'y.
    if (shape.n_folds > 0 && n >= p) fixed += at(p) * at(p) * sizeof(double);
    if (n < p && p <= 4 * n) {
      fixed += (wave + n_weightings - 1) / n_weightings * at(p) * support * sizeof(double);
    }
  }
  fixed += kSlack;
  plan.fixed_bytes = fixed;

  // Coefficients, 16 bytes each: half the largest support on average, all features in Ridge.
  const std::size_t fits = at(shape.n_l1_ratios * shape.n_lambdas);
  const std::size_t ridge_ratios =
      shape.largest_l1_ratio == 0.0 ? at(shape.n_l1_ratios) : at(shape.any_ridge ? 1 : 0);
  const std::size_t ridge_fits = ridge_ratios * at(shape.n_lambdas);
  const std::size_t all_coef = (fits - ridge_fits) * support * 8 + ridge_fits * at(p) * 16;
  const std::size_t chosen_coef = 2 * (ridge_ratios > 0 ? at(p) : support) * 16;

  // One response of a tile: its rows, and per path the problem (held twice, sorted by engine), and
  // the fits (twice while they move from the engine, in vectors that grew by doubling). Fits keep
  // their coefficients until the response is handed over.
  const std::size_t n_paths = at(n_problems_per_response);
  const std::size_t grown = std::bit_ceil(at(shape.n_lambdas));
  std::size_t response = at(n) * 16 + (few_coef ? chosen_coef : all_coef);
  response += n_paths * (2 * grown * sizeof(Fit) + 2 * (sizeof(Problem) + at(shape.n_lambdas) * 8));
  response += fits * (96 + at(shape.n_folds) * 16);  // its ResponseResult
  if (shape.n_folds > 0) {
    response += at(shape.n_l1_ratios) * at(n) * 32;  // held-out rows and weights, twice
    if (shape.any_ridge && n >= p) response += at(p) * sizeof(double);
    if (shape.predictions) response += fits * at(n) * sizeof(double);
  }
  if (shape.own_weights) {
    response += n_weightings * weighting;
    if (gram && !device) response += gram_bytes;
  }
  plan.response_bytes = response;

  if (shape.results_in_memory) {
    const std::size_t scalars = 69 + (shape.n_folds > 0 ? 24 + at(shape.n_folds) * 8 : 0);
    const std::size_t coef = options.keep_chosen ? chosen_coef : all_coef;
    plan.result_bytes =
        at(shape.n_responses) * (fits * scalars + coef + (shape.predictions ? at(n) * 8 : 0));
  }

  const std::size_t base = plan.fixed_bytes + plan.result_bytes;
  if (base + plan.response_bytes > plan.limit) {
    throw Error(Errc::kOutOfMemory, "fit: max_memory must hold one response, need " +
                                        std::to_string(base + plan.response_bytes) +
                                        " bytes, got " + std::to_string(plan.limit));
  }
  // A grid that is extended doubles what its response holds: tiles leave room for all of them.
  const std::size_t extended = plan.response_bytes * (shape.may_extend ? 2 : 1);
  const std::size_t fitting = std::max<std::size_t>(1, (plan.limit - base) / extended);
  plan.responses_per_tile =
      std::min<Index>(shape.n_responses, static_cast<Index>(std::min<std::size_t>(fitting, 4096)));
  plan.n_tiles = (shape.n_responses + plan.responses_per_tile - 1) / plan.responses_per_tile;

  const double nd = static_cast<double>(n), pd = static_cast<double>(p);
  const double n_problems = static_cast<double>(shape.n_responses * n_problems_per_response);
  const double n_fits = n_problems * static_cast<double>(shape.n_lambdas);
  const double k = static_cast<double>(support) * 0.5;
  double seconds = nd * pd * 4.0 / kVectorRate;
  if (plan.engine == Engine::kRidge) {
    const double m = static_cast<double>(support);
    seconds += static_cast<double>(n_weightings) * (nd * pd * m + 9.0 * m * m * m) / kDenseRate +
               2.0 * n_fits * m * nd / kDenseRate;
  } else if (gram) {
    seconds += static_cast<double>(n_weightings) * nd * pd * pd / kDenseRate +
               n_fits * (4.0 * nd * pd / kDenseRate + 6.0 * k * pd / kVectorRate);
  } else if (residual) {
    seconds += n_fits * (2.6 * nd * pd / kHalfRate + 8.0 * k * nd / kVectorRate);
  } else {
    seconds += n_fits * 200.0 * 4.0 * nd * pd / kDenseRate;
  }
  seconds += n_fits * kFitSeconds;
  plan.core_seconds = seconds;
  plan.seconds = seconds / std::max(1.0, std::min(static_cast<double>(threads), n_problems));
  return plan;
}

namespace {

std::string bytes_text(std::size_t bytes) {
  std::ostringstream out;
  out.precision(3);
  const double b = static_cast<double>(bytes);
  if (b >= 1 << 30) {
    out << b / (1 << 30) << " GiB";
  } else {
    out << b / (1 << 20) << " MiB";
  }
  return out.str();
}

}  // namespace

std::string Plan::text() const {
  std::ostringstream out;
  out << "fits       " << n_fits << "\n"
      << "engine     " << name(engine);
  if (mode != Mode::kAuto) out << ", " << name(mode) << " mode";
  out << "\nthreads    " << threads << "\nmemory     " << bytes_text(bytes) << " (" << bytes
      << " bytes), limit " << bytes_text(limit) << "\ntiles      " << n_tiles << " of at most "
      << responses_per_tile << " responses\ndevice     " << name(device);
  if (!device_name.empty()) out << ", " << device_name;
  if (!device_note.empty()) out << " (" << device_note << ")";
  out << "\nseconds    about ";
  out.precision(2);
  out << seconds << (device == Device::kCpu ? "\n" : " on the CPU; not estimated on a device\n");
  return out.str();
}

}  // namespace thresher

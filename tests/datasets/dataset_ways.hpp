#pragma once

#include <ostream>
#include <string>

#include "thresher/options.hpp"

namespace thresher::testing_datasets {

/// An engine by name, as a test asks for it.
struct Way {
  const char* name;
  Engine engine;
  Mode mode;
  double tightest;  ///< the tolerance behind which only rounding is left

  void apply(Options& options) const {
    options.engine = engine;
    options.mode = mode;
    options.tol = tightest;
    options.early_stop.reset();
  }
};

inline void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

inline constexpr Way kGram{"gram", Engine::kActiveSet, Mode::kGram, 1e-13};
inline constexpr Way kResidual{"residual", Engine::kActiveSet, Mode::kResidual, 1e-13};
inline constexpr Way kProximal{"proximal", Engine::kProximalGradient, Mode::kAuto, 1e-14};
inline constexpr Way kReference{"reference", Engine::kReference, Mode::kAuto, 1e-14};
inline constexpr Way kRidge{"ridge", Engine::kRidge, Mode::kAuto, 1e-13};
inline constexpr Way kAuto{"auto", Engine::kAuto, Mode::kAuto, 1e-13};

}  // namespace thresher::testing_datasets

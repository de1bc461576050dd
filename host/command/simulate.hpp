#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "thresher/views.hpp"

namespace thresher::command {

/// Gaussian data with a known sparse answer.
///
///     x_i1 = e_i1,  x_ij = corr x_i,j-1 + sqrt(1 - corr^2) e_ij     rows independent, e ~ N(0, 1)
///     y_r  = X b_r + noise_r
///
/// b_r has `support` coefficients ~ N(0, 1) at positions drawn without replacement, anew for each
/// response. The noise variance is b_r' S b_r / snr, S_jk = corr^|j-k| being the covariance of the
/// rows (so snr holds for the population; with support 0 the noise has variance 1).
struct SimulationSpec {
  Index rows = 0;
  Index features = 0;
  Index responses = 1;
  double corr = 0.5;   ///< in (-1, 1)
  Index support = -1;  ///< 0 .. features; -1: 10, or all features if there are fewer
  double snr = 3.0;    ///< > 0; infinity: no noise
  std::uint64_t seed = 1;
};

/// Column j of X and row j of the coefficients, valid during the call.
using SimulatedFeature =
    std::function<void(std::span<const double> x, std::span<const double> coef_row)>;

struct SimulatedResponses {
  std::vector<double> Y;         ///< (rows, responses), column-major
  std::vector<double> noise_sd;  ///< (responses)
};

/// Fills in the default support and checks every rule.
/// Throws   Error{kInvalidArgument}
SimulationSpec checked(SimulationSpec spec);

/// Hands features 0 .. features-1 to `take` in order, then returns the responses; X is never held
/// as a whole.
/// Repeat   Same bits on every machine: xoshiro256++ and arithmetic that IEEE 754 fixes, no libm.
///          A feature depends on the seed, rows, corr and its position alone; a response's
///          coefficients on the seed, features, support and its own position.
/// Throws   Error{kInvalidArgument}
SimulatedResponses simulate(const SimulationSpec& spec, const SimulatedFeature& take);

}  // namespace thresher::command

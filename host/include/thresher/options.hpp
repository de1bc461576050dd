#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "thresher/api.hpp"
#include "thresher/status.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// The data of a call, all borrowed. The one objective (docs/method.md), for each response y:
///
///     P(b0, b) = 1/2 sum_i w_i (y_i - b0 - x_i b)^2
///              + lambda sum_j [ l1_ratio u_j |b_j| + (1 - l1_ratio)/2 v_j b_j^2 ]
///              + 1/2 sum_j d_j b_j^2
///
/// with row weights w rescaled to sum to 1.
///
/// Shapes   X (n_samples, n_features); Y (n_samples, n_responses); spans as noted, empty = default.
/// Units    [lambda] = [X][y] (u, v without unit); [v] = [y][X] makes the L2 part unit-free.
struct Data {
  AnyMatrix X;
  AnyMatrix Y;
  std::span<const double> sample_weight;       ///< (n_samples) >= 0, not all 0; default: all 1
  MatrixView<const double> response_weight{};  ///< (n_samples, n_responses) >= 0, times the above
  std::span<const double> l1_factor;           ///< u (n_features) >= 0, infinity excludes
  std::span<const double> l2_factor;           ///< v (n_features) >= 0, infinity excludes
  std::span<const double> fixed_l2;            ///< d (n_features) >= 0, finite; default: all 0
  bool missing_responses = false;              ///< NaN in Y: that row has weight 0 there
};

/// Every option of a fit and its default; this struct is the only place where defaults stand.
struct Options {
  bool intercept = true;
  bool standardize = false;   ///< u_j times s_j, v_j times s_j^2; s_j the problem's own weighted sd
  double dropout_rate = 0.0;  ///< q in [0, 1): adds q/(1-q) sum_i w_i x_ij^2 to d_j

  std::vector<double> l1_ratio = {1.0};    ///< each in [0, 1]; 1 is the Lasso, 0 is Ridge
  Index n_lambdas = 100;                   ///< length of an automatic grid
  std::optional<double> lambda_min_ratio;  ///< default 1e-2 if n_features >= n_samples, else 1e-4
  MatrixView<const double> lambda_grid{};  ///< (1 or n_responses, n_lambdas), descending, >= 0

  std::optional<double> tol;       ///< relative gap; default 1e-7 for double X, 1e-5 for float
  Index max_iterations = 100'000;  ///< per fit: sweeps, or changes of the active set
  double time_limit = std::numeric_limits<double>::infinity();  ///< seconds, whole call
  std::optional<double> early_stop = 0.999;  ///< stop a path past this deviance; cv ignores it
  bool keep_chosen = false;                  ///< cross-validation only: keep the chosen fits alone

  MatrixView<const double> warm_start{};  ///< (n_features, n_responses) coefficients to start from

  Engine engine = Engine::kAuto;
  Mode mode = Mode::kAuto;
  Device device = Device::kAuto;  ///< kCuda: refused if there is none; kAuto never is
  int threads = 0;                ///< 0: one per processor this process may use
  std::size_t max_memory = 0;     ///< bytes this call may add; 0: 80 % of what is free
  bool proven_skip = true;    ///< skip passes over X by a proven bound; never changes the answer
  bool low_precision = true;  ///< certify inactive features in half precision with a bound
  Index look_ahead = 4;       ///< most lambdas solved before X is read once for all of them
};

/// How folds are made and what is returned beside the model.
struct CvOptions {
  Index n_folds = 10;              ///< used when fold_id is empty
  std::span<const Index> fold_id;  ///< (n_samples) 0 .. n_folds-1, each used
  std::uint64_t seed = 1;          ///< of the fold assignment, see make_folds
  bool predictions = false;        ///< return out-of-fold predictions at the best lambda
};

/// Fold of each row: rows are shuffled by Fisher-Yates driven by SplitMix64(seed), and the row at
/// position k of the shuffled order gets fold k mod n_folds.
/// Throws   Error{kInvalidArgument} unless 2 <= n_folds <= n_samples.
THRESHER_API std::vector<Index> make_folds(Index n_samples, Index n_folds, std::uint64_t seed);

/// The default of Options::tol.
inline double default_tol(const AnyMatrix& X) { return is_float(X) ? 1e-5 : 1e-7; }

/// The default of Options::lambda_min_ratio; n_samples counts rows with positive weight.
inline double default_lambda_min_ratio(Index n_samples, Index n_features) {
  return n_features >= n_samples ? 1e-2 : 1e-4;
}

}  // namespace thresher

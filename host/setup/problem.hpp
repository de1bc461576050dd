#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "setup/columns.hpp"
#include "setup/row_weighting.hpp"
#include "thresher/options.hpp"
#include "thresher/status.hpp"

namespace thresher {

// Everything in this file is in hat units: xhat of Columns and
//   yhat_i = (y_i - centre) * 2^-exponent.
// So a_j = l1_ratio * (lambda 2^-exponent) * l1_j,  e_j = (1 - l1_ratio) lambda l2_j + fixed_l2_j.

/// Effective per-feature factors of one RowWeighting: user factors, standardize and dropout merged.
struct Penalties {
  std::vector<double> l1;              ///< (p) u_j, finite (0 where excluded)
  std::vector<double> l2;              ///< (p) v_j, finite
  std::vector<double> fixed_l2;        ///< (p) d_j
  std::vector<std::uint8_t> excluded;  ///< (p) 1: coefficient 0, no product is ever formed
  bool any_zero_l1 = false;            ///< some feature that is not excluded has l1 = 0
  bool any_zero_l2 = false;            ///< the same with l2 = 0
};

std::shared_ptr<const Penalties> make_penalties(const Data& data, const Options& options,
                                                const Columns& columns, const RowWeighting& rows);

/// One response, centred and scaled. Rows that carry no weight in any problem hold 0.
struct Response {
  std::vector<double> value;  ///< (n) yhat
  double centre = 0.0;
  int exponent = 0;
};

/// y: (n) as given; base_weight: (n) the response's own weights on all data (0 where missing).
Response make_response(const std::vector<double>& y, const std::vector<double>& base_weight,
                       bool intercept);

/// Orthonormal basis (in the W inner product) of the intercept-free span of some columns; used to
/// project residuals off the unpenalised columns. Columns are weighted-centred first if centred.
class Projector {
 public:
  Projector(const Columns& columns, const RowWeighting& rows, bool intercept,
            const std::vector<Index>& features);
  bool empty() const { return rank_ == 0; }
  Index rank() const { return rank_; }
  const std::vector<double>& basis() const { return basis_; }       ///< (n, rank) column-major
  const std::vector<Index>& features() const { return features_; }  ///< (rank) that span it
  /// q = r minus its projection; r must already have weighted mean 0 with an intercept.
  void project(const RowWeighting& rows, std::vector<double>& r) const;

 private:
  Index n_ = 0;
  Index rank_ = 0;
  std::vector<double> basis_;  // (n, rank) column-major, W-orthonormal
  std::vector<Index> features_;
};

/// (response, row weights, l1_ratio, factors, lambda grid): one path to solve.
struct Problem {
  Index response = 0;
  Index l1_ratio_index = 0;
  Index fold = -1;  ///< -1: all rows
  double l1_ratio = 1.0;
  bool intercept = true;
  std::shared_ptr<const RowWeighting> rows;
  std::shared_ptr<const Penalties> penalties;
  std::shared_ptr<const Response> y;
  std::vector<double> lambda;  ///< descending, in the user's units

  /// Held-out rows, ascending, and their weights (user's own, not rescaled); empty without a fold.
  std::vector<Index> held_out;
  std::vector<double> held_out_weight;

  /// bhat to start from, sorted by feature; empty: 0.
  std::vector<std::pair<Index, double>> start;

  /// False: nobody asks for the coefficients, objectives and intercepts of its fits (a fold's),
  /// except at the last lambda if keep_last_coef. The ridge engine also minds `keep_only`: indices
  /// of the lambdas whose coefficients are wanted, empty for all.
  bool keep_coef = true;
  bool keep_last_coef = true;
  std::vector<Index> keep_only;

  // Derived by finish_problem:
  double y_mean = 0.0;                         ///< weighted mean of yhat (0 without an intercept)
  double null_loss = 0.0;                      ///< P0 in hat units
  bool negligible = false;                     ///< P0 is rounding noise: solved by zero
  std::vector<Index> unpenalised;              ///< at lambda > 0
  std::shared_ptr<const Projector> projector;  ///< null when there is nothing to project off

  double a(Index j, double lam) const { return a_of_hat(j, hat_lambda(lam)); }
  double hat_lambda(double lam) const { return std::ldexp(lam, -y->exponent); }
  /// a_j in hat units, exact zero where u_j = 0.
  double a_of_hat(Index j, double hat_lam) const {
    const double u = penalties->l1[static_cast<std::size_t>(j)];
    return l1_ratio == 0.0 || u == 0.0 ? 0.0 : l1_ratio * u * hat_lam;
  }
  double e(Index j, double lam) const;
  bool wants_coef(Index lambda_index) const {
    return keep_coef || (keep_last_coef && lambda_index + 1 == static_cast<Index>(lambda.size()));
  }
  bool excluded(Index j) const { return penalties->excluded[static_cast<std::size_t>(j)] != 0; }
};

/// Fills the derived members. At lambda = 0 every feature without fixed_l2 is unpenalised: engines
/// look at a() and e(), not at `unpenalised`, then.
void finish_problem(const Columns& columns, Problem& problem);

/// yhat minus its projection on the intercept and the unpenalised columns, which lambda_max starts
/// from; 0 where that is rounding: a grid would be all noise.
std::vector<double> unexplained_response(const Columns& columns, const Problem& problem);

/// lambda_max in the user's units, as design section 3 defines it; 0 if no feature is penalised by
/// L1 or no gradient is left. Not for l1_ratio = 0.
double lambda_max(const Columns& columns, const Problem& problem);

/// n values equally spaced in log from `first` to `first * ratio`.
std::vector<double> log_grid(double first, double ratio, Index n);

/// One finished fit, in the user's units.
struct Fit {
  Status status = Status::kNotComputed;
  Engine engine = Engine::kAuto;
  Mode mode = Mode::kAuto;
  bool rank_deficient = false;
  double objective = 0.0;
  double gap = 0.0;  ///< relative
  double deviance = 0.0;
  double intercept = 0.0;
  double train_error = 0.0;     ///< weighted mean squared error on the training rows
  double held_out_error = 0.0;  ///< the same on the held-out rows; NaN without any
  Index iterations = 0;
  std::vector<std::pair<Index, double>> coef;  ///< sorted by feature, no zeros
  std::unique_ptr<double[]> all_coef;          ///< or of every feature, and coef is empty
  Index n_nonzero = 0;  ///< -1: never formed, as many as where the path's coefficients were
  std::vector<double> held_out_prediction;  ///< only if asked for
};

/// Takes the coefficients of p features out of a fit, as pairs.
std::vector<std::pair<Index, double>> take_coef(Fit& fit, Index p);

}  // namespace thresher

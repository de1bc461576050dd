#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "setup/problem.hpp"

namespace thresher {

struct GapTerm;  // gap_term.hpp, shared with the kernels

/// The smallest value over s in [0, s1] of the gap of design section 4, in hat units:
///
///     1/2 |r - q|^2 + (1-s)^2/2 |q|^2 + sum_j [ a|b| + e b^2/2 - s b g + c_j(s) ].
///
/// Features that are left out must have b = 0 and |g| <= a.
double smallest_gap(double half_r_minus_q, double half_q, const std::vector<GapTerm>& terms);

/// A candidate solution in hat units, sorted by feature, no zeros.
using SparseCoef = std::vector<std::pair<Index, double>>;

/// r = yhat - y_mean - sum_j (xhat_j - mean_j) b_j on all rows; with an intercept its weighted mean
/// is then removed (that is the intercept's part).
std::vector<double> residual(const Columns& columns, const Problem& problem,
                             const SparseCoef& coef);

/// Everything a Fit reports, recomputed in double from xhat, yhat and coef: gap over all features,
/// objective, deviance, errors, intercept, coefficients in the user's units. `status` is set to
/// kConverged if gap <= tol, kNumericalBreakdown if something is not finite, else kIterationLimit.
/// A full pass over X: engines with a cheaper proof call finish_fit with their own gap.
/// At lambda = 0 `at_zero` may be what projector_at_zero() gave for the same rows and factors.
Fit certify(const Columns& columns, const Problem& problem, double lambda, const SparseCoef& coef,
            double tol, bool want_prediction, const Projector* at_zero = nullptr);

/// Projects off what is unpenalised at lambda = 0: every feature without a fixed L2 part.
Projector projector_at_zero(const Columns& columns, const Problem& problem);

/// Least squares on the features of a projector; the others get 0.
SparseCoef least_squares(const Columns& columns, const Problem& problem,
                         const Projector& projector);

/// What a Fit takes from the residual, hat units.
struct ResidualSums {
  double loss = 0.0;      ///< sum_i w_i r_i^2
  double held_out = 0.0;  ///< weighted mean of r_i^2 over the held-out rows; NaN without any
};

ResidualSums sums_of_residual(const Problem& problem, const std::vector<double>& r);

/// ResidualSums::held_out of residual_of(k), the residual on the k-th held-out row.
template <class ResidualOf>
double held_out_error(const Problem& problem, const ResidualOf& residual_of) {
  double sum = 0.0, total = 0.0;
  for (std::size_t k = 0; k < problem.held_out.size(); ++k) {
    const double error = residual_of(k);
    const double w = problem.held_out_weight[k];
    if (w > 0.0) sum += w * error * error;
    total += w;
  }
  return total > 0.0 ? sum / total : std::numeric_limits<double>::quiet_NaN();
}

/// The same with the relative gap already known and r as residual() gives it.
Fit finish_fit(const Columns& columns, const Problem& problem, double lambda,
               const SparseCoef& coef, const std::vector<double>& r, double relative_gap,
               double tol, bool want_prediction);

/// What sums alone tell: coefficients, objective and intercept are left out (NaN).
Fit fit_of_sums(const Problem& problem, const ResidualSums& sums, double relative_gap, double tol);

/// Fills Fit::held_out_prediction from r.
void add_predictions(const Problem& problem, const std::vector<double>& r, Fit& fit);

/// finish_fit from sums; no held-out predictions.
Fit finish_fit(const Columns& columns, const Problem& problem, double lambda,
               const SparseCoef& coef, const ResidualSums& sums, double relative_gap, double tol);

}  // namespace thresher

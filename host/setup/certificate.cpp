#include "setup/certificate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "backend/simd.hpp"
#include "gap_term.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// The search for the smallest gap ends this close to it, relatively, or after so many evaluations.
constexpr double kEnoughShare = 1e-3;
constexpr int kMostSteps = 60;

GapAt gap_at(double s, double half_r_minus_q, double half_q, const std::vector<GapTerm>& terms) {
  GapAt out{half_r_minus_q + (1.0 - s) * (1.0 - s) * half_q, -2.0 * (1.0 - s) * half_q};
  for (const GapTerm& t : terms) add_term(t, s, out);
  return out;
}

}  // namespace

double smallest_gap(double half_r_minus_q, double half_q, const std::vector<GapTerm>& terms) {
  double s1 = 1.0;
  for (const GapTerm& t : terms) {
    if (t.e == 0.0 && std::fabs(t.g) > t.a) s1 = std::min(s1, t.a / std::fabs(t.g));
    if (std::isnan(t.g) || std::isnan(t.b)) return std::numeric_limits<double>::quiet_NaN();
  }
  const GapAt end = gap_at(s1, half_r_minus_q, half_q, terms);
  if (!(end.slope > 0.0)) return end.value;
  // The slope rises, piecewise linearly: secants find its zero (Illinois: the slope of an end that
  // stays is halved), and every fourth step halves what is left.
  const GapAt start = gap_at(0.0, half_r_minus_q, half_q, terms);
  double best = std::min(start.value, end.value);
  double low = 0.0, high = s1, low_slope = start.slope, high_slope = end.slope;
  bool from_above = true;
  for (int step = 1; step < kMostSteps && low_slope < 0.0 && low < high; ++step) {
    const double share = step % 4 == 0 ? 0.5 : low_slope / (low_slope - high_slope);
    const double middle = low + share * (high - low);
    const GapAt now = gap_at(middle, half_r_minus_q, half_q, terms);
    best = std::min(best, now.value);
    // A convex function lies above its tangents: nothing in between is much smaller.
    if (std::fabs(now.slope) * (high - low) <= kEnoughShare * best) break;
    const bool above = now.slope > 0.0;
    (above ? high : low) = middle;
    (above ? high_slope : low_slope) = now.slope;
    if (step > 1 && above == from_above) (above ? low_slope : high_slope) *= 0.5;
    from_above = above;
  }
  return best;
}

std::vector<double> residual(const Columns& columns, const Problem& problem,
                             const SparseCoef& coef) {
  const Index n = columns.n_samples();
  const RowWeighting& rows = *problem.rows;
  std::vector<double> r(at(n));
  for (Index i = 0; i < n; ++i) r[at(i)] = problem.y->value[at(i)] - problem.y_mean;
  constexpr std::size_t kColumns = 8;  // centred copies held at a time
  std::vector<double> copies(kColumns * at(n));
  const double* x[kColumns];
  double alpha[kColumns];
  for (std::size_t first = 0; first < coef.size(); first += kColumns) {
    const std::size_t count = std::min(kColumns, coef.size() - first);
    for (std::size_t k = 0; k < count; ++k) {
      double* copy = copies.data() + k * at(n);
      rows.centred_column(columns, coef[first + k].first, copy);
      x[k] = copy;
      alpha[k] = -coef[first + k].second;
    }
    simd().axpys(n, static_cast<Index>(count), alpha, x, r.data());
  }
  if (problem.intercept) {
    double mean = 0.0;
    for (const Index i : rows.rows) mean += rows.weight[at(i)] * r[at(i)];
    for (double& value : r) value -= mean;
  }
  return r;
}

ResidualSums sums_of_residual(const Problem& problem, const std::vector<double>& r) {
  const RowWeighting& rows = *problem.rows;
  ResidualSums out;
  for (const Index i : rows.rows) out.loss += rows.weight[at(i)] * r[at(i)] * r[at(i)];
  out.held_out = held_out_error(problem, [&](std::size_t k) { return r[at(problem.held_out[k])]; });
  return out;
}

Fit finish_fit(const Columns& columns, const Problem& problem, double lambda,
               const SparseCoef& coef, const std::vector<double>& r, double relative_gap,
               double tol, bool want_prediction) {
  Fit fit =
      finish_fit(columns, problem, lambda, coef, sums_of_residual(problem, r), relative_gap, tol);
  if (want_prediction) add_predictions(problem, r, fit);
  return fit;
}

void add_predictions(const Problem& problem, const std::vector<double>& r, Fit& fit) {
  for (const Index i : problem.held_out) {
    fit.held_out_prediction.push_back(
        problem.y->centre + std::ldexp(problem.y->value[at(i)] - r[at(i)], problem.y->exponent));
  }
}

Fit fit_of_sums(const Problem& problem, const ResidualSums& sums, double relative_gap, double tol) {
  const int ky = problem.y->exponent;
  Fit fit;
  fit.objective = fit.intercept = std::numeric_limits<double>::quiet_NaN();
  fit.train_error = std::ldexp(sums.loss, 2 * ky);
  fit.gap = relative_gap;
  fit.deviance = problem.negligible ? 0.0 : 1.0 - 0.5 * sums.loss / problem.null_loss;
  fit.held_out_error = std::ldexp(sums.held_out, 2 * ky);
  fit.status = !(std::isfinite(sums.loss) && std::isfinite(relative_gap))
                   ? Status::kNumericalBreakdown
               : relative_gap <= tol ? Status::kConverged
                                     : Status::kIterationLimit;
  return fit;
}

Fit finish_fit(const Columns& columns, const Problem& problem, double lambda,
               const SparseCoef& coef, const ResidualSums& sums, double relative_gap, double tol) {
  const RowWeighting& rows = *problem.rows;
  const int ky = problem.y->exponent;
  Fit fit = fit_of_sums(problem, sums, relative_gap, tol);
  double penalty = 0.0;
  bool finite = true;
  double shift = 0.0;  // what the centred columns hide from the intercept, in units of y
  fit.coef.reserve(coef.size());
  for (const auto& [j, b] : coef) {
    penalty += problem.a(j, lambda) * std::fabs(b) + 0.5 * problem.e(j, lambda) * b * b;
    const double given = std::ldexp(b, ky - columns.exponent(j));
    finite = finite && std::isfinite(given);
    if (given != 0.0) fit.coef.emplace_back(j, given);
    shift += given * columns.mean(j);
  }
  fit.n_nonzero = static_cast<Index>(fit.coef.size());
  fit.objective = std::ldexp(0.5 * sums.loss + penalty, 2 * ky);
  fit.intercept = 0.0;
  if (problem.intercept) {
    // b0 makes the weighted mean residual 0: in hat units mean(yhat) - sum mean_j b_j.
    double hat = problem.y_mean;
    for (const auto& [j, b] : coef) hat -= rows.centring(columns, j) * b;
    fit.intercept = problem.y->centre + std::ldexp(hat, ky) - shift;
    finite = finite && std::isfinite(fit.intercept);
  }
  if (!finite || !std::isfinite(fit.objective)) fit.status = Status::kNumericalBreakdown;
  return fit;
}

Projector projector_at_zero(const Columns& columns, const Problem& problem) {
  std::vector<Index> free;
  for (Index j = 0; j < columns.n_features(); ++j) {
    if (!problem.excluded(j) && problem.e(j, 0.0) == 0.0) free.push_back(j);
  }
  return Projector(columns, *problem.rows, problem.intercept, free);
}

SparseCoef least_squares(const Columns& columns, const Problem& problem,
                         const Projector& projector) {
  constexpr int kSteps = 3;  // the first, and refinements
  const Index n = columns.n_samples(), rank = projector.rank();
  const RowWeighting& rows = *problem.rows;
  const std::vector<Index>& features = projector.features();
  const auto off_basis = [&](Index k, const double* x) {
    const double* q = projector.basis().data() + k * n;
    double sum = 0.0;
    for (const Index i : rows.rows) sum += rows.weight[at(i)] * q[at(i)] * x[i];
    return sum;
  };
  // X = Q R on these features. Q has mean 0 with an intercept, so that x need not be centred.
  std::vector<double> R(at(rank * rank), 0.0), b(at(rank), 0.0), step(at(rank));
  for (Index l = 0; l < rank; ++l) {
    const double* x = rows.column(columns, features[at(l)]);
    for (Index k = 0; k <= l; ++k) R[at(l * rank + k)] = off_basis(k, x);
  }
  SparseCoef coef;
  for (int round = 0; round < kSteps; ++round) {
    const std::vector<double> r = residual(columns, problem, coef);
    for (Index k = rank - 1; k >= 0; --k) {
      double c = off_basis(k, r.data());
      for (Index l = k + 1; l < rank; ++l) c -= R[at(l * rank + k)] * step[at(l)];
      step[at(k)] = c / R[at(k * rank + k)];
    }
    for (Index k = 0; k < rank; ++k) b[at(k)] += step[at(k)];
    coef.clear();
    for (Index k = 0; k < rank; ++k) {
      if (b[at(k)] != 0.0) coef.emplace_back(features[at(k)], b[at(k)]);
    }
  }
  return coef;
}

Fit certify(const Columns& columns, const Problem& problem, double lambda, const SparseCoef& coef,
            double tol, bool want_prediction, const Projector* at_zero) {
  const Index n = columns.n_samples();
  const RowWeighting& rows = *problem.rows;
  const std::vector<double> r = residual(columns, problem, coef);
  if (problem.negligible) {
    return finish_fit(columns, problem, lambda, coef, r, 0.0, tol, want_prediction);
  }
  const Projector* projector = problem.projector.get();
  std::optional<Projector> own;
  if (lambda == 0.0) {
    projector = at_zero != nullptr ? at_zero : &own.emplace(projector_at_zero(columns, problem));
  }

  std::vector<double> q(at(n), 0.0);
  for (const Index i : rows.rows) q[at(i)] = r[at(i)];
  if (projector) projector->project(rows, q);
  double half_q = 0.0, half_rq = 0.0;
  std::vector<double> z(at(n), 0.0);
  for (const Index i : rows.rows) {
    const double w = rows.weight[at(i)];
    z[at(i)] = w * q[at(i)];
    half_q += 0.5 * z[at(i)] * q[at(i)];
    const double d = r[at(i)] - q[at(i)];
    half_rq += 0.5 * w * d * d;
  }

  std::vector<GapTerm> terms;
  auto next = coef.begin();
  for (Index j = 0; j < columns.n_features(); ++j) {
    double b = 0.0;
    if (next != coef.end() && next->first == j) b = (next++)->second;
    if (problem.excluded(j)) continue;
    const double a = problem.a(j, lambda);
    const double e = problem.e(j, lambda);
    if (a == 0.0 && e == 0.0) continue;
    const double g = simd().dot(n, rows.column(columns, j), z.data());
    if (b != 0.0 || !(std::fabs(g) <= a)) terms.push_back({a, e, b, g});
  }
  const double gap = smallest_gap(half_rq, half_q, terms) / problem.null_loss;
  return finish_fit(columns, problem, lambda, coef, r, gap, tol, want_prediction);
}

}  // namespace thresher

#include "setup/problem.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double factor(std::span<const double> given, Index j, double otherwise) {
  return given.empty() ? otherwise : given[at(j)];
}

}  // namespace

std::shared_ptr<const Penalties> make_penalties(const Data& data, const Options& options,
                                                const Columns& columns, const RowWeighting& rows) {
  const Index p = columns.n_features();
  auto out = std::make_shared<Penalties>();
  out->l1.assign(at(p), 0.0);
  out->l2.assign(at(p), 0.0);
  out->fixed_l2.assign(at(p), 0.0);
  out->excluded.assign(at(p), 0);
  const double dropout = options.dropout_rate / (1.0 - options.dropout_rate);
  for (Index j = 0; j < p; ++j) {
    const double u = factor(data.l1_factor, j, 1.0);
    const double v = factor(data.l2_factor, j, 1.0);
    // A constant column cannot be told from the intercept: it stays out.
    const bool constant = rows.constant[at(j)] && (options.intercept || options.standardize);
    if (std::isinf(u) || std::isinf(v) || constant) {
      out->excluded[at(j)] = 1;
      continue;
    }
    const int k = columns.exponent(j);
    if (options.standardize) {
      const double variance = rows.variance[at(j)];
      out->l1[at(j)] = u * std::sqrt(variance);
      out->l2[at(j)] = v * variance;
    } else {
      out->l1[at(j)] = std::ldexp(u, -k);
      out->l2[at(j)] = std::ldexp(v, -2 * k);
    }
    out->fixed_l2[at(j)] = std::ldexp(factor(data.fixed_l2, j, 0.0), -2 * k);
    if (dropout > 0.0) {
      // sum_i w_i x_ij^2 of X as given: the spread about the mean plus the mean squared.
      double moment = rows.second_moment[at(j)];
      if (columns.centred()) {
        const Index direct = rows.direct_index(j);
        double mean = std::ldexp(columns.mean(j), -k);
        if (direct < 0) {
          mean += rows.mean[at(j)];
        } else {
          mean = 0.0;
          for (const Index i : rows.rows) {
            mean += rows.weight[at(i)] * std::ldexp(element(columns.source(), i, j), -k);
          }
        }
        moment = rows.variance[at(j)] + mean * mean;
      }
      out->fixed_l2[at(j)] += dropout * moment;
    }
    if (out->l1[at(j)] == 0.0) out->any_zero_l1 = true;
    if (out->l2[at(j)] == 0.0) out->any_zero_l2 = true;
  }
  return out;
}

Response make_response(const std::vector<double>& y, const std::vector<double>& base_weight,
                       bool intercept) {
  Response out;
  const std::size_t n = y.size();
  double count = 0.0;
  for (const double w : base_weight) count += w > 0.0 ? 1.0 : 0.0;
  if (intercept && count > 0.0) {
    double mean = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      if (base_weight[i] > 0.0) mean += y[i] / count;
    }
    double left = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      if (base_weight[i] > 0.0) left += (y[i] - mean) / count;
    }
    out.centre = mean + left;
  }
  double largest = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    if (base_weight[i] > 0.0) largest = std::max(largest, std::fabs(y[i] - out.centre));
  }
  if (largest > 0.0) std::frexp(largest, &out.exponent);
  out.value.assign(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    if (base_weight[i] > 0.0) out.value[i] = std::ldexp(y[i] - out.centre, -out.exponent);
  }
  return out;
}

Projector::Projector(const Columns& columns, const RowWeighting& rows, bool intercept,
                     const std::vector<Index>& features)
    : n_(columns.n_samples()) {
  // Gram-Schmidt, twice for each column; a column that loses all but 1e-10 of its length adds
  // nothing new.
  const double* w = rows.weight.data();
  for (const Index j : features) {
    const double* x = rows.column(columns, j);
    const double mean = intercept ? rows.column_mean(j) : 0.0;
    std::vector<double> v(at(n_));
    double before = 0.0;
    for (Index i = 0; i < n_; ++i) {
      v[at(i)] = w[i] > 0.0 ? x[i] - mean : 0.0;
      before += w[i] * v[at(i)] * v[at(i)];
    }
    if (!(before > 0.0)) continue;
    for (int pass = 0; pass < 2; ++pass) {
      for (Index k = 0; k < rank_; ++k) {
        const double* q = basis_.data() + k * n_;
        double c = 0.0;
        for (Index i = 0; i < n_; ++i) c += w[i] * q[i] * v[at(i)];
        for (Index i = 0; i < n_; ++i) v[at(i)] -= c * q[i];
      }
    }
    double after = 0.0;
    for (Index i = 0; i < n_; ++i) after += w[i] * v[at(i)] * v[at(i)];
    if (after <= 1e-20 * before) continue;
    const double scale = 1.0 / std::sqrt(after);
    for (double& value : v) value *= scale;
    basis_.insert(basis_.end(), v.begin(), v.end());
    features_.push_back(j);
    ++rank_;
  }
}

void Projector::project(const RowWeighting& rows, std::vector<double>& r) const {
  const double* w = rows.weight.data();
  for (int pass = 0; pass < 2; ++pass) {
    for (Index k = 0; k < rank_; ++k) {
      const double* q = basis_.data() + k * n_;
      double c = 0.0;
      for (Index i = 0; i < n_; ++i) c += w[i] * q[i] * r[at(i)];
      for (Index i = 0; i < n_; ++i) r[at(i)] -= c * q[i];
    }
  }
}

double Problem::e(Index j, double lam) const {
  const double ridge = l1_ratio == 1.0 ? 0.0 : (1.0 - l1_ratio) * lam * penalties->l2[at(j)];
  return ridge + penalties->fixed_l2[at(j)];
}

void finish_problem(const Columns& columns, Problem& problem) {
  const RowWeighting& rows = *problem.rows;
  const double* w = rows.weight.data();
  const double* y = problem.y->value.data();
  double mean = 0.0;
  if (problem.intercept) {
    for (const Index i : rows.rows) mean += w[i] * y[i];
  }
  problem.y_mean = mean;
  double loss = 0.0, moment = 0.0;
  const double centre = std::ldexp(problem.y->centre, -problem.y->exponent);
  for (const Index i : rows.rows) {
    const double d = y[i] - mean;
    loss += w[i] * d * d;
    const double given = y[i] + centre;
    moment += w[i] * given * given;
  }
  problem.null_loss = 0.5 * loss;
  const double noise = static_cast<double>(rows.rows.size()) * kEps;
  problem.negligible = !(problem.null_loss > noise * noise * 0.5 * moment);

  problem.unpenalised.clear();
  if (problem.l1_ratio == 0.0 ? problem.penalties->any_zero_l2 : problem.penalties->any_zero_l1) {
    const Penalties& factors = *problem.penalties;
    for (Index j = 0; j < columns.n_features(); ++j) {
      if (factors.excluded[at(j)]) continue;
      const bool no_l1 = problem.l1_ratio == 0.0 || factors.l1[at(j)] == 0.0;
      const bool no_l2 = problem.l1_ratio == 1.0 || factors.l2[at(j)] == 0.0;
      if (no_l1 && no_l2 && factors.fixed_l2[at(j)] == 0.0) problem.unpenalised.push_back(j);
    }
  }
  problem.projector = nullptr;
  if (!problem.unpenalised.empty()) {
    auto projector =
        std::make_shared<Projector>(columns, rows, problem.intercept, problem.unpenalised);
    if (!projector->empty()) problem.projector = projector;
  }
}

std::vector<double> unexplained_response(const Columns& columns, const Problem& problem) {
  const RowWeighting& rows = *problem.rows;
  const Index n = columns.n_samples();
  std::vector<double> q(at(n), 0.0);
  for (const Index i : rows.rows) q[at(i)] = problem.y->value[at(i)] - problem.y_mean;
  if (!problem.projector) return q;
  problem.projector->project(rows, q);
  double squares = 0.0;
  for (const Index i : rows.rows) squares += rows.weight[at(i)] * q[at(i)] * q[at(i)];
  const double rounding =
      64.0 * static_cast<double>(n + 16) * std::numeric_limits<double>::epsilon();
  if (squares <= rounding * rounding * 2.0 * problem.null_loss) std::fill(q.begin(), q.end(), 0.0);
  return q;
}

double lambda_max(const Columns& columns, const Problem& problem) {
  const RowWeighting& rows = *problem.rows;
  const Index n = columns.n_samples();
  std::vector<double> q = unexplained_response(columns, problem);
  for (Index i = 0; i < n; ++i) q[at(i)] *= rows.weight[at(i)];
  if (problem.negligible) return 0.0;
  double largest = 0.0;
  const Penalties& factors = *problem.penalties;
  constexpr Index kAtOnce = 64;
  Index features[kAtOnce];
  double g[kAtOnce];
  for (Index first = 0; first < columns.n_features(); first += kAtOnce) {
    const Index count = std::min(kAtOnce, columns.n_features() - first);
    std::iota(features, features + count, first);
    rows.dots(columns, {features, static_cast<std::size_t>(count)}, q.data(), g);
    for (Index k = 0; k < count; ++k) {
      const Index j = first + k;
      if (factors.excluded[at(j)] || factors.l1[at(j)] == 0.0) continue;
      largest = std::max(largest, std::fabs(g[k]) / (problem.l1_ratio * factors.l1[at(j)]));
    }
  }
  return std::ldexp(largest, problem.y->exponent);
}

std::vector<double> log_grid(double first, double ratio, Index n) {
  std::vector<double> out(at(n), first);
  for (Index l = 1; l < n; ++l) {
    out[at(l)] = first * std::pow(ratio, static_cast<double>(l) / static_cast<double>(n - 1));
  }
  return out;
}

std::vector<std::pair<Index, double>> take_coef(Fit& fit, Index p) {
  if (!fit.all_coef) return std::move(fit.coef);
  std::vector<std::pair<Index, double>> out;
  out.reserve(at(p));
  for (Index j = 0; j < p; ++j) {
    if (fit.all_coef[at(j)] != 0.0) out.emplace_back(j, fit.all_coef[at(j)]);
  }
  fit.all_coef.reset();
  return out;
}

}  // namespace thresher

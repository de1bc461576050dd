#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "engines/engine.hpp"
#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/run_control.hpp"
#include "setup/thread_pool.hpp"

namespace thresher::testing_ridge {

/// What solve() hands to the engine; null: the CPU. A fixture may set it for the time of a test.
inline Accelerator* accelerator = nullptr;

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Everything a ridge run needs, in the user's units; column-major.
struct Case {
  Index n = 0, p = 0, n_responses = 1;
  std::vector<double> X, Y;
  std::vector<double> weight, v, d;  // empty: defaults
  bool intercept = true, standardize = false;
  double dropout = 0.0;
  double l1_ratio = 0.0;
  std::vector<double> lambda;
  std::vector<Index> fold;  // empty: no cross-validation

  double x(Index i, Index j) const { return X[at(j * n + i)]; }
  double y(Index i, Index r) const { return Y[at(r * n + i)]; }
  double w(Index i) const { return weight.empty() ? 1.0 : weight[at(i)]; }
};

inline Case random_case(Index n, Index p, Index n_responses, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Case out;
  out.n = n;
  out.p = p;
  out.n_responses = n_responses;
  out.X.resize(at(n * p));
  out.Y.resize(at(n * n_responses));
  for (Index i = 0; i < n; ++i) {
    double last = normal(engine);
    for (Index j = 0; j < p; ++j) {
      last = 0.5 * last + normal(engine);
      out.X[at(j * n + i)] = last * (1.0 + 0.3 * static_cast<double>(j % 5)) + 3.0;
    }
    for (Index r = 0; r < n_responses; ++r) {
      double sum = normal(engine) + 5.0;
      for (Index j = 0; j < std::min<Index>(p, 4); ++j) {
        sum += (j % 2 == 0 ? 0.8 : -0.6) * out.x(i, j) * static_cast<double>(r + 1);
      }
      out.Y[at(r * n + i)] = sum;
    }
  }
  return out;
}

/// Fits by (fold + 1, response, lambda).
struct Answers : FitSink {
  Index n_features = 0;
  std::vector<std::vector<Fit>> fits;
  std::vector<Index> next;  // ascending lambda index, one problem at a time
  bool in_order = true;
  Index stop_after = -1;  // take() says stop after this lambda index

  Answers(std::size_t n_problems, std::size_t n_lambdas, Index p)
      : n_features(p), fits(n_problems), next(n_problems, 0) {
    for (std::vector<Fit>& path : fits) path.resize(n_lambdas);
  }

  bool take(Index problem, Index lambda_index, Fit&& fit) override {
    if (next[at(problem)] != lambda_index) in_order = false;
    next[at(problem)] = lambda_index + 1;
    fit.coef = take_coef(fit, n_features);
    fits[at(problem)][at(lambda_index)] = std::move(fit);
    return stop_after < 0 || lambda_index < stop_after;
  }
};

struct Solved {
  std::vector<Problem> problems;
  Answers answers;
  Index n_responses;
  const Fit& fit(Index fold, Index response, Index l) const {
    return answers.fits[at((fold + 1) * n_responses + response)][at(l)];
  }
};

struct Stage {
  Data data;
  Options options;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Columns> columns;
  std::vector<Problem> problems;
};

inline Stage set_up(const Case& c, int threads) {
  Stage s;
  s.data.X = MatrixView<const double>::column_major(c.X.data(), c.n, c.p);
  s.data.Y = MatrixView<const double>::column_major(c.Y.data(), c.n, c.n_responses);
  s.data.sample_weight = c.weight;
  s.data.l2_factor = c.v;
  s.data.fixed_l2 = c.d;
  s.options.intercept = c.intercept;
  s.options.standardize = c.standardize;
  s.options.dropout_rate = c.dropout;
  s.pool = std::make_unique<ThreadPool>(threads);
  std::vector<double> base(at(c.n));
  std::vector<std::uint8_t> counts(at(c.n));
  bool all = true;
  for (Index i = 0; i < c.n; ++i) {
    base[at(i)] = c.w(i);
    counts[at(i)] = base[at(i)] > 0.0 ? 1 : 0;
    all = all && base[at(i)] > 0.0;
  }
  if (all) counts.clear();
  s.columns = std::make_unique<Columns>(s.data.X, c.intercept, counts, *s.pool);

  Index n_folds = 0;
  for (const Index f : c.fold) n_folds = std::max(n_folds, f + 1);
  std::vector<std::vector<double>> weights{base};
  for (Index f = 0; f < n_folds; ++f) {
    weights.push_back(base);
    for (Index i = 0; i < c.n; ++i) {
      if (c.fold[at(i)] == f) weights.back()[at(i)] = 0.0;
    }
  }
  const auto rows = make_row_weightings(*s.columns, weights, *s.pool);
  std::vector<std::shared_ptr<const Response>> responses;
  for (Index r = 0; r < c.n_responses; ++r) {
    const std::vector<double> y(c.Y.begin() + r * c.n, c.Y.begin() + (r + 1) * c.n);
    responses.push_back(std::make_shared<Response>(make_response(y, base, c.intercept)));
  }
  for (Index f = -1; f < n_folds; ++f) {
    const auto& weighting = rows[at(f + 1)];
    const auto penalties = make_penalties(s.data, s.options, *s.columns, *weighting);
    for (Index r = 0; r < c.n_responses; ++r) {
      Problem one;
      one.response = r;
      one.fold = f;
      one.l1_ratio = c.l1_ratio;
      one.intercept = c.intercept;
      one.rows = weighting;
      one.penalties = penalties;
      one.y = responses[at(r)];
      one.lambda = c.lambda;
      for (Index i = 0; f >= 0 && i < c.n; ++i) {
        if (c.fold[at(i)] != f) continue;
        one.held_out.push_back(i);
        one.held_out_weight.push_back(base[at(i)]);
      }
      finish_problem(*s.columns, one);
      s.problems.push_back(std::move(one));
    }
  }
  return s;
}

inline Solved solve(const Case& c, int threads = 1, double tol = 1e-7, Index stop_after = -1) {
  Stage s = set_up(c, threads);
  Solved out{s.problems, Answers(s.problems.size(), c.lambda.size(), c.p), c.n_responses};
  out.answers.stop_after = stop_after;
  RunControl control(s.options, tol, nullptr);
  const Batch batch{*s.columns, s.problems, s.options, true, nullptr, accelerator};
  solve_ridge(batch, *s.pool, control, out.answers);
  return out;
}

using Real = long double;

/// The answer by elimination with full pivoting on the normal equations, in long double and in the
/// user's units. `weight` as given (rescaled here); l2[j] = the whole e_j; infinite: left out.
struct Exact {
  std::vector<Real> coef;
  Real intercept = 0.0L;
  Real objective = 0.0L;
  Real fitted(const Case& c, Index i) const {
    Real sum = intercept;
    for (Index j = 0; j < c.p; ++j) sum += coef[at(j)] * static_cast<Real>(c.x(i, j));
    return sum;
  }
};

inline Exact exact_ridge(const Case& c, Index response, const std::vector<double>& weight,
                         const std::vector<Real>& e) {
  Real total = 0.0L;
  for (const double w : weight) total += w;
  std::vector<Real> w(weight.begin(), weight.end());
  for (Real& value : w) value /= total;
  // Means first: centred, the normal equations lose nothing.
  std::vector<Real> mean(at(c.p), 0.0L);
  Real y_mean = 0.0L;
  if (c.intercept) {
    for (Index i = 0; i < c.n; ++i) {
      y_mean += w[at(i)] * c.y(i, response);
      for (Index j = 0; j < c.p; ++j) mean[at(j)] += w[at(i)] * static_cast<Real>(c.x(i, j));
    }
  }
  const Index p = c.p;
  std::vector<Real> A(at(p * (p + 1)), 0.0L);  // row-major, last column the right side
  const auto a = [&](Index i, Index j) -> Real& { return A[at(i * (p + 1) + j)]; };
  for (Index i = 0; i < c.n; ++i) {
    for (Index j = 0; j < p; ++j) {
      const Real xj = w[at(i)] * (c.x(i, j) - mean[at(j)]);
      for (Index k = 0; k < p; ++k) a(j, k) += xj * (c.x(i, k) - mean[at(k)]);
      a(j, p) += xj * (c.y(i, response) - y_mean);
    }
  }
  std::vector<std::uint8_t> used(at(p), 0);
  for (Index j = 0; j < p; ++j) {
    if (std::isinf(e[at(j)])) {
      used[at(j)] = 1;
    } else {
      a(j, j) += e[at(j)];
    }
  }
  const std::vector<std::uint8_t> left_out = used;
  for (Index step = 0; step < p; ++step) {  // Gauss-Jordan, largest diagonal first (A is >= 0)
    Index pivot = -1;
    for (Index j = 0; j < p; ++j) {
      if (!used[at(j)] && (pivot < 0 || a(j, j) > a(pivot, pivot))) pivot = j;
    }
    if (pivot < 0) break;
    used[at(pivot)] = 1;
    for (Index i = 0; i < p; ++i) {
      if (i == pivot || left_out[at(i)]) continue;
      const Real f = a(i, pivot) / a(pivot, pivot);
      for (Index k = 0; k <= p; ++k) a(i, k) -= f * a(pivot, k);
    }
  }
  Exact out;
  out.coef.assign(at(p), 0.0L);
  out.intercept = y_mean;
  for (Index j = 0; j < p; ++j) {
    if (left_out[at(j)]) continue;
    out.coef[at(j)] = a(j, p) / a(j, j);
    out.intercept -= out.coef[at(j)] * mean[at(j)];
    out.objective += 0.5L * e[at(j)] * out.coef[at(j)] * out.coef[at(j)];
  }
  for (Index i = 0; i < c.n; ++i) {
    const Real r = c.y(i, response) - out.fitted(c, i);
    out.objective += 0.5L * w[at(i)] * r * r;
  }
  return out;
}

inline std::vector<double> all_weights(const Case& c) {
  std::vector<double> w(at(c.n));
  for (Index i = 0; i < c.n; ++i) w[at(i)] = c.w(i);
  return w;
}

/// e_j = lambda v_j + d_j of a case, with standardize and dropout worked out by hand under
/// `weight`.
inline std::vector<Real> penalty_of(const Case& c, double lambda,
                                    const std::vector<double>& weight) {
  Real total = 0.0L;
  for (const double w : weight) total += w;
  std::vector<Real> e(at(c.p));
  for (Index j = 0; j < c.p; ++j) {
    Real mean = 0.0L, second = 0.0L, variance = 0.0L;
    for (Index i = 0; i < c.n; ++i) {
      mean += weight[at(i)] / total * c.x(i, j);
      second += weight[at(i)] / total * c.x(i, j) * c.x(i, j);
    }
    for (Index i = 0; i < c.n; ++i) {
      variance += weight[at(i)] / total * (c.x(i, j) - mean) * (c.x(i, j) - mean);
    }
    Real v = c.v.empty() ? 1.0 : c.v[at(j)];
    if (c.standardize) v *= variance;
    Real d = c.d.empty() ? 0.0 : c.d[at(j)];
    d += c.dropout / (1.0 - c.dropout) * second;
    e[at(j)] = std::isinf(v) ? v : lambda * v + d;
  }
  return e;
}

inline double null_loss(const Case& c, Index response, const std::vector<double>& weight) {
  Real total = 0.0L, mean = 0.0L, sum = 0.0L;
  for (const double w : weight) total += w;
  for (Index i = 0; c.intercept && i < c.n; ++i) mean += weight[at(i)] / total * c.y(i, response);
  for (Index i = 0; i < c.n; ++i) {
    const Real r = c.y(i, response) - mean;
    sum += 0.5L * weight[at(i)] / total * r * r;
  }
  return static_cast<double>(sum);
}

}  // namespace thresher::testing_ridge

#include "relations/oracle.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <utility>

namespace thresher::oracle {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Weighted Gram-Schmidt on the constant and the unpenalised columns, done twice.
class Projection {
 public:
  explicit Projection(const Problem& problem) : problem_(problem) {
    if (problem.intercept) add(std::vector<Real>(at(problem.n), 1));
    for (Index j = 0; j < problem.p; ++j) {
      if (!problem.unpenalised(j)) continue;
      std::vector<Real> column;
      for (Index i = 0; i < problem.n; ++i) column.push_back(problem.x(i, j));
      add(std::move(column));
    }
  }

  std::vector<Real> off(std::vector<Real> z) const {
    for (int pass = 0; pass < 2; ++pass) {
      for (const std::vector<Real>& basis : basis_) {
        const Real share = dot(z, basis);
        for (Index i = 0; i < problem_.n; ++i) z[at(i)] -= share * basis[at(i)];
      }
    }
    return z;
  }

  Real dot(const std::vector<Real>& z, const std::vector<Real>& t) const {
    Real sum = 0;
    for (Index i = 0; i < problem_.n; ++i) {
      if (problem_.w[at(i)] > 0) sum += problem_.w[at(i)] * z[at(i)] * t[at(i)];
    }
    return sum;
  }

 private:
  void add(std::vector<Real> column) {
    const Real before = std::sqrt(dot(column, column));
    std::vector<Real> rest = off(std::move(column));
    const Real after = std::sqrt(dot(rest, rest));
    if (!(after > 1e-15L * before)) return;
    for (Real& value : rest) value /= after;
    basis_.push_back(std::move(rest));
  }

  const Problem& problem_;
  std::vector<std::vector<Real>> basis_;
};

Real column_dot(const Problem& problem, Index j, const std::vector<Real>& z) {
  Real sum = 0;
  for (Index i = 0; i < problem.n; ++i) {
    if (problem.w[at(i)] > 0) sum += problem.w[at(i)] * problem.x(i, j) * z[at(i)];
  }
  return sum;
}

}  // namespace

Real Problem::a(Index j) const { return lambda * l1_ratio * u[at(j)]; }

Real Problem::e(Index j) const { return lambda * (1 - l1_ratio) * v[at(j)] + d[at(j)]; }

bool Problem::unpenalised(Index j) const { return !excluded[at(j)] && a(j) == 0 && e(j) == 0; }

std::vector<Real> residual(const Problem& problem, const Solution& solution) {
  std::vector<Real> r(at(problem.n));
  for (Index i = 0; i < problem.n; ++i) {
    r[at(i)] = problem.y[at(i)] - solution.intercept;
    for (Index j = 0; j < problem.p; ++j) {
      if (solution.coef[at(j)] != 0) r[at(i)] -= problem.x(i, j) * solution.coef[at(j)];
    }
  }
  return r;
}

Real loss(const Problem& problem, const Solution& solution) {
  const std::vector<Real> r = residual(problem, solution);
  Real sum = 0;
  for (Index i = 0; i < problem.n; ++i) {
    if (problem.w[at(i)] > 0) sum += problem.w[at(i)] * r[at(i)] * r[at(i)] / 2;
  }
  for (Index j = 0; j < problem.p; ++j) {
    const Real b = solution.coef[at(j)];
    if (b != 0) sum += problem.d[at(j)] * b * b / 2;
  }
  return sum;
}

Real penalty(const Problem& problem, const Solution& solution) {
  Real sum = 0;
  for (Index j = 0; j < problem.p; ++j) {
    const Real b = solution.coef[at(j)];
    if (b == 0) continue;
    sum += problem.l1_ratio * problem.u[at(j)] * std::fabs(b) +
           (1 - problem.l1_ratio) / 2 * problem.v[at(j)] * b * b;
  }
  return sum;
}

Real objective(const Problem& problem, const Solution& solution) {
  return loss(problem, solution) + problem.lambda * penalty(problem, solution);
}

Real null_loss(const Problem& problem) {
  Real mean = 0;
  for (Index i = 0; i < problem.n; ++i) {
    if (problem.intercept && problem.w[at(i)] > 0) mean += problem.w[at(i)] * problem.y[at(i)];
  }
  Real sum = 0;
  for (Index i = 0; i < problem.n; ++i) {
    if (problem.w[at(i)] > 0) {
      sum += problem.w[at(i)] * (problem.y[at(i)] - mean) * (problem.y[at(i)] - mean) / 2;
    }
  }
  return sum;
}

Real relative_gap(const Problem& problem, const Solution& solution) {
  const Projection projection(problem);
  const std::vector<Real> r = residual(problem, solution);
  const std::vector<Real> q = projection.off(r);
  std::vector<Real> removed(at(problem.n));
  for (Index i = 0; i < problem.n; ++i) removed[at(i)] = r[at(i)] - q[at(i)];
  const Real half_removed = projection.dot(removed, removed) / 2;
  const Real half_q = projection.dot(q, q) / 2;

  Real s1 = 1;
  std::vector<Real> g(at(problem.p), 0);
  std::vector<Index> penalised;
  for (Index j = 0; j < problem.p; ++j) {
    if (problem.excluded[at(j)] || problem.unpenalised(j)) continue;
    penalised.push_back(j);
    g[at(j)] = column_dot(problem, j, q);
    if (problem.e(j) == 0 && g[at(j)] != 0) {
      s1 = std::min(s1, problem.a(j) / std::fabs(g[at(j)]));
    }
  }
  auto gap = [&](Real s) {
    Real sum = half_removed + (1 - s) * (1 - s) * half_q;
    for (Index j : penalised) {
      const Real b = solution.coef[at(j)];
      const Real a = problem.a(j);
      const Real e = problem.e(j);
      sum += a * std::fabs(b) + e * b * b / 2 - s * b * g[at(j)];
      const Real over = std::max(s * std::fabs(g[at(j)]) - a, Real(0));
      if (e > 0) sum += over * over / (2 * e);
    }
    return sum;
  };
  // gap is convex in s: thirds (the library bisects its derivative).
  Real low = 0;
  Real high = s1;
  Real least = std::min(gap(low), gap(high));
  for (int k = 0; k < 120; ++k) {
    const Real left = low + (high - low) / 3;
    const Real right = high - (high - low) / 3;
    const Real at_left = gap(left);
    const Real at_right = gap(right);
    least = std::min({least, at_left, at_right});
    (at_left < at_right ? high : low) = at_left < at_right ? right : left;
  }
  const Real scale = null_loss(problem);
  return scale > 0 ? least / scale : least;
}

Real kkt_violation(const Problem& problem, const Solution& solution) {
  const std::vector<Real> r = residual(problem, solution);
  Real worst = 0;
  if (problem.intercept) {
    Real mean = 0;
    for (Index i = 0; i < problem.n; ++i) {
      if (problem.w[at(i)] > 0) mean += problem.w[at(i)] * r[at(i)];
    }
    worst = std::fabs(mean);
  }
  for (Index j = 0; j < problem.p; ++j) {
    const Real b = solution.coef[at(j)];
    if (problem.excluded[at(j)]) {
      if (b != 0) return INFINITY;
      continue;
    }
    const Moments m = moments(problem, j);
    const Real norm = problem.intercept ? m.sd : std::sqrt(m.second);
    if (!(norm > 0)) continue;
    const Real slope = column_dot(problem, j, r) - problem.e(j) * b;
    const Real distance = b != 0 ? std::fabs(slope - std::copysign(problem.a(j), b))
                                 : std::max(std::fabs(slope) - problem.a(j), Real(0));
    Real violation = distance / norm;
    if (b != 0) violation = std::min(violation, std::sqrt(std::fabs(b) * distance));
    worst = std::max(worst, violation);
  }
  return worst;
}

Real lambda_max(const Problem& problem) {
  Problem at_one = problem;
  at_one.lambda = 1;
  const Projection projection(at_one);
  const std::vector<Real> q = projection.off(problem.y);
  Real largest = 0;
  for (Index j = 0; j < problem.p; ++j) {
    if (problem.excluded[at(j)] || !(at_one.a(j) > 0)) continue;
    largest = std::max(largest, std::fabs(column_dot(problem, j, q)) / at_one.a(j));
  }
  return largest;
}

Moments moments(const Problem& problem, Index j) {
  Moments m;
  for (Index i = 0; i < problem.n; ++i) {
    if (!(problem.w[at(i)] > 0)) continue;
    m.mean += problem.w[at(i)] * problem.x(i, j);
    m.second += problem.w[at(i)] * problem.x(i, j) * problem.x(i, j);
    m.largest = std::max(m.largest, std::fabs(problem.x(i, j)));
  }
  for (Index i = 0; i < problem.n; ++i) {
    if (!(problem.w[at(i)] > 0)) continue;
    const Real deviation = problem.x(i, j) - m.mean;
    m.sd += problem.w[at(i)] * deviation * deviation;
  }
  m.sd = std::sqrt(m.sd);
  return m;
}

Solution solve(const Problem& problem, Real tol) {
  Solution out;
  out.coef.assign(at(problem.p), 0);
  for (int sweep = 0; sweep < 200'000; ++sweep) {
    std::vector<Real> r = residual(problem, out);
    if (problem.intercept) {
      Real mean = 0;
      for (Index i = 0; i < problem.n; ++i) {
        if (problem.w[at(i)] > 0) mean += problem.w[at(i)] * r[at(i)];
      }
      out.intercept += mean;
      for (Real& value : r) value -= mean;
    }
    if (sweep % 10 == 0 && relative_gap(problem, out) <= tol) return out;
    for (Index j = 0; j < problem.p; ++j) {
      if (problem.excluded[at(j)]) continue;
      const Moments m = moments(problem, j);
      // The intercept follows every move, so the centred column counts.
      const Real shift = problem.intercept ? m.mean : 0;
      const Real curvature = problem.intercept ? m.sd * m.sd : m.second;
      if (!(curvature + problem.e(j) > 0) || m.sd <= 1e-15L * m.largest * problem.intercept) {
        continue;
      }
      Real g = 0;
      for (Index i = 0; i < problem.n; ++i) {
        if (problem.w[at(i)] > 0) g += problem.w[at(i)] * (problem.x(i, j) - shift) * r[at(i)];
      }
      const Real z = g + curvature * out.coef[at(j)];
      const Real over = std::max(std::fabs(z) - problem.a(j), Real(0));
      const Real next = std::copysign(over, z) / (curvature + problem.e(j));
      const Real change = next - out.coef[at(j)];
      out.coef[at(j)] = next;
      out.intercept -= change * shift;
      for (Index i = 0; i < problem.n; ++i) r[at(i)] -= change * (problem.x(i, j) - shift);
    }
  }
  throw std::runtime_error("oracle::solve: too slow for this problem");
}

Solution solve_ridge(const Problem& problem) {
  std::vector<Index> kept;
  std::vector<Moments> m(at(problem.p));
  for (Index j = 0; j < problem.p; ++j) {
    m[at(j)] = moments(problem, j);
    if (!problem.intercept) m[at(j)].mean = 0;
    if (!problem.excluded[at(j)]) kept.push_back(j);
  }
  Real y_mean = 0;
  for (Index i = 0; i < problem.n; ++i) {
    if (problem.intercept && problem.w[at(i)] > 0) y_mean += problem.w[at(i)] * problem.y[at(i)];
  }
  const std::size_t size = kept.size();
  std::vector<Real> A(size * size, 0);
  std::vector<Real> rhs(size, 0);
  for (std::size_t k = 0; k < size; ++k) {
    auto centred = [&](Index i, std::size_t c) {
      return problem.x(i, kept[c]) - m[at(kept[c])].mean;
    };
    for (Index i = 0; i < problem.n; ++i) {
      if (!(problem.w[at(i)] > 0)) continue;
      rhs[k] += problem.w[at(i)] * centred(i, k) * (problem.y[at(i)] - y_mean);
      for (std::size_t c = 0; c < size; ++c) {
        A[k * size + c] += problem.w[at(i)] * centred(i, k) * centred(i, c);
      }
    }
    A[k * size + k] += problem.e(kept[k]);
  }
  const std::vector<Real> b = solve_dense(std::move(A), std::move(rhs));
  Solution out;
  out.coef.assign(at(problem.p), 0);
  out.intercept = y_mean;
  for (std::size_t k = 0; k < size; ++k) {
    out.coef[at(kept[k])] = b[k];
    out.intercept -= b[k] * m[at(kept[k])].mean;
  }
  return out;
}

std::vector<Real> solve_dense(std::vector<Real> A, std::vector<Real> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t top = k;
    for (std::size_t i = k + 1; i < n; ++i) {
      if (std::fabs(A[i * n + k]) > std::fabs(A[top * n + k])) top = i;
    }
    if (A[top * n + k] == 0) throw std::runtime_error("oracle::solve_dense: matrix is singular");
    for (std::size_t j = 0; j < n; ++j) std::swap(A[k * n + j], A[top * n + j]);
    std::swap(b[k], b[top]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const Real share = A[i * n + k] / A[k * n + k];
      if (share == 0) continue;
      for (std::size_t j = k; j < n; ++j) A[i * n + j] -= share * A[k * n + j];
      b[i] -= share * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= A[k * n + j] * b[j];
    b[k] /= A[k * n + k];
  }
  return b;
}

}  // namespace thresher::oracle

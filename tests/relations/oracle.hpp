#pragma once

// Second opinions, computed straight from the formulas of docs/method.md in long double. Nothing
// here calls the library, so that a fault in it cannot hide.

#include <vector>

#include "thresher/views.hpp"

namespace thresher::oracle {

using Real = long double;

/// One problem in plain arrays: X (n, p) column-major; w sums to 1; u, v, d as they enter the
/// objective (standardize and dropout already merged). Excluded features have `excluded` set.
struct Problem {
  Index n = 0, p = 0;
  std::vector<Real> X, y, w, u, v, d;
  std::vector<char> excluded;
  Real l1_ratio = 1, lambda = 0;
  bool intercept = true;

  Real x(Index i, Index j) const { return X[static_cast<std::size_t>(i + j * n)]; }
  Real a(Index j) const;
  Real e(Index j) const;
  bool unpenalised(Index j) const;
};

struct Solution {
  Real intercept = 0;
  std::vector<Real> coef;
};

std::vector<Real> residual(const Problem& problem, const Solution& at);
Real objective(const Problem& problem, const Solution& at);

/// 1/2 sum w r^2 + 1/2 sum d b^2.
Real loss(const Problem& problem, const Solution& at);
/// The penalty without lambda: sum l1_ratio u |b| + (1 - l1_ratio)/2 v b^2.
Real penalty(const Problem& problem, const Solution& at);
Real null_loss(const Problem& problem);

/// The smallest gap over s in [0, s1], divided by the null loss.
Real relative_gap(const Problem& problem, const Solution& at);

/// Largest violation of the optimality conditions. Feature j contributes the distance of g_j from
/// its subdifferential divided by |x_j|, or, where b_j != 0, the square root of |b_j| times that
/// distance if it is smaller: a coefficient that has nearly vanished may be on the wrong side. The
/// intercept contributes |mean residual|. In units of y.
Real kkt_violation(const Problem& problem, const Solution& at);

/// The definition of docs/method.md.
Real lambda_max(const Problem& problem);

/// Coordinate descent in long double until the relative gap is at most `gap`; small problems only.
Solution solve(const Problem& problem, Real gap);

/// The minimiser without any L1 term, by one dense solve (X centred if there is an intercept).
Solution solve_ridge(const Problem& problem);

/// Weighted mean and sd (about the mean) of column j.
struct Moments {
  Real mean = 0, sd = 0, second = 0, largest = 0;
};
Moments moments(const Problem& problem, Index j);

/// Solves the dense system A x = b, A (n, n) row-major, by Gauss with pivoting.
std::vector<Real> solve_dense(std::vector<Real> A, std::vector<Real> b);

}  // namespace thresher::oracle

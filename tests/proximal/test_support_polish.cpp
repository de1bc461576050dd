#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engines/support_polish.hpp"
#include "proximal_case.hpp"

namespace thresher::testing_proximal {
namespace {

/// A run over a grid of nothing: only its set-up is used.
EngineRun set_up(const Table<double>& X, const std::vector<double>& y, double l1_ratio = 1.0,
                 const Data& factors = {}) {
  Options options;
  options.threads = 1;
  return EngineRun(X.view(), {{y, {}, l1_ratio, {}, {}}}, options, factors);
}

/// Largest violation of the optimality conditions within the support and signs.
double violation(const EngineRun& run, double lambda, const SparseCoef& coef) {
  const Problem& problem = run.problems[0];
  const std::vector<double> r = residual(run.columns, problem, coef);
  double worst = 0.0;
  for (const auto& [j, b] : coef) {
    const double* x = run.columns.column(j);
    double g = 0.0;
    for (const Index i : problem.rows->rows) g += problem.rows->weight[at(i)] * x[i] * r[at(i)];
    const double a = problem.a(j, lambda), e = problem.e(j, lambda);
    worst = std::max(worst, std::fabs(g - std::copysign(a, b) - e * b));
  }
  return worst;
}

TEST(SupportPolish, SolvesExactlyOnTheSupport) {
  const Table<double> X = random_table(60, 12, 0.6, 1.0, 1);
  const EngineRun run = set_up(X, random_response(X, 4, 0.5, 2));
  const double lambda = 0.01;
  SparseCoef coef = {{0, 0.1}, {2, 0.1}, {7, -0.1}, {9, 0.01}};

  const Polish polish = polish_support(run.columns, run.problems[0], lambda, {}, coef);

  EXPECT_TRUE(polish.improved);
  EXPECT_FALSE(coef.empty());
  EXPECT_LE(violation(run, lambda, coef), 1e-14);
}

// A start with the wrong signs must walk through zero, not jump over it.
TEST(SupportPolish, DropsWhatWouldChangeSign) {
  const Table<double> X = random_table(60, 12, 0.6, 0.0, 1);
  const EngineRun run = set_up(X, random_response(X, 4, 0.5, 2));
  SparseCoef coef = {{0, -0.1}, {2, 0.1}, {7, 0.1}, {9, 0.01}};
  const SparseCoef start = coef;

  const Polish polish = polish_support(run.columns, run.problems[0], 0.05, {}, coef);

  EXPECT_TRUE(polish.improved);
  EXPECT_LE(violation(run, 0.05, coef), 1e-14);
  for (const auto& [j, b] : coef) {
    for (const auto& [k, c] : start) {
      if (j == k) {
        EXPECT_GT(b * c, 0.0) << "feature " << j;
      }
    }
  }
}

TEST(SupportPolish, LetsOneOfTwoEqualColumnsGo) {
  Table<double> X = random_table(40, 6, 0.3, 0.0, 3);
  for (Index i = 0; i < X.rows; ++i) X(i, 4) = X(i, 0);
  const EngineRun run = set_up(X, random_response(X, 2, 0.1, 4));
  SparseCoef coef = {{0, 0.2}, {1, -0.3}, {4, 0.1}};

  const Polish polish = polish_support(run.columns, run.problems[0], 0.01, {}, coef);

  EXPECT_TRUE(polish.improved);
  EXPECT_FALSE(polish.dependent);  // said of unpenalised columns only
  EXPECT_EQ(coef.size(), 2u);
  EXPECT_LE(violation(run, 0.01, coef), 1e-14);
}

// More members than rows: null moves thin the support out without raising the objective.
TEST(SupportPolish, ThinsAnOvercompleteSupport) {
  const Table<double> X = random_table(10, 30, 0.2, 0.0, 5);
  const EngineRun run = set_up(X, random_response(X, 3, 0.1, 6));
  SparseCoef coef;
  for (Index j = 0; j < 30; ++j) coef.emplace_back(j, j % 2 == 0 ? 0.05 : -0.04);

  const Polish polish = polish_support(run.columns, run.problems[0], 0.01, {}, coef);

  EXPECT_TRUE(polish.improved);
  EXPECT_LE(coef.size(), 9u);  // rank 9 with the intercept
  EXPECT_LE(violation(run, 0.01, coef), 1e-13);
}

TEST(SupportPolish, ReportsDependentUnpenalisedColumns) {
  Table<double> X = random_table(40, 6, 0.3, 0.0, 3);
  for (Index i = 0; i < X.rows; ++i) X(i, 4) = X(i, 0) + X(i, 1);
  const std::vector<double> u = {0.0, 0.0, 1.0, 1.0, 0.0, 1.0};
  Data factors;
  factors.l1_factor = u;
  const EngineRun run = set_up(X, random_response(X, 2, 0.1, 4), 1.0, factors);
  SparseCoef coef;

  const Polish polish = polish_support(run.columns, run.problems[0], 0.1, {0, 1, 4}, coef);

  EXPECT_TRUE(polish.dependent);
  EXPECT_EQ(coef.size(), 2u);
  EXPECT_LE(violation(run, 0.1, coef), 1e-13);
}

TEST(SupportPolish, SolvesRidgeWithMoreFeaturesThanRows) {
  const Table<double> X = random_table(12, 40, 0.5, 1.0, 7);
  const EngineRun run = set_up(X, random_response(X, 3, 0.2, 8), 0.0);
  std::vector<Index> all;
  for (Index j = 0; j < 40; ++j) all.push_back(j);
  SparseCoef coef;

  const Polish polish = polish_support(run.columns, run.problems[0], 1e-3, all, coef);

  EXPECT_TRUE(polish.improved);
  EXPECT_EQ(coef.size(), 40u);
  EXPECT_LE(violation(run, 1e-3, coef), 1e-13);
}

}  // namespace
}  // namespace thresher::testing_proximal

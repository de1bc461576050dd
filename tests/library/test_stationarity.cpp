// How exactly the active set solves: to rounding, or to where what is missing adds nothing to the
// gap (docs/decisions/0011).

#include "backend/active_set.hpp"
#include "problem_case.hpp"

namespace thresher::testing_library {
namespace {

TEST(Stationarity, WhatAnElasticNetMissesAddsNothingToTheGap) {
  const ProblemCase c(300, 80, 0.2);
  const Problem& problem = c.problem;
  ResidualProducts products(c.columns, problem);
  ActiveSet solver(c.columns, problem, products, &products);
  std::vector<Index> features(80);
  for (std::size_t j = 0; j < features.size(); ++j) features[j] = static_cast<Index>(j);
  const double start = lambda_max(c.columns, problem);
  double largest = 0.0;
  for (const double lambda : log_grid(0.9 * start, 0.01, 40)) {
    SCOPED_TRACE(lambda);
    EXPECT_TRUE(solver.solve(lambda, features, 1000).exact);
    const SparseCoef coef = solver.coef();
    double gap = 0.0;
    for (std::size_t k = 0; k < solver.active().size(); ++k) {
      const Index j = solver.active()[k];
      const auto found = std::find_if(coef.begin(), coef.end(),
                                      [j](const auto& entry) { return entry.first == j; });
      ASSERT_NE(found, coef.end());
      const double b = found->second, e = problem.e(j, lambda);
      const double h = solver.gradient_active()[k] - std::copysign(problem.a(j, lambda), b) - e * b;
      gap += h * h / (2.0 * e);
    }
    EXPECT_LE(gap, 1e-20 * problem.null_loss);
    largest = std::max(largest, gap / problem.null_loss);
  }
  EXPECT_GT(largest, 1e-24) << "no answer was left before rounding: the case tests nothing";
  EXPECT_GT(solver.active().size(), 60u);
}

}  // namespace
}  // namespace thresher::testing_library

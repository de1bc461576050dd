// What a path is guessed to do next. A guess decides nothing, so what it must do is be right where
// paths go on as before, and stop where they do not.

#include "backend/path_guess.hpp"

#include "backend/active_set.hpp"
#include "problem_case.hpp"

namespace thresher::testing_library {
namespace {

using Numbers = std::vector<double>;
using Features = std::vector<Index>;

TEST(PathGuess, GoesOnAsBetweenTheLastTwoLambdas) {
  const ProblemCase c(60, 5, 1.0);
  const double unit = 1.0 / c.problem.a(0, 1.0);  // gradients in units of a_j at lambda = 1
  PathGuess guess(5);
  EXPECT_FALSE(guess.can_guess(1.0));
  guess.remember(1.0, {}, {}, {}, Features{0, 1, 2, 3}, Numbers{0.5 / unit, -0.7 / unit, 0, 0});
  EXPECT_FALSE(guess.can_guess(0.9)) << "one end tells no direction";
  guess.remember(0.9, {}, {}, {}, Features{0, 1, 2}, Numbers{0.6 / unit, -0.75 / unit, 0});
  ASSERT_TRUE(guess.can_guess(0.75));
  EXPECT_FALSE(guess.can_guess(0.9)) << "not further on";
  EXPECT_FALSE(guess.can_guess(0.6)) << "too far";
  Features chosen;
  Numbers g;
  // At 0.75 they would be 0.75 and -0.825; only the second is beyond a.
  guess.entrants(c.problem, 0.76, Features{0, 1, 2, 3}, chosen, g);
  ASSERT_EQ(chosen, Features{1});
  EXPECT_NEAR(g[0], -0.82 / unit, 1e-12 / unit);
  EXPECT_EQ(guess.last_gradient(1), -0.75 / unit);
  guess.forget();
  EXPECT_FALSE(guess.can_guess(0.76));
}

// A quadratic whose solution and gradients are linear in lambda: H = G + e, two active features.
TEST(PathGuess, AStepTellsWhatItLeaves) {
  const double e = 0.5;
  const double G[2][2] = {{2.0, 0.3}, {0.3, 1.0}};
  const auto gradient = [&](const Numbers& b) {
    return Numbers{1.0 - G[0][0] * b[0] - G[0][1] * b[1], 0.4 - G[1][0] * b[0] - G[1][1] * b[1]};
  };
  const Features active = {3, 1};
  PathGuess guess(4);
  const Numbers first = {0.1, -0.2}, second = {0.25, -0.1};
  guess.remember(1.0, active, first, gradient(first), {}, {});
  guess.remember(0.8, active, second, gradient(second), {}, {});
  const Numbers h = {0.7, 0.4};
  Numbers delta, rest;
  ASSERT_TRUE(guess.step(0.7, active, Numbers{e, e}, h, delta, rest));
  const Numbers want = {0.5 * 0.15, 0.5 * 0.1};
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_NEAR(delta[k], want[k], 1e-15);
    EXPECT_NEAR(rest[k], h[k] - G[k][0] * want[0] - G[k][1] * want[1] - e * want[k], 1e-15);
  }
  EXPECT_FALSE(guess.step(0.7, active, Numbers{e, e}, Numbers{-0.1, 0.0}, delta, rest))
      << "it leads away";
  guess.dropped();
  EXPECT_FALSE(guess.step(0.7, active, Numbers{e, e}, h, delta, rest)) << "the order is another";
}

TEST(PathGuess, EndsWhenItIsOftenWrong) {
  PathGuess guess(1);
  guess.remember(1.0, {}, {}, {}, Features{0}, Numbers{0.0});
  guess.remember(0.9, {}, {}, {}, Features{0}, Numbers{0.1});
  guess.judge(80, 10);
  EXPECT_TRUE(guess.can_guess(0.8));
  guess.judge(8, 3);
  EXPECT_FALSE(guess.can_guess(0.8));
}

/// Newton steps of a path of 60 lambdas through the Gram matrix.
Index steps_of_path(double l1_ratio) {
  const ProblemCase c(600, 60, l1_ratio);
  const ThreadPool pool(1);
  const std::vector<GramMatrix> grams = make_gram_matrices(c.columns, {c.problem.rows}, pool);
  Numbers xty(60), z(600);
  for (std::size_t i = 0; i < z.size(); ++i) {
    z[i] = c.problem.rows->weight[i] * (c.problem.y->value[i] - c.problem.y_mean);
  }
  Features features(60);
  for (std::size_t j = 0; j < features.size(); ++j) features[j] = static_cast<Index>(j);
  c.columns.dots(features, z.data(), xty.data());
  GramProducts products(grams.front(), xty, 1.0);
  ActiveSet solver(c.columns, c.problem, products, nullptr);
  Index steps = 0;
  for (const double lambda : log_grid(0.9 * lambda_max(c.columns, c.problem), 0.01, 60)) {
    const ActiveSet::Outcome outcome = solver.solve(lambda, features, 1000);
    EXPECT_TRUE(outcome.exact);
    steps += outcome.iterations + 1;
  }
  EXPECT_GT(solver.active().size(), 40u);
  return steps;
}

// Without guesses each lambda takes a step for those active, and one more for entrants or, where
// the factor is of another lambda, for what a coarse one leaves: 89 and 120 steps here.
TEST(PathGuess, SparesAGramPathItsSecondSteps) {
  EXPECT_LE(steps_of_path(1.0), 70);
  EXPECT_LE(steps_of_path(0.2), 70);
}

// Smooth columns, more than rows, and lambdas far apart: dozens are guessed, most of them wrong,
// which all but depend on each other. Coefficients grew to 1e64 and beyond.
TEST(PathGuess, LetsInNoFeaturesThatAllButDependOnOthers) {
  struct Seed {
    unsigned seed;
    double noise;
  };
  for (const auto& [seed, noise] :
       {Seed{294, 1e-8}, Seed{1107, 1e-8}, Seed{360, 1e-5}, Seed{409, 1e-5}}) {
    SCOPED_TRACE(seed);
    const Index n = 5 + seed % 16, p = n + 20 + seed % 40;
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    Numbers X(at(n * p)), y(at(n)), place(at(n));
    for (double& value : place) value = normal(random);
    for (Index j = 0; j < p; ++j) {
      for (Index i = 0; i < n; ++i) {
        double x = 0.0;
        for (int q = 0; q < 3; ++q) {
          x += std::sin((q + 1) * static_cast<double>(j + 1) * 0.1 + place[at(i)] * (q + 0.3));
        }
        X[at(j * n + i)] = x + noise * normal(random);
      }
    }
    for (double& value : y) value = normal(random);
    Data data;
    data.X = MatrixView<const double>::column_major(X.data(), n, p);
    data.Y = MatrixView<const double>::column_major(y.data(), n, 1);
    const Numbers grid = {1.0, 0.3, 0.1, 0.03, 0.01, 0.001};
    Options options;
    options.engine = Engine::kActiveSet;
    options.mode = Mode::kGram;
    options.early_stop.reset();
    options.threads = 1;
    options.device = Device::kCpu;
    options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 6);
    const Model model = fit_path(data, options);
    for (const std::uint8_t status : model.status) {
      EXPECT_EQ(static_cast<Status>(status), Status::kConverged);
    }
  }
}

}  // namespace
}  // namespace thresher::testing_library

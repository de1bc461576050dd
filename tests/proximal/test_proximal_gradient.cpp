// The whole engine, judged from X, y and the returned coefficients alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "backend_case.hpp"
#include "proximal_case.hpp"
#include "thresher/error.hpp"

namespace thresher::testing_proximal {
namespace {

class ProximalGradientTest : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    EngineRun::accelerator = accelerator();
  }
  void TearDown() override {
    EngineRun::accelerator = nullptr;
    BackendTest::TearDown();
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, ProximalGradientTest, testing::Values("cpu", "cuda"),
                         device_name);

/// Everything the objective needs, as given.
struct Given {
  const Table<double>& X;
  const Wish& wish;
  double lambda;
  bool intercept = true;
  std::vector<double> u{}, v{}, d{};  // empty: 1, 1, 0
};

struct Judged {
  long double objective = 0;
  long double kkt_violation = 0;  // in units of |x_j|_w |y|_w
  long double mean_residual = 0;  // in units of |y|_w
  long double null_loss = 0;
};

/// Objective and optimality conditions from their definition, in long double.
Judged judge(const Given& given, const Fit& fit) {
  const Index n = given.X.rows, p = given.X.cols;
  std::vector<long double> w(at(n), 1.0L / n), r(at(n));
  if (!given.wish.weight.empty()) {
    long double sum = 0;
    for (const double weight : given.wish.weight) sum += weight;
    for (Index i = 0; i < n; ++i) w[at(i)] = given.wish.weight[at(i)] / sum;
  }
  Judged out;
  long double y_mean = 0, y_square = 0;
  for (Index i = 0; i < n; ++i) {
    const long double y = given.wish.y[at(i)];
    r[at(i)] = y - fit.intercept;
    for (const auto& [j, b] : fit.coef) r[at(i)] -= static_cast<long double>(given.X(i, j)) * b;
    out.objective += w[at(i)] * r[at(i)] * r[at(i)] / 2;
    out.mean_residual += w[at(i)] * r[at(i)];
    y_mean += w[at(i)] * y;
    y_square += w[at(i)] * y * y;
  }
  out.null_loss = (given.intercept ? y_square - y_mean * y_mean : y_square) / 2;
  const long double y_norm = std::sqrt(2 * out.null_loss);
  if (!given.intercept) out.mean_residual = 0;
  out.mean_residual = std::fabs(out.mean_residual) / y_norm;
  for (Index j = 0; j < p; ++j) {
    const long double u = given.u.empty() ? 1 : given.u[at(j)];
    const long double v = given.v.empty() ? 1 : given.v[at(j)];
    const long double d = given.d.empty() ? 0 : given.d[at(j)];
    const long double b = coef(fit, j);
    if (std::isinf(u) || std::isinf(v)) {
      out.kkt_violation = std::max(out.kkt_violation, std::fabs(b));
      continue;
    }
    const long double a = given.lambda * given.wish.l1_ratio * u;
    const long double e = given.lambda * (1 - given.wish.l1_ratio) * v + d;
    out.objective += a * std::fabs(b) + e * b * b / 2;
    long double g = 0, x_mean = 0, x_square = 0;
    for (Index i = 0; i < n; ++i) {
      const long double x = given.X(i, j);
      x_mean += w[at(i)] * x;
      x_square += w[at(i)] * x * x;
      g += w[at(i)] * x * r[at(i)];
    }
    g -= e * b;
    const long double violation = b > 0   ? std::fabs(g - a)
                                  : b < 0 ? std::fabs(g + a)
                                          : std::max(0.0L, std::fabs(g) - a);
    const long double norm = std::sqrt(given.intercept ? x_square - x_mean * x_mean : x_square);
    if (violation > 0) out.kkt_violation = std::max(out.kkt_violation, violation / (norm * y_norm));
  }
  out.objective /= out.null_loss;
  return out;
}

/// A gap of `tol` P0 bounds the residual's error by sqrt(tol) |y|_w and so every condition.
void expect_solved(const Given& given, const Fit& fit, double tol, double mean_bound = 1e-11) {
  SCOPED_TRACE("lambda " + std::to_string(given.lambda));
  EXPECT_EQ(fit.status, Status::kConverged) << name(fit.status) << ", gap " << fit.gap;
  EXPECT_EQ(fit.engine, Engine::kProximalGradient);
  EXPECT_LE(fit.gap, tol);
  EXPECT_GE(fit.gap, -1e-12);
  const Judged judged = judge(given, fit);
  EXPECT_LE(static_cast<double>(judged.kkt_violation), 2 * std::sqrt(tol));
  EXPECT_LE(static_cast<double>(judged.mean_residual), mean_bound);
  EXPECT_NEAR(fit.objective / static_cast<double>(judged.null_loss),
              static_cast<double>(judged.objective), 1e-12);
}

const std::vector<double> kShares = {1.0, 0.9, 0.5, 0.1, 0.01, 0.001};

TEST_P(ProximalGradientTest, SatisfiesOptimalityConditions) {
  for (const auto& [n, p, corr] : {std::tuple<Index, Index, double>{40, 8, 0.5},
                                   {15, 25, 0.3},
                                   {30, 6, 0.9},
                                   {60, 300, 0.7}}) {
    const Table<double> X = random_table(n, p, corr, 3.0, 11);
    for (const double l1_ratio : {1.0, 0.5, 0.05}) {
      for (const bool intercept : {true, false}) {
        SCOPED_TRACE(testing::Message() << n << " x " << p << ", l1_ratio " << l1_ratio
                                        << (intercept ? "" : ", no intercept"));
        Options options;
        options.intercept = intercept;
        const Wish wish{random_response(X, 5, 1.0, 12), {}, l1_ratio, {}, kShares};

        const EngineRun run(X.view(), {wish}, options);

        ASSERT_EQ(run.sink.path(0).size(), kShares.size());
        for (Index l = 0; l < static_cast<Index>(kShares.size()); ++l) {
          expect_solved({X, wish, run.lambda(0, l), intercept}, run.fit(0, l), 1e-10);
        }
        EXPECT_TRUE(run.fit(0, 0).coef.empty());
        EXPECT_FALSE(run.fit(0, 1).coef.empty());
      }
    }
  }
}

TEST_P(ProximalGradientTest, SolvesOrthonormalColumnsByThresholding) {
  // Columns of a Hadamard matrix without the constant one: centred, x_j'x_k / n = [j = k].
  Table<double> X(8, 7);
  for (Index i = 0; i < 8; ++i) {
    for (Index j = 0; j < 7; ++j) {
      X(i, j) = __builtin_popcountll(static_cast<unsigned long long>(i & (j + 1))) % 2 ? -1.0 : 1.0;
    }
  }
  const std::vector<double> y = {3.0, -1.0, 0.5, 2.0, 7.0, -4.0, 1.0, 0.25};
  const double lambda = 0.7, l1_ratio = 0.8;

  const EngineRun run(X.view(), {{y, {}, l1_ratio, {lambda}, {}}});

  for (Index j = 0; j < 7; ++j) {
    double c = 0.0;
    for (Index i = 0; i < 8; ++i) c += X(i, j) * y[at(i)] / 8.0;
    const double over = std::max(std::fabs(c) - lambda * l1_ratio, 0.0);
    const double want = std::copysign(over, c) / (1.0 + lambda * (1.0 - l1_ratio));
    EXPECT_NEAR(coef(run.fit(0, 0), j), want, 1e-13) << "feature " << j;
  }
}

TEST_P(ProximalGradientTest, SolvesOneFeatureInClosedForm) {
  const Table<double> X = random_table(20, 1, 0.0, 5.0, 3);
  const std::vector<double> y = random_response(X, 1, 1.0, 4);
  double x_mean = 0.0, y_mean = 0.0, xx = 0.0, xy = 0.0;
  for (Index i = 0; i < 20; ++i) x_mean += X(i, 0) / 20, y_mean += y[at(i)] / 20;
  for (Index i = 0; i < 20; ++i) {
    xx += (X(i, 0) - x_mean) * (X(i, 0) - x_mean) / 20;
    xy += (X(i, 0) - x_mean) * (y[at(i)] - y_mean) / 20;
  }

  const EngineRun run(X.view(), {{y, {}, 1.0, {0.2, 0.1}, {}}});

  for (Index l = 0; l < 2; ++l) {
    EXPECT_NEAR(coef(run.fit(0, l), 0), (std::fabs(xy) - run.lambda(0, l)) / xx, 1e-13);
    EXPECT_NEAR(run.fit(0, l).intercept, y_mean - x_mean * coef(run.fit(0, l), 0), 1e-12);
  }
}

// Normal equations by plain elimination: (X'X/n + lambda I) b = X'y/n on centred data.
std::vector<double> ridge_oracle(const Table<double>& X, const std::vector<double>& y,
                                 double lambda) {
  const Index n = X.rows, p = X.cols;
  std::vector<std::vector<long double>> system(at(p), std::vector<long double>(at(p + 1), 0));
  std::vector<long double> mean(at(p), 0);
  long double y_mean = 0;
  for (Index i = 0; i < n; ++i) {
    y_mean += static_cast<long double>(y[at(i)]) / n;
    for (Index j = 0; j < p; ++j) mean[at(j)] += static_cast<long double>(X(i, j)) / n;
  }
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < p; ++j) {
      const long double x = X(i, j) - mean[at(j)];
      system[at(j)][at(p)] += x * (y[at(i)] - y_mean) / n;
      for (Index k = 0; k < p; ++k) system[at(j)][at(k)] += x * (X(i, k) - mean[at(k)]) / n;
    }
  }
  for (Index j = 0; j < p; ++j) system[at(j)][at(j)] += lambda;
  for (Index j = 0; j < p; ++j) {
    for (Index k = j + 1; k < p; ++k) {
      const long double share = system[at(k)][at(j)] / system[at(j)][at(j)];
      for (Index c = j; c <= p; ++c) system[at(k)][at(c)] -= share * system[at(j)][at(c)];
    }
  }
  std::vector<double> out(at(p));
  for (Index j = p - 1; j >= 0; --j) {
    long double value = system[at(j)][at(p)];
    for (Index k = j + 1; k < p; ++k) value -= system[at(j)][at(k)] * out[at(k)];
    out[at(j)] = static_cast<double>(value / system[at(j)][at(j)]);
  }
  return out;
}

TEST_P(ProximalGradientTest, SolvesRidgeInClosedForm) {
  for (const auto& [n, p] : {std::pair<Index, Index>{40, 8}, {15, 25}}) {
    const Table<double> X = random_table(n, p, 0.5, 3.0, 21);
    const std::vector<double> y = random_response(X, 4, 0.5, 22);
    Options options;
    options.tol = 1e-13;

    const EngineRun run(X.view(), {{y, {}, 0.0, {10.0, 0.1, 1e-3, 1e-6}, {}}}, options);

    for (Index l = 0; l < 4; ++l) {
      SCOPED_TRACE(testing::Message() << n << " x " << p << ", lambda " << run.lambda(0, l));
      EXPECT_EQ(run.fit(0, l).status, Status::kConverged);
      const std::vector<double> want = ridge_oracle(X, y, run.lambda(0, l));
      // The objective is lambda-strongly convex: |b - b*|^2 <= 2 gap / lambda.
      const Problem& problem = run.problems[0];
      const double null_loss = std::ldexp(problem.null_loss, 2 * problem.y->exponent);
      const double bound =
          std::sqrt(2.0 * (run.fit(0, l).gap + 1e-15) * null_loss / run.lambda(0, l));
      for (Index j = 0; j < p; ++j) EXPECT_NEAR(coef(run.fit(0, l), j), want[at(j)], bound);
      EXPECT_FALSE(run.fit(0, l).rank_deficient);
    }
  }
}

TEST_P(ProximalGradientTest, SolvesLeastSquaresAndFlagsDeficientRank) {
  const Table<double> tall = random_table(30, 5, 0.5, 2.0, 31);
  const std::vector<double> y = random_response(tall, 3, 0.5, 32);
  const EngineRun run(tall.view(), {{y, {}, 1.0, {0.1, 0.0}, {}}});
  const std::vector<double> want = ridge_oracle(tall, y, 0.0);
  for (Index j = 0; j < 5; ++j) EXPECT_NEAR(coef(run.fit(0, 1), j), want[at(j)], 1e-9);
  EXPECT_FALSE(run.fit(0, 1).rank_deficient);

  Table<double> repeated = tall;
  for (Index i = 0; i < 30; ++i) repeated(i, 3) = repeated(i, 1);
  const EngineRun dependent(repeated.view(), {{y, {}, 1.0, {0.0}, {}}});
  EXPECT_TRUE(dependent.fit(0, 0).rank_deficient);
  EXPECT_EQ(dependent.fit(0, 0).status, Status::kConverged);

  const Table<double> wide = random_table(10, 30, 0.2, 2.0, 33);
  const Wish wish{random_response(wide, 3, 0.5, 34), {}, 1.0, {0.0}, {}};
  const EngineRun interpolated(wide.view(), {wish});
  EXPECT_TRUE(interpolated.fit(0, 0).rank_deficient);
  expect_solved({wide, wish, 0.0}, interpolated.fit(0, 0), 1e-10);
}

TEST_P(ProximalGradientTest, HonoursFactorsAndWeights) {
  const Table<double> X = random_table(50, 12, 0.6, 2.0, 41);
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> u = {1, 0, 2, 1, 0.5, 1, infinity, 0, 1, 1, 3, 1};
  const std::vector<double> v = {1, 0, 2, 0, 0.5, 1, 1, 1, infinity, 1, 3, 1};
  const std::vector<double> d = {0, 0, 0.1, 0, 0, 0, 0, 0, 0, 0.3, 0, 0};
  Data factors;
  factors.l1_factor = u;
  factors.l2_factor = v;
  factors.fixed_l2 = d;
  Wish wish{random_response(X, 5, 1.0, 42), {}, 0.7, {}, {0.5, 0.05, 0.005}};
  for (Index i = 0; i < 50; ++i) wish.weight.push_back(i % 5 == 0 ? 0.0 : 1.0 + double(i % 3));
  for (Index i = 0; i < 50; i += 5) wish.y[at(i)] = 1e6;  // weight 0: must not matter

  const EngineRun run(X.view(), {wish}, {}, factors);

  for (Index l = 0; l < 3; ++l) {
    expect_solved({X, wish, run.lambda(0, l), true, u, v, d}, run.fit(0, l), 1e-10);
    EXPECT_NE(coef(run.fit(0, l), 1), 0.0);
  }
}

// A row without weight drags the plain mean far away: the column is then centred for these weights.
TEST_P(ProximalGradientTest, HonoursColumnsThatAreCentredDirectly) {
  Table<double> X = random_table(40, 6, 0.3, 0.0, 51);
  for (Index i = 0; i < 40; ++i) X(i, 2) = 1e-6 * X(i, 2) + (i == 0 ? 1e3 : 1.0);
  Wish wish{random_response(X, 2, 0.3, 52), {}, 1.0, {}, {0.5, 0.01}};
  for (Index i = 1; i < 40; ++i) wish.y[at(i)] += 3e6 * (X(i, 2) - 1.0);
  wish.weight.assign(40, 1.0);
  wish.weight[0] = 0.0;
  Options options;
  options.standardize = true;
  const Wish other{random_response(X, 3, 0.3, 53), {}, 1.0, {}, {0.5, 0.01}};

  const EngineRun run(X.view(), {other, wish, other}, options);

  ASSERT_EQ(run.problems[1].rows->direct, std::vector<Index>{2});
  Table<double> rest(39, 6);
  for (Index j = 0; j < 6; ++j) {
    for (Index i = 1; i < 40; ++i) rest(i - 1, j) = X(i, j);
  }
  const std::vector<double> rest_y(wish.y.begin() + 1, wish.y.end());
  const EngineRun alone(rest.view(), {{rest_y, {}, 1.0, {run.lambda(1, 0), run.lambda(1, 1)}, {}}},
                        options);
  for (Index l = 0; l < 2; ++l) {
    EXPECT_EQ(run.fit(1, l).status, Status::kConverged);
    EXPECT_NEAR(run.fit(1, l).objective / alone.fit(0, l).objective, 1.0, 1e-8);
    EXPECT_NE(coef(run.fit(1, l), 2), 0.0);
    EXPECT_NEAR(coef(run.fit(1, l), 2) / coef(alone.fit(0, l), 2), 1.0, 1e-6);
  }
}

TEST_P(ProximalGradientTest, SolvesColumnsWhoseScalesSpanTenDecades) {
  Table<double> X = random_table(80, 11, 0.5, 1.0, 61);
  std::vector<double> scale;
  for (Index j = 0; j < 11; ++j) scale.push_back(std::pow(10.0, static_cast<double>(j) - 5.0));
  const std::vector<double> y = random_response(X, 5, 0.5, 62);
  const EngineRun plain(X.view(), {{y, {}, 1.0, {}, {0.3, 0.03}}});
  for (Index j = 0; j < 11; ++j) {
    for (Index i = 0; i < 80; ++i) X(i, j) *= scale[at(j)];
  }
  Data factors;
  factors.l1_factor = scale;
  const std::vector<double> lambda = {plain.lambda(0, 0), plain.lambda(0, 1)};

  const EngineRun scaled(X.view(), {{y, {}, 1.0, lambda, {}}}, {}, factors);
  const Wish unequal{y, {}, 1.0, {}, kShares};
  const EngineRun without(X.view(), {unequal});

  for (Index l = 0; l < 2; ++l) {
    EXPECT_EQ(scaled.fit(0, l).status, Status::kConverged);
    EXPECT_NEAR(scaled.fit(0, l).objective / plain.fit(0, l).objective, 1.0, 1e-9);
    for (Index j = 0; j < 11; ++j) {
      EXPECT_NEAR(coef(scaled.fit(0, l), j) * scale[at(j)], coef(plain.fit(0, l), j), 1e-5);
    }
  }
  for (Index l = 0; l < static_cast<Index>(kShares.size()); ++l) {
    expect_solved({X, unequal, without.lambda(0, l)}, without.fit(0, l), 1e-10);
  }
}

// The plain mean that the intercept gives back is up to 2.5e7 times the response in the next two.
constexpr double kDragged = 1e-7;

// One step in the metric of the column is exact; two iterations leave no time for exact solves. Row
// 0 weighs next to nothing but sets the scale of the column, whose weighted spread is 1e-5 of it.
TEST_P(ProximalGradientTest, StepsLiveInTheMetricOfTheColumns) {
  Table<double> X = random_table(80, 1, 0.0, 1.0, 65);
  X(0, 0) = 1e5;
  Wish wish{random_response(X, 0, 0.5, 66), std::vector<double>(80, 1.0), 1.0, {}, {0.3, 0.03}};
  for (Index i = 1; i < 80; ++i) wish.y[at(i)] += X(i, 0);
  wish.weight[0] = 1e-12;
  Options options;
  options.max_iterations = 2;

  const EngineRun run(X.view(), {wish}, options);

  for (Index l = 0; l < 2; ++l) {
    expect_solved({X, wish, run.lambda(0, l)}, run.fit(0, l), 1e-10, kDragged);
    EXPECT_EQ(run.fit(0, l).coef.size(), 1u);
  }
}

// The same in float on a column that only its direct centring keeps: without it the fitted values
// would be a constant 1e7 times their spread.
TEST_P(ProximalGradientTest, StepsSeeDirectColumns) {
  const Table<double> normal = random_table(40, 1, 0.0, 0.0, 65);
  Table<float> X(40, 1);
  Table<double> same(40, 1);
  Wish wish{std::vector<double>(40), std::vector<double>(40, 1.0), 1.0, {}, {0.3, 0.03}};
  for (Index i = 0; i < 40; ++i) {
    X(i, 0) = i == 0 ? 1e6f : static_cast<float>(1.0 + 1e-3 * normal(i, 0));
    same(i, 0) = static_cast<double>(X(i, 0));
    wish.y[at(i)] = i == 0 ? 0.0 : 1e3 * (same(i, 0) - 1.0) + 0.1 * std::sin(double(i));
  }
  wish.weight[0] = 0.0;
  Options options;
  options.max_iterations = 2;
  options.tol = 1e-5;

  const EngineRun run(X.view(), {wish}, options);

  ASSERT_EQ(run.problems[0].rows->direct, std::vector<Index>{0});
  for (Index l = 0; l < 2; ++l) {
    expect_solved({same, wish, run.lambda(0, l)}, run.fit(0, l), 1e-5, kDragged);
    EXPECT_EQ(run.fit(0, l).coef.size(), 1u);
  }
}

// From zero to 0.02 lambda_max at once: the strong rule guesses nothing there, so that the working
// features start at the 300 strongest and the others must come in as violators.
TEST_P(ProximalGradientTest, FindsFeaturesThatTheFirstGuessMissed) {
  const Table<double> X = random_table(150, 900, 0.9, 0.0, 67);
  const Wish wish{random_response(X, 40, 0.5, 68), {}, 1.0, {}, {0.02}};

  const EngineRun run(X.view(), {wish});

  expect_solved({X, wish, run.lambda(0, 0)}, run.fit(0, 0), 1e-10);
}

TEST_P(ProximalGradientTest, KeepsZeroAndConstantColumnsAtZero) {
  Table<double> X = random_table(30, 6, 0.3, 1.0, 71);
  for (Index i = 0; i < 30; ++i) X(i, 1) = 0.0, X(i, 4) = 0.1;
  const Wish wish{random_response(X, 3, 0.5, 72), {}, 0.5, {}, {0.5, 0.01}, {{1, 5.0}, {4, 5.0}}};
  for (const bool intercept : {true, false}) {
    Options options;
    options.intercept = intercept;

    const EngineRun run(X.view(), {wish}, options);

    for (Index l = 0; l < 2; ++l) {
      EXPECT_EQ(run.fit(0, l).status, Status::kConverged);
      EXPECT_EQ(coef(run.fit(0, l), 1), 0.0);
      if (intercept) {
        EXPECT_EQ(coef(run.fit(0, l), 4), 0.0);
      }
    }
  }
}

TEST_P(ProximalGradientTest, JunkStartEndsWhereColdStartEnds) {
  const Table<double> X = random_table(40, 60, 0.8, 2.0, 81);
  const Wish cold{random_response(X, 6, 0.5, 82), {}, 1.0, {}, {0.3, 0.01}};
  Wish junk = cold;
  for (Index j = 0; j < 60; ++j) junk.start_hat.emplace_back(j, j % 2 ? 3.0 : -7.0);

  const EngineRun run(X.view(), {cold, junk});

  for (Index l = 0; l < 2; ++l) {
    expect_solved({X, junk, run.lambda(1, l)}, run.fit(1, l), 1e-10);
    EXPECT_NEAR(run.fit(0, l).objective / run.fit(1, l).objective, 1.0, 1e-8);
  }
}

TEST_P(ProximalGradientTest, RestartAtTheAnswerTakesTwoIterationsAtMost) {
  const Table<double> X = random_table(40, 60, 0.5, 2.0, 81);
  Wish wish{random_response(X, 6, 0.5, 82), {}, 1.0, {0.3}, {}};
  const EngineRun first(X.view(), {wish});
  const Problem& problem = first.problems[0];
  for (const auto& [j, b] : first.fit(0, 0).coef) {
    wish.start_hat.emplace_back(j, std::ldexp(b, first.columns.exponent(j) - problem.y->exponent));
  }

  const EngineRun again(X.view(), {wish});

  EXPECT_EQ(again.fit(0, 0).status, Status::kConverged);
  EXPECT_LE(again.fit(0, 0).iterations, 2);
}

/// Problems that share nothing but X.
std::vector<Wish> mixed_batch(const Table<double>& X, Index size) {
  std::vector<Wish> out;
  for (Index k = 0; k < size; ++k) {
    Wish wish{random_response(X, 1 + k % 5, 0.5, 90 + static_cast<unsigned>(k)), {}, 1.0, {}, {}};
    const double unit = std::pow(10.0, static_cast<double>(k % 7) - 3.0);
    for (double& y : wish.y) y *= unit;
    if (k % 3 == 1) {
      for (Index i = 0; i < X.rows; ++i) wish.weight.push_back(i % 4 == k % 4 ? 0.0 : 1.0);
    }
    wish.l1_ratio = k % 4 == 3 ? 0.3 : 1.0;
    wish.lambda_share =
        k % 2 ? std::vector<double>{0.8, 0.2, 0.02} : std::vector<double>{0.1, 0.01};
    out.push_back(wish);
  }
  return out;
}

TEST_P(ProximalGradientTest, BatchAgreesWithOneByOneWithinTheCertificate) {
  const Table<double> X = random_table(40, 90, 0.6, 2.0, 91);
  const std::vector<Wish> wishes = mixed_batch(X, 40);

  const EngineRun batch(X.view(), wishes);

  ASSERT_EQ(batch.sink.n_paths(), wishes.size());
  EXPECT_FALSE(batch.sink.out_of_order());
  for (Index k = 0; k < 40; ++k) {
    SCOPED_TRACE(testing::Message() << "problem " << k);
    const EngineRun alone(X.view(), {wishes[at(k)]});
    for (Index l = 0; l < static_cast<Index>(wishes[at(k)].lambda_share.size()); ++l) {
      expect_solved({X, wishes[at(k)], batch.lambda(k, l)}, batch.fit(k, l), 1e-10);
      const Problem& problem = alone.problems[0];
      const double null_loss = std::ldexp(problem.null_loss, 2 * problem.y->exponent);
      EXPECT_NEAR(batch.fit(k, l).objective / null_loss, alone.fit(0, l).objective / null_loss,
                  1e-10);
    }
  }
}

void expect_same_bits(const Fit& a, const Fit& b) {
  EXPECT_EQ(a.coef, b.coef);
  EXPECT_EQ(a.objective, b.objective);
  EXPECT_EQ(a.gap, b.gap);
  EXPECT_EQ(a.intercept, b.intercept);
  EXPECT_EQ(a.iterations, b.iterations);
}

TEST_P(ProximalGradientTest, GivesTheSameBitsForAnyNumberOfThreads) {
  const Table<double> X = random_table(40, 90, 0.6, 2.0, 91);
  const std::vector<Wish> wishes = mixed_batch(X, 40);
  Options options;
  options.threads = 1;
  const EngineRun one(X.view(), wishes, options);
  for (const int threads : {1, 2, 3, 7}) {
    options.threads = threads;

    const EngineRun many(X.view(), wishes, options);

    for (Index k = 0; k < 40; ++k) {
      for (std::size_t l = 0; l < one.sink.path(k).size(); ++l) {
        expect_same_bits(one.sink.path(k)[l], many.sink.path(k)[l]);
      }
    }
  }
}

TEST_P(ProximalGradientTest, SaysSoAtTheIterationLimit) {
  const Table<double> X = random_table(40, 20, 0.9, 2.0, 101);
  Options options;
  options.max_iterations = 1;

  const EngineRun run(X.view(), {{random_response(X, 5, 0.5, 102), {}, 1.0, {}, {1.5, 0.1, 0.01}}},
                      options);

  EXPECT_EQ(run.fit(0, 0).status, Status::kConverged);  // zero is the answer there
  for (Index l = 1; l < 3; ++l) {
    EXPECT_EQ(run.fit(0, l).status, Status::kIterationLimit);
    EXPECT_EQ(run.fit(0, l).iterations, 1);
    EXPECT_GT(run.fit(0, l).gap, 1e-10);
  }
}

TEST_P(ProximalGradientTest, ReportsAToleranceOutOfReachAsPrecisionLimit) {
  const Table<double> X = random_table(40, 20, 0.9, 2.0, 101);
  Options options;
  options.tol = 1e-40;

  const EngineRun run(X.view(), {{random_response(X, 5, 0.5, 102), {}, 1.0, {}, {0.1, 0.01}}},
                      options);

  for (Index l = 0; l < 2; ++l) {
    EXPECT_EQ(run.fit(0, l).status, Status::kPrecisionLimit) << name(run.fit(0, l).status);
    EXPECT_LE(run.fit(0, l).gap, 1e-12);
    EXPECT_LT(run.fit(0, l).iterations, 20'000);
  }
}

TEST_P(ProximalGradientTest, SolvesFloatDataToItsTolerance) {
  const Table<double> wide = random_table(60, 100, 0.6, 2.0, 111);
  Table<float> X(60, 100);
  Table<double> same(60, 100);
  for (std::size_t k = 0; k < X.values.size(); ++k) {
    X.values[k] = static_cast<float>(wide.values[k]);
    same.values[k] = static_cast<double>(X.values[k]);
  }
  Options options;
  options.tol = 1e-5;
  for (const double l1_ratio : {1.0, 0.5}) {
    const Wish wish{random_response(same, 5, 0.5, 112), {}, l1_ratio, {}, {0.9, 0.3, 0.03}};

    const EngineRun run(X.view(), {wish}, options);

    for (Index l = 0; l < 3; ++l) {
      expect_solved({same, wish, run.lambda(0, l)}, run.fit(0, l), 1e-5);
    }
  }
  const EngineRun ridge(X.view(), {{random_response(same, 5, 0.5, 112), {}, 0.0, {1.0, 0.01}, {}}},
                        options);
  for (Index l = 0; l < 2; ++l) EXPECT_EQ(ridge.fit(0, l).status, Status::kConverged);
}

TEST_P(ProximalGradientTest, StopsAPathWhenTheSinkHasEnough) {
  const Table<double> X = random_table(40, 20, 0.5, 2.0, 101);
  const Wish wish{random_response(X, 5, 0.5, 102), {}, 1.0, {}, kShares};

  const EngineRun run(X.view(), {wish, wish}, {}, {}, nullptr, 3);

  EXPECT_EQ(run.sink.path(0).size(), 3u);
  EXPECT_EQ(run.sink.path(1).size(), 3u);
}

TEST_P(ProximalGradientTest, EndsEarlyWhenCancelled) {
  class Cancel : public Observer {
   public:
    bool cancelled() override { return true; }
  } cancel;
  const Table<double> X = random_table(40, 20, 0.5, 2.0, 101);
  const Wish wish{random_response(X, 5, 0.5, 102), {}, 1.0, {}, {0.1, 0.01}};

  const EngineRun run(X.view(), {wish}, {}, {}, &cancel);

  ASSERT_EQ(run.sink.path(0).size(), 1u);
  EXPECT_EQ(run.fit(0, 0).status, Status::kCancelled);
  EXPECT_TRUE(std::isfinite(run.fit(0, 0).gap));
}

TEST_P(ProximalGradientTest, EndsWithBreakdownInsteadOfZeroWhenValuesOverflow) {
  const Table<double> X = random_table(40, 20, 0.5, 2.0, 101);
  Wish wish{random_response(X, 5, 0.5, 102), {}, 1.0, {}, {0.1}};
  wish.start_hat = {{0, std::numeric_limits<double>::quiet_NaN()}};

  const EngineRun run(X.view(), {wish, {wish.y, {}, 1.0, {}, {0.1}}});

  EXPECT_EQ(run.fit(0, 0).status, Status::kNumericalBreakdown);
  EXPECT_EQ(run.fit(1, 0).status, Status::kConverged);
}

TEST_P(ProximalGradientTest, SolvesDegenerateShapes) {
  Table<double> one_row(1, 3);
  one_row.values = {1.0, 2.0, 3.0};
  const EngineRun single(one_row.view(), {{{5.0}, {}, 1.0, {0.1, 0.0}, {}}});
  EXPECT_EQ(single.fit(0, 1).status, Status::kConverged);
  EXPECT_EQ(single.fit(0, 1).intercept, 5.0);
  EXPECT_TRUE(single.fit(0, 1).coef.empty());

  const Table<double> zero(10, 3);
  const Table<double> X = random_table(10, 3, 0.0, 0.0, 1);
  const EngineRun nothing(zero.view(), {{random_response(X, 2, 0.1, 2), {}, 1.0, {0.1, 0.0}, {}},
                                        {std::vector<double>(10, 4.0), {}, 0.5, {0.1}, {}}});
  EXPECT_EQ(nothing.fit(0, 1).status, Status::kConverged);
  EXPECT_TRUE(nothing.fit(0, 1).coef.empty());
  EXPECT_EQ(nothing.fit(1, 0).status, Status::kConverged);
}

// Wherever memory runs out, every fit is handed over once and counted once.
TEST_P(ProximalGradientTest, SolvesFewerAtATimeWhenMemoryRunsOut) {
  if (emulator() == nullptr) GTEST_SKIP() << GetParam() << ": no emulated device to run out";
  constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation
  const Table<double> X = random_table(30, 50, 0.5, 2.0, 121);
  std::vector<Wish> wishes;
  for (unsigned k = 0; k < 5; ++k) {
    wishes.push_back({random_response(X, 4, 0.5, 122 + k), {}, 1.0, {}, {0.5, 0.1}});
  }
  const long before = emulator()->calls("cudaMalloc");
  const EngineRun undisturbed(X.view(), wishes);
  EXPECT_EQ(undisturbed.control.device_note(), "");
  const long calls = emulator()->calls("cudaMalloc") - before;
  for (const long nth : {1L, calls / 2, calls}) {
    SCOPED_TRACE("allocation " + std::to_string(nth) + " of " + std::to_string(calls));
    emulator()->fail("cudaMalloc", nth, kOutOfMemory);

    const EngineRun run(X.view(), wishes);

    EXPECT_EQ(run.control.device_note(), "2 of 5 problems at a time (memory)");
    EXPECT_EQ(run.control.counted(), 10);
    EXPECT_FALSE(run.sink.out_of_order());
    for (Index k = 0; k < 5; ++k) {
      ASSERT_EQ(run.sink.path(k).size(), 2u);
      for (Index l = 0; l < 2; ++l) {
        expect_solved({X, wishes[at(k)], run.lambda(k, l)}, run.fit(k, l), 1e-10);
      }
    }
  }
  emulator()->fail_from("cudaMalloc", 1, kOutOfMemory);
  try {
    const EngineRun run(X.view(), wishes);
    FAIL() << "expected thresher::Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
  }
  emulator()->clear_faults();
}

}  // namespace
}  // namespace thresher::testing_proximal

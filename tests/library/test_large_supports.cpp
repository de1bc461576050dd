// Elastic nets with more features in the support than there are rows: the solver then works in the
// space of the rows (docs/decisions/0010).

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

constexpr Index kRows = 24, kFeatures = 150;

Options small_lambdas(Engine engine) {
  Options options;
  options.engine = engine;
  options.mode = engine == Engine::kActiveSet ? Mode::kResidual : Mode::kAuto;
  options.l1_ratio = {0.1};
  options.n_lambdas = 30;
  options.lambda_min_ratio = 1e-3;
  options.early_stop.reset();
  options.tol = 1e-12;
  return options;
}

/// Fits both ways; answers are unique and must agree. Returns the model of the active set.
Model expect_the_reference(const Data& data) {
  const Model fast = fit_path(data, small_lambdas(Engine::kActiveSet));
  const Model slow = fit_path(data, small_lambdas(Engine::kReference));
  Index largest = 0;
  for (Index f = 0; f < 30; ++f) {
    SCOPED_TRACE("lambda " + std::to_string(f));
    EXPECT_TRUE(is_good(status(fast, f))) << name(status(fast, f));
    EXPECT_LE(fast.gap[at(f)], 1e-12);
    const std::vector<double> a = coefficients(fast, f), b = coefficients(slow, f);
    Index support = 0;
    for (std::size_t j = 0; j < a.size(); ++j) {
      EXPECT_NEAR(a[j], b[j], 1e-5);
      support += a[j] != 0.0 ? 1 : 0;
    }
    largest = std::max(largest, support);
  }
  EXPECT_GT(largest, kRows) << "the case does not reach what it is there for";
  return fast;
}

TEST(LargeSupports, AgreeWithTheReference) {
  const Table table(kRows, kFeatures, 1);
  const Model model = expect_the_reference(table.data());
  // A wrong matrix in the space of the rows would take tens of steps, or the slow way out.
  for (Index f = 0; f < 30; ++f) EXPECT_LE(model.iterations[at(f)], 20) << "lambda " << f;
}

TEST(LargeSupports, WithFactorsAndAFixedL2Term) {
  const Table table(kRows, kFeatures, 1, 2);
  Data data = table.data();
  std::vector<double> u, v, d, w;
  for (Index j = 0; j < kFeatures; ++j) {
    u.push_back(j % 7 == 0 ? 0.0 : 0.5 + 0.01 * static_cast<double>(j % 50));
    v.push_back(1.0 + 0.02 * static_cast<double>(j % 13));
    d.push_back(j % 3 == 0 ? 0.05 : 0.0);
  }
  for (Index i = 0; i < kRows; ++i) w.push_back(1.0 + static_cast<double>(i % 4));
  data.l1_factor = u;
  data.l2_factor = v;
  data.fixed_l2 = d;
  data.sample_weight = w;
  expect_the_reference(data);
}

// Without an L2 term a feature has no place in the space of the rows.
TEST(LargeSupports, WithFeaturesThatHaveNoL2Term) {
  const Table table(kRows, kFeatures, 1, 3);
  Data data = table.data();
  std::vector<double> v(at(kFeatures), 1.0);
  v[0] = v[5] = 0.0;
  data.l2_factor = v;
  expect_the_reference(data);
}

TEST(LargeSupports, InFoldsTheErrorsAreThoseOfTheReference) {
  const Table table(kRows, kFeatures, 2, 4);
  const Model fast = cross_validate(table.data(), small_lambdas(Engine::kActiveSet));
  const Model slow = cross_validate(table.data(), small_lambdas(Engine::kReference));
  for (std::size_t f = 0; f < fast.cv->fold_error.size(); ++f) {
    // A response whose grid was extended less than the other's has no errors there.
    ASSERT_EQ(std::isnan(fast.cv->fold_error[f]), std::isnan(slow.cv->fold_error[f]));
    if (std::isnan(slow.cv->fold_error[f])) continue;
    EXPECT_NEAR(fast.cv->fold_error[f] / slow.cv->fold_error[f], 1.0, 1e-5);
  }
}

// At lambda = 0 the e_j that held more features than the rank are gone. One call in a hundred ended
// as "numerical breakdown", or as "precision limit" with gaps up to 1e262.
TEST(LargeSupports, EndInLeastSquares) {
  const double grid[] = {1.0, 0.1, 0.01, 0.001, 0.0};
  for (const Mode mode : {Mode::kGram, Mode::kResidual}) {
    for (unsigned seed = 1; seed <= 150; ++seed) {
      SCOPED_TRACE(std::string(mode == Mode::kGram ? "gram" : "residual") + ", seed " +
                   std::to_string(seed));
      const Table table(6 + seed % 13, 40 + seed % 17, 1, seed);
      Options options = small_lambdas(Engine::kActiveSet);
      options.mode = mode;
      options.l1_ratio = {seed % 2 == 0 ? 0.1 : 0.001};
      options.intercept = seed % 3 != 0;
      options.lambda_grid = MatrixView<const double>::row_major(grid, 1, 5);
      const Model model = fit_path(table.data(), options);
      EXPECT_EQ(status(model, 4), Status::kConverged) << name(status(model, 4));
      EXPECT_LE(model.gap[4], 1e-12);
      EXPECT_EQ(model.rank_deficient[4], 1);
      EXPECT_NEAR(model.deviance[4], 1.0, 1e-9) << "fewer rows than features: all is explained";
    }
  }
}

// At one small lambda penalised features enter beside unpenalised ones, until the support spans all
// rows. An unpenalised one that comes later was shut out: "precision limit", gap 0.2.
TEST(LargeSupports, TakeInUnpenalisedFeaturesThatComeLate) {
  const EmulatedDevice emulated;
  for (const auto& [device, mode] : places()) {
    for (unsigned seed = 1; seed <= (device == Device::kCpu ? 40 : 8); ++seed) {
      SCOPED_TRACE(std::string(name(device)) + (mode == Mode::kGram ? ", gram" : ", residual") +
                   ", seed " + std::to_string(seed));
      const Table table(seed % 2 == 0 ? 10 : 20, 100, 1, seed);
      Data data = table.data();
      std::vector<double> u(100, 1.0);
      for (unsigned j = 0; j < 1 + seed % 5; ++j) u[90 - 13 * j] = 0.0;
      data.l1_factor = u;
      Options options = small_lambdas(Engine::kActiveSet);
      options.mode = mode;
      options.device = device;
      options.l1_ratio = {1.0};
      options.intercept = seed % 3 != 0;
      const double grid[] = {seed % 4 < 2 ? 1e-2 : 1e-3};
      options.lambda_grid = MatrixView<const double>::row_major(grid, 1, 1);
      const Model model = fit_path(data, options);
      EXPECT_EQ(status(model, 0), Status::kConverged) << name(status(model, 0));
      EXPECT_LE(model.gap[0], 1e-12);
      // It is the same answer as at the end of a path.
      const double path[] = {10.0, 1.0, 0.1, grid[0]};
      options.lambda_grid = MatrixView<const double>::row_major(path, 1, 4);
      const Model slow = fit_path(data, options);
      EXPECT_NEAR(model.objective[0] / slow.objective[3], 1.0, 1e-8);
    }
  }
}

// As many unpenalised columns as rows: lambda_max is rounding, and a grid from it broke down.
TEST(LargeSupports, AGridWhereUnpenalisedColumnsExplainAll) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Index n = 4 + seed % 11;
    const Table table(n, 50, 1, seed);
    Data data = table.data();
    std::vector<double> u(50, 1.0);
    std::fill_n(u.begin(), n, 0.0);
    data.l1_factor = u;
    Options options;
    options.n_lambdas = 5;
    options.early_stop.reset();
    options.intercept = seed % 2 == 0;
    const Model model = fit_path(data, options);
    EXPECT_NEAR(model.lambda[0], 1.0, 1e-6);
    for (Index f = 0; f < 5; ++f) {
      EXPECT_EQ(status(model, f), Status::kConverged) << name(status(model, f));
    }
  }
}

}  // namespace
}  // namespace thresher::testing_library

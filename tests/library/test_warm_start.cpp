// A start changes how a fit is reached, never what it is.

#include <random>

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

struct Setting {
  const char* name;
  Engine engine;
  Mode mode;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class WarmStart : public testing::TestWithParam<Setting> {};

Options options_of(const Setting& setting, std::vector<double>& grid, const Table& table) {
  Options options;
  options.engine = setting.engine;
  options.mode = setting.mode;
  options.n_lambdas = 2;
  options.lambda_min_ratio = 0.05;
  options.early_stop.reset();
  const Model model = fit_path(table.data(), options);
  for (Index r = 0; r < table.n_responses; ++r) grid.push_back(model.lambda[at(2 * r + 1)]);
  options.lambda_grid = MatrixView<const double>::row_major(grid.data(), table.n_responses, 1);
  options.tol = 1e-12;
  return options;
}

void expect_same_answer(const Table& table, const Model& warm, const Model& cold) {
  for (Index r = 0; r < table.n_responses; ++r) {
    SCOPED_TRACE("response " + std::to_string(r));
    EXPECT_TRUE(is_good(status(warm, r))) << name(status(warm, r));
    EXPECT_LE(warm.gap[at(r)], 1e-11);
    EXPECT_NEAR(warm.objective[at(r)] / cold.objective[at(r)], 1.0, 1e-11);
    const std::vector<double> a = coefficients(warm, r), b = coefficients(cold, r);
    for (std::size_t j = 0; j < a.size(); ++j) EXPECT_NEAR(a[j], b[j], 1e-5);
  }
}

TEST_P(WarmStart, AnyStartGivesTheSameAnswer) {
  const Table table(60, 25, 3);
  std::vector<double> grid;
  Options options = options_of(GetParam(), grid, table);
  const Model cold = fit_path(table.data(), options);
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> start(at(25 * 3));
  for (const double scale : {1e-8, 1.0, 1e6}) {
    SCOPED_TRACE("junk of size " + std::to_string(scale));
    for (double& b : start) b = scale * normal(random);
    options.warm_start = MatrixView<const double>::column_major(start.data(), 25, 3);
    const std::vector<double> before = start;
    expect_same_answer(table, fit_path(table.data(), options), cold);
    expect_same_bits(start, before, "warm_start is not written to");
  }
}

TEST_P(WarmStart, TheAnswerAsAStartIsKept) {
  const Table table(60, 25, 3);
  std::vector<double> grid;
  Options options = options_of(GetParam(), grid, table);
  const Model cold = fit_path(table.data(), options);
  std::vector<double> start;
  for (Index r = 0; r < 3; ++r) {
    const std::vector<double> b = coefficients(cold, r);
    start.insert(start.end(), b.begin(), b.end());
  }
  options.warm_start = MatrixView<const double>::column_major(start.data(), 25, 3);
  const Model warm = fit_path(table.data(), options);
  expect_same_answer(table, warm, cold);
  Index warm_iterations = 0, cold_iterations = 0;
  for (Index r = 0; r < 3; ++r) {
    warm_iterations += warm.iterations[at(r)];
    cold_iterations += cold.iterations[at(r)];
  }
  EXPECT_LT(warm_iterations, cold_iterations);
}

TEST_P(WarmStart, RowMajorStartsAndExcludedFeatures) {
  const Table table(60, 25, 3);
  std::vector<double> grid;
  Options options = options_of(GetParam(), grid, table);
  Data data = table.data();
  std::vector<double> factor(25, 1.0);
  factor[0] = std::numeric_limits<double>::infinity();
  data.l1_factor = factor;
  const Model cold = fit_path(data, options);
  const std::vector<double> start(at(25 * 3), 2.0);
  options.warm_start = MatrixView<const double>::row_major(start.data(), 25, 3);
  const Model warm = fit_path(data, options);
  expect_same_answer(table, warm, cold);
  for (Index r = 0; r < 3; ++r) EXPECT_EQ(coefficients(warm, r)[0], 0.0);
}

TEST_P(WarmStart, InCrossValidation) {
  const Table table(60, 25, 3);
  std::vector<double> grid;
  Options options = options_of(GetParam(), grid, table);
  const Model cold = cross_validate(table.data(), options);
  const std::vector<double> start(at(25 * 3), 2.0);
  options.warm_start = MatrixView<const double>::row_major(start.data(), 25, 3);
  const Model warm = cross_validate(table.data(), options);
  for (std::size_t f = 0; f < cold.cv->fold_error.size(); ++f) {
    EXPECT_NEAR(warm.cv->fold_error[f] / cold.cv->fold_error[f], 1.0, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, WarmStart,
                         testing::Values(Setting{"residual", Engine::kActiveSet, Mode::kResidual},
                                         Setting{"gram", Engine::kActiveSet, Mode::kGram},
                                         Setting{"proximal", Engine::kProximalGradient,
                                                 Mode::kAuto},
                                         Setting{"reference", Engine::kReference, Mode::kAuto}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace thresher::testing_library

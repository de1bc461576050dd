// Elastic net paths that end at lambda = 0, where columns lose the L2 terms that made them
// independent.

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

Model path_to_zero(const Data& data, Mode mode, bool intercept) {
  static const std::vector<double> grid = {1.0, 0.3, 0.1, 0.03, 0.01, 0.001, 0.0};
  Options options;
  options.engine = Engine::kActiveSet;
  options.mode = mode;
  options.intercept = intercept;
  options.l1_ratio = {0.5};
  options.early_stop.reset();
  options.threads = 1;
  options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 7);
  return fit_path(data, options);
}

void expect_least_squares(const Model& model) {
  for (const std::uint8_t status : model.status) EXPECT_TRUE(is_good(static_cast<Status>(status)));
  EXPECT_LE(model.gap.back(), 1e-7);
  EXPECT_EQ(model.rank_deficient.back(), 1);
  for (const double b : model.coef_values) EXPECT_TRUE(std::isfinite(b));
}

TEST(LeastSquaresEnd, OfAColumnOfZerosWithoutAnyPenalty) {
  for (const Mode mode : {Mode::kGram, Mode::kResidual}) {
    for (const Index n : {3, 40}) {
      SCOPED_TRACE(n);
      Table table(n, 20, 1);
      for (Index i = 0; i < n; ++i) table.X[at(7 * n + i)] = 0.0;
      std::vector<double> u(20, 1.0);
      u[7] = 0.0;
      Data data = table.data();
      data.l1_factor = u;
      const Model model = path_to_zero(data, mode, false);
      expect_least_squares(model);
      for (const Index j : model.coef_indices) EXPECT_NE(j, 7);
    }
  }
}

TEST(LeastSquaresEnd, OfSmoothColumnsMoreThanRows) {
  for (const Mode mode : {Mode::kGram, Mode::kResidual}) {
    for (const Index n : {5, 8, 11, 13}) {
      SCOPED_TRACE(n);
      Table table(n, 3 * n + 10, 1, static_cast<unsigned>(n));
      for (Index i = 0; i < n; ++i) {
        const double place = table.y(i, 0);
        for (Index j = 0; j < table.p; ++j) {
          double& x = table.X[at(j * n + i)];
          x *= 1e-5;
          for (int q = 1; q <= 3; ++q) {
            x += std::sin(0.1 * q * static_cast<double>(j + 1) + place * (q - 0.7));
          }
        }
        table.y(i, 0) = std::cos(9.0 * static_cast<double>(i * i));
      }
      expect_least_squares(path_to_zero(table.data(), mode, true));
    }
  }
}

TEST(LeastSquaresEnd, OfNothingButZeros) {
  Table table(12, 3, 1);
  std::fill(table.X.begin(), table.X.end(), 0.0);
  const std::vector<double> u(3, 0.0);
  Data data = table.data();
  data.l1_factor = u;
  expect_least_squares(path_to_zero(data, Mode::kGram, false));
}

}  // namespace
}  // namespace thresher::testing_library

// Elastic net paths that end at lambda = 0, where columns lose the L2 terms that made them
// independent.

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

Model path_to_zero(const Data& data, Mode mode, bool intercept, Device device) {
  static const std::vector<double> grid = {1.0, 0.3, 0.1, 0.03, 0.01, 0.001, 0.0};
  Options options;
  options.engine = Engine::kActiveSet;
  options.mode = mode;
  options.device = device;
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
  const EmulatedDevice emulated;
  for (const auto& [device, mode] : places()) {
    for (const Index n : {3, 40}) {
      SCOPED_TRACE(std::string(name(device)) + ", " + std::to_string(n));
      Table table(n, 20, 1);
      for (Index i = 0; i < n; ++i) table.X[at(7 * n + i)] = 0.0;
      std::vector<double> u(20, 1.0);
      u[7] = 0.0;
      Data data = table.data();
      data.l1_factor = u;
      const Model model = path_to_zero(data, mode, false, device);
      expect_least_squares(model);
      for (const Index j : model.coef_indices) EXPECT_NE(j, 7);
    }
  }
}

TEST(LeastSquaresEnd, OfSmoothColumnsMoreThanRows) {
  const EmulatedDevice emulated;
  for (const auto& [device, mode] : places()) {
    for (const Index n : {5, 8, 11, 13}) {
      SCOPED_TRACE(std::string(name(device)) + ", " + std::to_string(n));
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
      expect_least_squares(path_to_zero(table.data(), mode, true, device));
    }
  }
}

// Too close for products of columns, not for the columns: "precision limit", gap 5e-3, it was.
TEST(LeastSquaresEnd, OfColumnsThatNearlyCoincide) {
  const EmulatedDevice emulated;
  for (const auto& [device, mode] : places()) {
    SCOPED_TRACE(name(device));
    Table table(37, 5, 1);
    for (Index i = 0; i < table.n; ++i) {
      for (Index j = 2; j < 4; ++j) {
        double& x = table.X[at(j * table.n + i)];
        x = table.x(i, j - 2) + 1e-7 * x;
      }
    }
    const Model model = path_to_zero(table.data(), mode, true, device);
    EXPECT_EQ(status(model, 6), Status::kConverged);
    EXPECT_LE(model.gap.back(), 1e-9);
    EXPECT_EQ(model.rank_deficient.back(), 0);
    EXPECT_EQ(model.n_nonzero.back(), 5);
  }
}

TEST(LeastSquaresEnd, OfNothingButZeros) {
  Table table(12, 3, 1);
  std::fill(table.X.begin(), table.X.end(), 0.0);
  const std::vector<double> u(3, 0.0);
  Data data = table.data();
  data.l1_factor = u;
  expect_least_squares(path_to_zero(data, Mode::kGram, false, Device::kCpu));
}

}  // namespace
}  // namespace thresher::testing_library

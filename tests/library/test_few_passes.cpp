// Calls that make few passes over X: products straight from X, and no copy of it.

#include "library_case.hpp"
#include "setup/columns.hpp"
#include "setup/thread_pool.hpp"

namespace thresher::testing_library {
namespace {

/// Columns that need care: constant, huge, tiny, with a mean far from 0.
template <class T>
std::vector<T> difficult(const Table& table) {
  std::vector<T> X(table.X.begin(), table.X.end());
  const auto column = [&](Index j) { return X.begin() + j * table.n; };
  std::fill(column(3), column(4), T(2.5));
  for (Index i = 0; i < table.n; ++i) {
    column(5)[i] *= T(1e30);
    column(6)[i] *= T(1e-30);
    column(7)[i] += T(1e5);
  }
  return X;
}

/// Products with z, kept or not, of rows that count and rows that do not.
template <class T>
void expect_same_products(Index n) {
  SCOPED_TRACE(std::to_string(n) + " rows");
  const Table table(n, 150, 1);
  const std::vector<T> X = difficult<T>(table);
  std::vector<std::uint8_t> counts(at(n), 1);
  counts[0] = 0;
  const ThreadPool pool(1);
  const AnyMatrix view = MatrixView<const T>::column_major(X.data(), n, table.p);
  const Columns kept(view, true, counts, pool, true);
  const Columns given(view, true, counts, pool);
  std::vector<T> transposed(X.size());
  for (Index j = 0; j < table.p; ++j) {
    for (Index i = 0; i < n; ++i) transposed[at(i * table.p + j)] = X[at(j * n + i)];
  }
  const Columns strided(MatrixView<const T>::row_major(transposed.data(), n, table.p), true, counts,
                        pool);
  given.column(40);  // one that is kept between others
  std::vector<Index> features;
  for (Index j = table.p - 1; j >= 0; --j) features.push_back(j);
  std::vector<double> as_kept(at(table.p)), as_given(at(table.p)), as_strided(at(table.p));
  kept.dots(features, table.Y.data(), as_kept.data());
  given.dots(features, table.Y.data(), as_given.data());
  strided.dots(features, table.Y.data(), as_strided.data());
  expect_same_bits(as_given, as_kept, "products of columns that are not kept");
  expect_same_bits(as_strided, as_kept, "products of row-major columns");
  EXPECT_FALSE(given.all_built());
  for (std::size_t k = 0; k < features.size(); ++k) {
    const double* x = kept.column(features[k]);
    double sum = 0.0, size = 0.0;
    for (Index i = 0; i < n; ++i) {
      sum += x[i] * table.y(i, 0);
      size += std::fabs(x[i] * table.y(i, 0));
    }
    EXPECT_NEAR(as_given[k], sum, 1e-14 * static_cast<double>(n) * size)
        << "feature " << features[k];
  }
}

TEST(ColumnProducts, AreTheSameBitsWhetherColumnsAreKeptOrNot) {
  for (const Index n : {2, 7, 16, 37, 200}) {
    expect_same_products<double>(n);
    expect_same_products<float>(n);
  }
}

/// One lambda needs too few passes for a half-precision copy; the same lambda at the end of a grid
/// comes from one.
TEST(FewPasses, FindTheFitOfAWholePath) {
  const Table table(60, 400, 1);
  for (const double l1_ratio : {1.0, 0.5}) {
    Options options;
    options.l1_ratio = {l1_ratio};
    options.tol = 1e-12;
    std::vector<double> grid;
    for (int l = 0; l < 12; ++l) grid.push_back(1.5 * std::pow(0.8, l));
    options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 12);
    const Model path = fit_path(table.data(), options);
    options.lambda_grid = MatrixView<const double>::row_major(grid.data() + 11, 1, 1);
    const Plan plan = plan_path(table.data(), options);
    const Model one = fit_path(table.data(), options);
    EXPECT_EQ(status(one, 0), Status::kConverged);
    EXPECT_GT(one.n_nonzero[0], 10);
    EXPECT_LE(one.gap[0], 1e-12);
    expect_close(coefficients(one, 0), coefficients(path, 11), 1e-6, "coefficients");
    options.lambda_grid = {};
    options.n_lambdas = 12;
    EXPECT_GT(plan_path(table.data(), options).bytes, plan.bytes + at(60 * 400 * 2));
  }
}

/// lambda_max too is found with and without a copy.
TEST(FewPasses, FindTheSameLambdaMax) {
  const Table table(50, 300, 1);
  Options options;
  options.n_lambdas = 2;
  options.lambda_min_ratio = 0.5;
  const Model model = fit_path(table.data(), options);
  EXPECT_EQ(model.n_nonzero[0], 0);
  options.n_lambdas = 30;
  const Model by_panels = fit_path(table.data(), options);
  EXPECT_NEAR(model.lambda[0], by_panels.lambda[0], 1e-13 * model.lambda[0]);
}

}  // namespace
}  // namespace thresher::testing_library

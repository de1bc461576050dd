#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "backend/cpu_working_set_backend.hpp"
#include "backend/gram_pass.hpp"
#include "library_case.hpp"

namespace thresher {
namespace {

using testing_library::at;

struct Shape {
  const char* name;
  bool weights = false;
  bool intercept = true;
  double l1_ratio = 1.0;
  double noise = 1.0;
  bool row_major = false;
  double last = 0.05;  // of lambda_max
  bool stays_small = true;
  Index rows = 2500;  // more than two chunks
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

/// One response on all rows, most features without a part in it.
struct Path {
  static constexpr Index kFeatures = 300;
  static constexpr Index kLambdas = 40;

  explicit Path(const Shape& shape, int threads = 1)
      : n_rows(shape.rows), X(at(n_rows * kFeatures)), pool(threads) {
    std::mt19937_64 random(11);
    std::normal_distribution<double> normal;
    std::vector<double> y(at(n_rows)), weight(at(n_rows), 1.0);
    for (Index j = 0; j < kFeatures; ++j) {
      const double mean = j % 7 == 0 ? 1e3 : 0.2;
      for (Index i = 0; i < n_rows; ++i) {
        const double before = j > 0 ? X[at((j - 1) * n_rows + i)] - (j % 7 == 1 ? 1e3 : 0.2) : 0.0;
        X[at(j * n_rows + i)] = 0.6 * before + normal(random) + mean;
      }
    }
    for (Index i = 0; i < n_rows; ++i) {
      y[at(i)] = shape.noise * normal(random) + 3.0;
      for (Index j = 0; j < kFeatures; j += 16) y[at(i)] += X[at(j * n_rows + i)];
      if (shape.weights) weight[at(i)] = i % 9 == 4 ? 0.0 : 1.0 + 0.5 * std::sin(double(i));
    }
    Data data;
    data.X = MatrixView<const double>::column_major(X.data(), n_rows, kFeatures);
    std::vector<double> rows_first;
    if (shape.row_major) {
      rows_first.resize(X.size());
      for (Index i = 0; i < n_rows; ++i) {
        for (Index j = 0; j < kFeatures; ++j) {
          rows_first[at(i * kFeatures + j)] = X[at(j * n_rows + i)];
        }
      }
      X = std::move(rows_first);
      data.X = MatrixView<const double>::row_major(X.data(), n_rows, kFeatures);
    }
    std::vector<double> factor(at(kFeatures), 1.0);
    factor[32] = std::numeric_limits<double>::infinity();
    data.l1_factor = factor;
    Options options;
    options.intercept = shape.intercept;
    columns = std::make_unique<Columns>(data.X, shape.intercept, std::vector<std::uint8_t>{}, pool,
                                        shape.row_major);
    problem.l1_ratio = shape.l1_ratio;
    problem.intercept = shape.intercept;
    problem.rows = make_row_weightings(*columns, {weight}, pool).front();
    problem.penalties = make_penalties(data, options, *columns, *problem.rows);
    problem.y = std::make_shared<Response>(
        make_response(y, std::vector<double>(at(n_rows), 1.0), shape.intercept));
    finish_problem(*columns, problem);
    problem.lambda = log_grid(0.95 * lambda_max(*columns, problem), shape.last, kLambdas);
  }

  struct Solved {
    std::vector<CandidateReport> reports;
    std::vector<Harvest> fits;
  };

  Solved solve(GramBackend& backend, Index stretch = kLambdas / 2) const {
    const Index slot = 0;
    const Problem* loaded = &problem;
    backend.load({&slot, 1}, {&loaded, 1});
    Solved out;
    for (Index first = 0; first < kLambdas; first += stretch) {
      const PathBlock block{0, first, stretch};
      backend.choose_working_sets({&block, 1});
      backend.solve_working_sets({&block, 1}, 10'000);
      backend.correlate({&block, 1});
      std::vector<CandidateReport> reports(at(block.count));
      backend.certify({&block, 1}, reports);
      out.reports.insert(out.reports.end(), reports.begin(), reports.end());
      for (Index k = 0; k < block.count; ++k) out.fits.push_back(backend.harvest(0, k, false));
      backend.advance(0, block.count - 1);
    }
    return out;
  }

  Index n_rows;
  std::vector<double> X;
  ThreadPool pool;
  std::unique_ptr<Columns> columns;
  Problem problem;
};

class GrowingGram : public testing::TestWithParam<Shape> {};

TEST_P(GrowingGram, HasTheCertifiedFitsOfTheWholeMatrix) {
  const Path path(GetParam());
  GramMatrix growing(path.problem.rows, Path::kFeatures);
  GramBackend backend(*path.columns, growing, path.pool, Path::kLambdas, 1e-9);
  const Path::Solved got = path.solve(backend);
  const std::vector<GramMatrix> all =
      make_gram_matrices(*path.columns, {path.problem.rows}, path.pool);
  GramBackend whole(*path.columns, all, path.pool, Path::kLambdas, 1e-9);
  const Path::Solved want = path.solve(whole);
  EXPECT_EQ(growing.place[32], -1);
  EXPECT_TRUE(!GetParam().stays_small || growing.size() < Path::kFeatures / 2) << growing.size();
  for (Index k = 0; k < Path::kLambdas; ++k) {
    const double lambda = path.problem.lambda[at(k)];
    const Harvest& fit = got.fits[at(k)];
    EXPECT_LE(got.reports[at(k)].gap, 1e-9) << k;
    // From X, y and the coefficients alone, over all features.
    const Fit exact = certify(*path.columns, path.problem, lambda, fit.coef, 1.0, false);
    EXPECT_LE(exact.gap, got.reports[at(k)].gap + 1e-12) << k;
    EXPECT_NEAR(
        sums_of_residual(path.problem, residual(*path.columns, path.problem, fit.coef)).loss,
        fit.sums.loss, 1e-10 * fit.sums.loss)
        << k;
    ASSERT_EQ(fit.coef.size(), want.fits[at(k)].coef.size()) << k;
    double largest = 0.0;
    for (const auto& [j, b] : fit.coef) largest = std::max(largest, std::fabs(b));
    for (std::size_t m = 0; m < fit.coef.size(); ++m) {
      ASSERT_EQ(fit.coef[m].first, want.fits[at(k)].coef[m].first) << k;
      EXPECT_NEAR(fit.coef[m].second, want.fits[at(k)].coef[m].second, 1e-9 * largest) << k;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, GrowingGram,
    testing::Values(Shape{"lasso"}, Shape{.name = "row_weights", .weights = true},
                    Shape{.name = "no_intercept", .intercept = false},
                    Shape{.name = "elastic_net", .l1_ratio = 0.5, .stays_small = false},
                    Shape{.name = "no_noise", .noise = 0.0},
                    Shape{.name = "row_major", .row_major = true},
                    Shape{.name = "all_features_in_the_end", .last = 1e-4, .stays_small = false}),
    [](const auto& given) { return std::string(given.param.name); });

// A feature that has nothing to do with the residuals of two measured fits, but with those of the
// fit between them. Columns are orthogonal, so fits are soft thresholds: residuals of the first
// four features are (.53 .51 .5 .49), (.5 .5 .5 .49) and (.48 .48 .48 .48).
TEST(GrowingGram, BoundsWhatAFitBetweenMeasuredOnesMayHide) {
  constexpr Index kSize = 8;
  constexpr Index kHidden = 4;
  std::vector<double> X(at(kSize * kSize)), y(at(kSize));
  const auto value = [&](Index j, Index i) -> double& { return X[at(j * kSize + i)]; };
  for (Index i = 0; i < kSize; ++i) {
    for (Index j = 0; j < kSize; ++j) value(j, i) = std::popcount(unsigned(i & j)) % 2 ? -1.0 : 1.0;
    y[at(i)] = value(0, i) + 0.51 * value(1, i) + 0.5 * value(2, i) + 0.49 * value(3, i);
    value(kHidden, i) = (value(1, i) - 2.0 * value(2, i) + value(3, i)) / std::sqrt(6.0);
  }
  Data data;
  data.X = MatrixView<const double>::column_major(X.data(), kSize, kSize);
  std::vector<double> factor(at(kSize), 1.0);
  factor[kHidden] = 0.004;  // its correlation in the middle is 0.0041
  data.l1_factor = factor;
  Options options;
  options.intercept = false;
  const ThreadPool pool(1);
  const std::vector<double> ones(at(kSize), 1.0);
  const Columns columns(data.X, false, {}, pool);
  Problem problem;
  problem.intercept = false;
  problem.rows = make_row_weightings(columns, {ones}, pool).front();
  problem.penalties = make_penalties(data, options, columns, *problem.rows);
  problem.y = std::make_shared<Response>(make_response(y, ones, false));
  finish_problem(columns, problem);
  problem.lambda = {0.53, 0.5, 0.48};
  for (Index j = 0; j < 4; ++j) problem.start.emplace_back(j, 0.01);

  GramMatrix growing(problem.rows, kSize);
  GramBackend backend(columns, growing, pool, 3, 1e-9);
  const Index slot = 0;
  const Problem* loaded = &problem;
  backend.load({&slot, 1}, {&loaded, 1});
  const PathBlock block{0, 0, 3};
  backend.choose_working_sets({&block, 1});
  backend.solve_working_sets({&block, 1}, 1000);
  backend.correlate({&block, 1});
  EXPECT_EQ(growing.size(), 5);
  EXPECT_GE(growing.place[kHidden], 0);
  for (Index k = 0; k < 3; ++k) {
    const Harvest fit = backend.harvest(0, k, false);
    EXPECT_LE(certify(columns, problem, problem.lambda[at(k)], fit.coef, 1.0, false).gap, 1e-12);
  }
}

TEST(GrowingGram, ThreadsGiveTheSameBits) {
  Path::Solved solved[2];
  for (int t = 0; t < 2; ++t) {
    const Path path({.name = "many_rows", .rows = 20'000}, t + 1);
    GramMatrix growing(path.problem.rows, Path::kFeatures);
    GramBackend backend(*path.columns, growing, path.pool, Path::kLambdas, 1e-9);
    solved[t] = path.solve(backend);
  }
  for (Index k = 0; k < Path::kLambdas; ++k) {
    EXPECT_EQ(solved[0].fits[at(k)].coef, solved[1].fits[at(k)].coef) << k;
    EXPECT_EQ(solved[0].reports[at(k)].gap, solved[1].reports[at(k)].gap) << k;
  }
}

TEST(GrowingGram, MatrixIsTheSameHoweverItGrew) {
  const Path path({.name = "row_weights", .weights = true});
  const GramMatrix all =
      std::move(make_gram_matrices(*path.columns, {path.problem.rows}, path.pool).front());
  GramMatrix growing(path.problem.rows, Path::kFeatures);
  extend(*path.columns, {&growing, 1}, std::vector<Index>{5, 100, 3}, path.pool);
  extend(*path.columns, {&growing, 1}, std::vector<Index>{4}, path.pool);
  extend(*path.columns, {&growing, 1}, std::vector<Index>{0, 299, 77, 6}, path.pool);
  ASSERT_EQ(growing.size(), 8);
  for (Index a = 0; a < growing.size(); ++a) {
    for (Index b = 0; b < growing.size(); ++b) {
      const Index j = growing.features[at(a)], k = growing.features[at(b)];
      const double scale = std::sqrt(all.column(j)[j] * all.column(k)[k]);
      EXPECT_NEAR(growing.column(a)[b], all.column(j)[k], 1e-12 * scale) << j << " " << k;
    }
  }
}

// Violators at the start of a path are many more than will have a part in it.
TEST(GrowingGram, ASampleOfRowsTellsWhoEnters) {
  const Path path({.name = "many_rows", .noise = 10.0, .rows = 20'000});
  GramMatrix growing(path.problem.rows, Path::kFeatures);
  GramBackend backend(*path.columns, growing, path.pool, Path::kLambdas, 1e-9);
  const Path::Solved got = path.solve(backend, Path::kLambdas);
  std::vector<std::uint8_t> used(at(Path::kFeatures), 0);
  for (const Harvest& fit : got.fits) {
    for (const auto& [j, b] : fit.coef) used[at(j)] = 1;
  }
  const auto n_used = std::count(used.begin(), used.end(), 1);
  EXPECT_LE(growing.size(), n_used + n_used / 8) << n_used;
  for (const CandidateReport& report : got.reports) EXPECT_LE(report.gap, 1e-9);
}

TEST(GrowingGram, ASampleStandsForAllRows) {
  const Path path({.name = "row_weights", .weights = true});
  const std::vector<Index> features{5, 100, 3};
  GramMatrix sample(path.problem.rows, Path::kFeatures);
  extend(*path.columns, {&sample, 1}, features, path.pool, 2);
  GramRows rows(*path.columns, *path.problem.rows);
  // Every other chunk; the last of all, which is one of them, is short.
  ASSERT_TRUE(rows.n_rows() / kGramRows % 2 == 0 && rows.n_rows() % kGramRows != 0);
  std::vector<double> buffer(at(3 * kGramRows));
  for (Index a = 0; a < 3; ++a) {
    for (Index b = 0; b < 3; ++b) {
      double sum = 0.0;
      Index n_read = 0;
      for (Index first = 0; first < rows.n_rows(); first += 2 * kGramRows) {
        const Index m = std::min(kGramRows, rows.n_rows() - first);
        n_read += m;
        const GramRows::Block x = rows.read(first, m, features, buffer.data());
        for (Index i = 0; i < m; ++i)
          sum += x.values[a * x.stride + i] * x.values[b * x.stride + i];
      }
      sum *= static_cast<double>(rows.n_rows()) / static_cast<double>(n_read);
      EXPECT_NEAR(sample.column(a)[b], sum, 1e-12 * sample.column(a)[a]);
    }
  }
}

// Residuals far from 1 must neither lose nor overflow what float holds.
TEST(GramPass, OutsideCorrelationsAreWithinTheirBound) {
  const Path path({.name = "many_rows", .weights = true, .rows = 20'000});  // five chunks
  for (const double size : {1.0, 1e-30, 1e-120, 1e120}) {
    const RowWeighting& rows = *path.problem.rows;
    GramRows weighed(*path.columns, rows);
    std::vector<double> response, r(at(path.n_rows));
    double squares = 0.0;
    for (std::size_t t = 0; t < rows.rows.size(); ++t) {
      const auto i = at(rows.rows[t]);
      r[i] = size * (path.problem.y->value[i] - path.problem.y_mean);
      response.push_back(weighed.root(static_cast<Index>(t)) * r[i]);
      squares += response.back() * response.back();
    }
    std::vector<Index> outside;
    for (Index j = 0; j < Path::kFeatures; ++j) outside.push_back(j);
    const std::vector<double> norms{std::sqrt(squares)};
    const PassResult told = read_through(
        *path.columns, rows, {response, {}, {}, {}, norms, outside, 1, false}, path.pool);
    double closest = 0.0;
    for (const Index j : outside) {
      std::vector<double> x(at(path.n_rows));
      rows.centred_column(*path.columns, j, x.data());
      long double exact = 0, norm = 0;
      for (const Index i : rows.rows) {
        exact += static_cast<long double>(rows.weight[at(i)]) * x[at(i)] * r[at(i)];
        norm += static_cast<long double>(rows.weight[at(i)]) * x[at(i)] * x[at(i)];
      }
      const double bound = told.error(static_cast<double>(std::sqrt(norm)), 0);
      const double error = static_cast<double>(std::fabs(told.outside[at(j)] - exact));
      EXPECT_LE(error, bound) << size << " " << j;
      closest = std::max(closest, error / bound);
      EXPECT_LE(bound, 1e-4 * std::sqrt(static_cast<double>(norm) * squares)) << size << " " << j;
    }
    EXPECT_GT(closest, 1e-4) << size;  // the bound is of the error that is made
  }
}

}  // namespace
}  // namespace thresher

// Gram rows of the active set in single precision (docs/decisions/0014).

#include "backend/float_columns.hpp"
#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

TEST(RoundedProducts, AreThoseOfTheColumnsInTheirPlaces) {
  const Index n = 700, count = 75;
  const Table table(n, count, 1);
  std::vector<const double*> x;
  std::vector<Index> places;
  for (Index k = 0; k < count; ++k) {
    x.push_back(table.X.data() + k * n);
    places.push_back(k * 17 % 101);  // some places stay free
  }
  FloatColumns columns(n);
  const std::span<const Index> where = places;
  columns.put(where.subspan(0, 40), x.data());
  columns.put(where.subspan(40), x.data() + 40);
  for (const Index first : {0, 40, 62, 74}) {
    const Index ld = count + 3;
    std::vector<double> gram(at(ld * (count - first)));
    columns.cross(where, first, gram.data(), ld);
    for (Index c = first; c < count; ++c) {
      for (Index k = 0; k < count; ++k) {
        double want = 0.0;
        for (Index i = 0; i < n; ++i) want += table.x(i, c) * table.x(i, k);
        EXPECT_NEAR(gram[at((c - first) * ld + k)] / want, 1.0, 1e-6) << k << " and " << c;
      }
    }
  }
}

constexpr Index kRows = 60'000, kFeatures = 200;

Model solve(const Data& data, Mode mode) {
  Options options;
  options.engine = Engine::kActiveSet;
  options.mode = mode;
  options.n_lambdas = 12;
  options.lambda_min_ratio = 1e-4;
  options.early_stop.reset();
  return fit_path(data, options);
}

/// Against Gram mode, whose matrix is in double. The support has to outgrow 64 MB of columns.
Model expect_gram_mode(const Table& table) {
  const Model rounded = solve(table.data(), Mode::kResidual);
  const Model exact = solve(table.data(), Mode::kGram);
  for (Index f = 0; f < 12; ++f) {
    SCOPED_TRACE("lambda " + std::to_string(f));
    EXPECT_EQ(status(rounded, f), Status::kConverged) << name(status(rounded, f));
    EXPECT_LE(rounded.gap[at(f)], 1e-10);
    expect_close(coefficients(rounded, f), coefficients(exact, f), 1e-5, "coefficients");
  }
  EXPECT_GT(rounded.n_nonzero.back(), 150) << "the case does not reach what it is there for";
  return rounded;
}

TEST(RoundedProducts, MakeNoDifferenceToAPath) {
  const Model model = expect_gram_mode(Table(kRows, kFeatures, 1));
  // Wrong products would take refinements until they are given up.
  for (Index f = 0; f < 12; ++f) EXPECT_LE(model.iterations[at(f)], 8) << "lambda " << f;
}

// Columns that are nearly, or quite, what others are: single precision cannot tell.
TEST(RoundedProducts, AreGivenUpWhereColumnsAreNearlyDependent) {
  Table table(kRows, kFeatures, 1, 2);
  for (Index j = 150; j < kFeatures; ++j) {
    const double noise = j % 2 == 0 ? 0.0 : j % 3 == 0 ? 1e-3 : 1e-5;
    for (Index i = 0; i < kRows; ++i) {
      double& x = table.X[at(j * kRows + i)];
      x = table.x(i, j - 100) + noise * x;
    }
  }
  for (Index i = 0; i < kRows; ++i) {
    for (Index j = 101; j < kFeatures; j += 2) {
      table.y(i, 0) += 0.3 * table.x(i, j) - 0.2 * table.x(i, j - 100);
    }
  }
  const Model rounded = solve(table.data(), Mode::kResidual);
  const Model exact = solve(table.data(), Mode::kGram);
  EXPECT_GT(rounded.n_nonzero.back(), 140);
  for (Index f = 0; f < 12; ++f) {
    SCOPED_TRACE("lambda " + std::to_string(f));
    EXPECT_EQ(status(rounded, f), Status::kConverged) << name(status(rounded, f));
    EXPECT_LE(rounded.gap[at(f)], 1e-10);
    EXPECT_NEAR(rounded.objective[at(f)] / exact.objective[at(f)], 1.0, 1e-9);
  }
}

}  // namespace
}  // namespace thresher::testing_library

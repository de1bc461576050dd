// Gram rows, residuals and gradients of the active set in single precision (docs/decisions/0014).

#include <numeric>

#include "backend/active_set.hpp"
#include "backend/float_columns.hpp"
#include "problem_case.hpp"

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

// Sums are held against sums of magnitudes, which bound what rounding may do.
TEST(RoundedProducts, CombineAndCorrelateWithinTheirBounds) {
  const Index n = 1500, count = 300;  // ten panels: more than are combined at a time
  const Table table(n, count, 1);
  std::vector<const double*> x;
  std::vector<Index> places;
  for (Index k = 0; k < count; ++k) {
    x.push_back(table.X.data() + k * n);
    places.push_back((k * 7 + 3) % count);
  }
  FloatColumns columns(n);
  columns.put(places, x.data());
  ASSERT_GE(columns.n_places(), count);
  std::vector<double> b(at(columns.n_places()), 0.0), r(at(n), 2.0), c(b.size());
  for (Index k = 0; k < count; ++k) b[at(places[at(k)])] = std::sin(static_cast<double>(k));
  columns.combine(b.data(), r.data());
  for (Index i = 0; i < n; ++i) {
    double want = 2.0, size = 0.0;
    for (Index k = 0; k < count; ++k) {
      const double term = table.x(i, k) * std::sin(static_cast<double>(k));
      want += term;
      size += std::fabs(term);
    }
    ASSERT_NEAR(r[at(i)], want, FloatColumns::kCombined * size) << "row " << i;
  }
  columns.correlate(r.data(), c.data());
  for (Index k = 0; k < count; ++k) {
    double want = 0.0, size = 0.0;
    for (Index i = 0; i < n; ++i) {
      want += table.x(i, k) * r[at(i)];
      size += std::fabs(table.x(i, k) * r[at(i)]);
    }
    ASSERT_NEAR(c[at(places[at(k)])], want, FloatColumns::kCorrelated * size) << "column " << k;
  }
}

// 48 MB of columns.
constexpr Index kMany = 50'000, kWidth = 120, kHeldOut = 500;

/// r after steps in which features come, go and take each other's place, against r from scratch.
TEST(RoundedProducts, ResidualAndGradientFollowTheCoefficients) {
  const ProblemCase c(kMany, kWidth, 1.0, kHeldOut);
  const Columns& columns = c.columns;
  const Problem& problem = c.problem;
  ResidualProducts products(columns, problem);
  std::vector<Index> active;
  std::vector<double> coef, gram(at(kWidth * kWidth));
  const auto enter = [&](Index first, Index count) {
    std::vector<Index> features(at(count));
    std::iota(features.begin(), features.end(), first);
    active.insert(active.end(), features.begin(), features.end());
    coef.resize(active.size(), 0.0);
    return products.enter(features, gram.data(), kWidth, true);
  };
  double moved = 0.0;  // no more than this
  const auto leave = [&](Index position) {
    products.leave(position);
    active.erase(active.begin() + position);
    moved += std::fabs(coef[at(position)]);
    coef.erase(coef.begin() + position);
  };
  /// Moves the coefficients, and looks at r and the gradient; returns whether r was rounded.
  Index step = 0;
  const auto moves_and_is_rounded = [&](double by) {
    SCOPED_TRACE("step " + std::to_string(++step));
    double size = 0.0;
    for (std::size_t k = 0; k < coef.size(); ++k) {
      coef[k] += by * std::cos(static_cast<double>(k) + 5.0 * by);
      size += std::fabs(coef[k]);
    }
    moved += by * static_cast<double>(coef.size());
    products.set_coef(coef, true);
    const bool rounded = products.residual_is_rounded();
    std::vector<double> g(active.size()), g_exact(active.size()), r, exact;
    products.gradient_active(g.data());
    products.residual(r);
    ResidualProducts fresh(columns, problem);
    fresh.append(active);
    fresh.set_coef(coef);
    fresh.gradient_active(g_exact.data());
    fresh.residual(exact);
    // Columns lie in [-1, 1].
    const double error = rounded ? 1e-6 * moved : 1e-13 * size;
    for (Index i = 0; i < kMany; ++i) EXPECT_NEAR(r[at(i)], exact[at(i)], error) << "row " << i;
    for (std::size_t k = 0; k < g.size(); ++k) EXPECT_NEAR(g[k], g_exact[k], error) << k;
    return rounded;
  };

  EXPECT_TRUE(enter(0, 90));
  EXPECT_FALSE(moves_and_is_rounded(1.0));
  EXPECT_FALSE(enter(90, 10));
  EXPECT_FALSE(moves_and_is_rounded(1e-2)) << "the first time there is nothing to follow";
  EXPECT_TRUE(moves_and_is_rounded(1e-2));
  leave(40);
  leave(7);
  EXPECT_TRUE(moves_and_is_rounded(1e-3));
  EXPECT_FALSE(enter(100, 4));
  EXPECT_TRUE(moves_and_is_rounded(1e-3));
  leave(80);
  EXPECT_FALSE(enter(104, 1));
  EXPECT_FALSE(moves_and_is_rounded(1e-3)) << "a column was overwritten that r had";
  EXPECT_FALSE(moves_and_is_rounded(1e-9)) << "no more than double rounds";
  // The newest column changes for another one in the same place: gradients must not follow.
  coef.back() = 0.0;
  products.set_coef(coef);
  std::vector<double> g(active.size());
  products.gradient_active(g.data());
  leave(static_cast<Index>(active.size()) - 1);
  EXPECT_FALSE(enter(105, 1));
  EXPECT_FALSE(moves_and_is_rounded(1e-12));
}

TEST(RoundedProducts, NoneAreLeftInAnAnswer) {
  const ProblemCase c(kMany, kWidth, 1.0, kHeldOut);
  std::vector<Index> features(at(kWidth));
  std::iota(features.begin(), features.end(), Index{0});
  ResidualProducts products(c.columns, c.problem);
  ActiveSet solver(c.columns, c.problem, products, &products);
  const double start = lambda_max(c.columns, c.problem);
  Index n_rounded = 0;
  for (const double share : {6e-3, 2e-3, 1.2e-3, 6e-4, 2e-4}) {
    SCOPED_TRACE(share);
    const Index before = static_cast<Index>(solver.active().size());
    EXPECT_TRUE(solver.solve(share * start, features, 1000).exact);
    EXPECT_FALSE(products.residual_is_rounded());
    std::vector<double> coef, r, exact;
    for (const auto& [j, b] : solver.coef()) coef.push_back(b);
    ResidualProducts fresh(c.columns, c.problem);
    std::vector<Index> active = solver.active();
    std::sort(active.begin(), active.end());
    ASSERT_EQ(active.size(), coef.size());
    fresh.append(active);
    fresh.set_coef(coef);
    fresh.residual(exact);
    products.residual(r);
    for (Index i = 0; i < kMany; ++i) ASSERT_NEAR(r[at(i)], exact[at(i)], 1e-13);
    if (before * kMany * 8 > 32 << 20) ++n_rounded;
  }
  EXPECT_GT(n_rounded, 1) << "the case does not reach what it is there for";
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

/// Against Gram mode, whose matrix is in double. The support has to outgrow 32 MB of columns.
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

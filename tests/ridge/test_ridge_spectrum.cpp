#include "engines/ridge_spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "backend/accelerator.hpp"
#include "backend/spectrum_backend.hpp"
#include "cpu_spectrum_verbs.hpp"
#include "engines/ridge_nodes.hpp"
#include "engines/ridge_system.hpp"
#include "ridge_case.hpp"
#include "setup/certificate.hpp"
#include "test_device.hpp"

namespace thresher {
namespace {

using namespace testing_ridge;
using testing_device::TestDevice;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The engine on every device there is.
class RidgeSpectrum : public testing::TestWithParam<const char*> {
 protected:
  RidgeSpectrum() : device_(GetParam()) {}

  void SetUp() override {
    if (!device_.there()) GTEST_SKIP() << GetParam() << ": " << device_.why_not();
    accelerator = device_.accelerator();
  }
  void TearDown() override {
    accelerator = nullptr;
    device_.check();
  }

 private:
  TestDevice device_;
};

INSTANTIATE_TEST_SUITE_P(Devices, RidgeSpectrum, testing::Values("cpu", "cuda"),
                         [](const auto& device) { return std::string(device.param); });

/// Every full-data fit against elimination in long double, and its gap recomputed by certify.
void expect_exact(const Case& c, double tol = 1e-12) {
  const Solved solved = solve(c);
  EXPECT_TRUE(solved.answers.in_order);
  const std::vector<double> weight = all_weights(c);
  Stage s = set_up(c, 1);
  for (Index r = 0; r < c.n_responses; ++r) {
    const double p0 = null_loss(c, r, weight);
    for (std::size_t l = 0; l < c.lambda.size(); ++l) {
      SCOPED_TRACE("response " + std::to_string(r) + " lambda " + std::to_string(c.lambda[l]));
      const Fit& fit = solved.fit(-1, r, static_cast<Index>(l));
      const Exact exact = exact_ridge(c, r, weight, penalty_of(c, c.lambda[l], weight));
      EXPECT_EQ(fit.status, Status::kConverged);
      EXPECT_EQ(fit.engine, Engine::kRidge);
      EXPECT_FALSE(fit.rank_deficient);
      EXPECT_GE(fit.gap, 0.0);
      EXPECT_LE(fit.gap, tol);
      EXPECT_NEAR(fit.objective, static_cast<double>(exact.objective), 1e-11 * p0);
      std::vector<double> coef(at(c.p), 0.0);
      for (const auto& [j, b] : fit.coef) coef[at(j)] = b;
      Real size = 0.0L;
      for (Index i = 0; i < c.n; ++i) size = std::max(size, std::fabs(exact.fitted(c, i)));
      for (Index i = 0; i < c.n; ++i) {
        Real value = fit.intercept;
        for (Index j = 0; j < c.p; ++j) value += static_cast<Real>(coef[at(j)]) * c.x(i, j);
        EXPECT_NEAR(static_cast<double>(value), static_cast<double>(exact.fitted(c, i)),
                    1e-8 * static_cast<double>(size));
      }
      // The certificate of another piece of code, from the coefficients that were handed over.
      const Problem& problem = s.problems[at(r)];
      SparseCoef hat;
      for (const auto& [j, b] : fit.coef) {
        hat.emplace_back(j, std::ldexp(b, s.columns->exponent(j) - problem.y->exponent));
      }
      const Fit again = certify(*s.columns, problem, c.lambda[l], hat, 1e-7, false);
      EXPECT_LE(again.gap, 10.0 * tol);
      EXPECT_NEAR(again.objective, fit.objective, 1e-12 * p0);
    }
  }
}

Case with_lambdas(Case c, std::vector<double> lambda) {
  c.lambda = std::move(lambda);
  return c;
}

TEST_P(RidgeSpectrum, MatchesEliminationColumnSpace) {
  expect_exact(with_lambdas(random_case(40, 8, 2, 1), {100.0, 1.0, 1e-3, 1e-8}));
}

TEST_P(RidgeSpectrum, MatchesEliminationRowSpace) {
  expect_exact(with_lambdas(random_case(15, 25, 3, 2), {100.0, 1.0, 1e-3, 1e-6}));
}

TEST_P(RidgeSpectrum, WeightsAndZeroWeights) {
  for (const Index p : {6, 40}) {
    Case c = with_lambdas(random_case(20, p, 2, 3), {3.0, 0.02});
    for (Index i = 0; i < c.n; ++i) c.weight.push_back(static_cast<double>(i % 4) * 0.7);
    for (Index i = 0; i < c.n; i += 4) c.Y[at(i)] = 1e6;
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, WithoutIntercept) {
  for (const Index p : {6, 40}) {
    Case c = with_lambdas(random_case(20, p, 2, 4), {3.0, 0.02});
    c.intercept = false;
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, ExcludedFeaturesAlone) {
  for (const Index p : {7, 40}) {
    Case c = with_lambdas(random_case(20, p, 2, 39), {3.0, 0.02});
    c.v.assign(at(p), 1.0);
    c.v[3] = kInfinity;
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, FactorsUnpenalisedExcludedAndOwnRidge) {
  for (const Index p : {7, 40}) {
    for (const bool intercept : {true, false}) {
      Case c = with_lambdas(random_case(20, p, 2, 5), {3.0, 0.02});
      c.intercept = intercept;
      for (Index j = 0; j < p; ++j) {
        c.v.push_back(0.5 + static_cast<double>(j % 3));
        c.d.push_back(0.0);
      }
      c.v[0] = 0.0;  // unpenalised
      c.v[2] = 0.0;  // own ridge only
      c.d[2] = 0.3;
      c.v[3] = kInfinity;     // excluded
      c.v[5] = c.d[5] = 0.0;  // unpenalised
      expect_exact(c);
    }
  }
}

TEST_P(RidgeSpectrum, FixedRidgeBesideLambda) {
  for (const Index p : {7, 60}) {  // 60: one system per lambda
    Case c = with_lambdas(random_case(20, p, 2, 6), {3.0, 0.5, 0.02});
    for (Index j = 0; j < p; ++j) {
      c.v.push_back(1.0 + static_cast<double>(j % 3));
      c.d.push_back(j % 4 == 0 ? 0.0 : 0.1 * static_cast<double>(j));
    }
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, FixedRidgeThatIsAMultipleShiftsLambda) {
  for (const Index p : {7, 60}) {
    Case c = with_lambdas(random_case(20, p, 1, 7), {3.0, 0.02, 0.0});
    for (Index j = 0; j < p; ++j) {
      c.v.push_back(1.0 + static_cast<double>(j % 3));
      c.d.push_back(0.125 * c.v.back());
    }
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, StandardizeAndDropout) {
  for (const Index p : {7, 60}) {
    Case c = with_lambdas(random_case(20, p, 2, 8), {3.0, 0.02});
    c.standardize = true;
    expect_exact(c);
    c.dropout = 0.3;
    expect_exact(c);
    c.standardize = false;
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, ExtremeScales) {
  for (const double scale : {1e-150, 1e-4, 1e150}) {
    for (const Index p : {6, 30}) {
      Case c = with_lambdas(random_case(20, p, 1, 9), {0.5, 0.01});
      const Solved plain = solve(c);
      Case scaled = c;
      for (double& x : scaled.X) x *= scale;
      for (double& lam : scaled.lambda) lam *= scale;
      scaled.v.assign(at(p), scale);
      const Solved again = solve(scaled);
      for (Index l = 0; l < 2; ++l) {
        const Fit& a = plain.fit(-1, 0, l);
        const Fit& b = again.fit(-1, 0, l);
        EXPECT_EQ(b.status, Status::kConverged);
        EXPECT_NEAR(b.objective, a.objective, 1e-12 * a.objective);
        ASSERT_EQ(a.coef.size(), b.coef.size());
        for (std::size_t k = 0; k < a.coef.size(); ++k) {
          EXPECT_NEAR(b.coef[k].second * scale, a.coef[k].second, 1e-9);
        }
      }
    }
  }
}

// Everything else of such a fit is finite.
TEST_P(RidgeSpectrum, CoefficientsThatOverflowAreReported) {
  for (const Index p : {6, 30}) {
    Case c = with_lambdas(random_case(20, p, 2, 41), {0.5e-160, 0.01e-160});
    for (double& x : c.X) x *= 1e-160;
    for (Index i = 0; i < c.n; ++i) c.Y[at(i)] *= 1e151;
    c.v.assign(at(p), 1e-160);
    const Solved solved = solve(c);
    for (Index l = 0; l < 2; ++l) {
      EXPECT_TRUE(std::isfinite(solved.fit(-1, 0, l).objective));
      EXPECT_EQ(solved.fit(-1, 0, l).status, Status::kNumericalBreakdown);
      EXPECT_EQ(solved.fit(-1, 1, l).status, Status::kConverged);
    }
  }
}

TEST_P(RidgeSpectrum, LambdaZeroFullRankIsLeastSquares) {
  for (const double l1_ratio : {0.0, 1.0}) {
    Case c = with_lambdas(random_case(40, 8, 2, 10), {0.0});
    c.l1_ratio = l1_ratio;
    expect_exact(c);
  }
}

TEST_P(RidgeSpectrum, LambdaZeroDeficientIsTheLimit) {
  for (const Index p : {8, 30}) {  // 8: a duplicated column; 30: more columns than rows
    Case c = with_lambdas(random_case(20, p, 2, 11), {1e-7, 0.0});
    for (Index i = 0; i < c.n; ++i) c.X[at(3 * c.n + i)] = c.X[at(i)];
    for (Index j = 0; j < p; ++j) c.v.push_back(j == 3 ? 2.0 : 1.0);
    const Solved solved = solve(c);
    for (Index r = 0; r < 2; ++r) {
      const Fit& near = solved.fit(-1, r, 0);
      const Fit& limit = solved.fit(-1, r, 1);
      EXPECT_FALSE(near.rank_deficient);
      EXPECT_TRUE(limit.rank_deficient);
      EXPECT_EQ(limit.status, Status::kConverged);
      EXPECT_LE(limit.gap, 1e-12);
      std::vector<double> a(at(p), 0.0), b(at(p), 0.0);
      for (const auto& [j, x] : near.coef) a[at(j)] = x;
      for (const auto& [j, x] : limit.coef) b[at(j)] = x;
      for (Index j = 0; j < p; ++j) EXPECT_NEAR(b[at(j)], a[at(j)], 3e-5);
      EXPECT_NEAR(b[0], 2.0 * b[3], 1e-9);  // least b0^2 + 2 b3^2 on equal columns
      if (p > c.n) {
        EXPECT_LE(limit.objective, 1e-18 * null_loss(c, r, all_weights(c)));
      }
    }
  }
}

// Beside a column 1e8 times longer, or nearly equal to it, a direction of X'X drowns in rounding.
// The fit without it said "converged" with a gap of 1e-33; it was 0.97 of the null loss.
TEST_P(RidgeSpectrum, LambdaZeroKeepsWhatDrownsInRounding) {
  for (const bool near_copy : {false, true}) {
    for (const double size : {1e7, 1e9, 1e15}) {
      SCOPED_TRACE(std::to_string(near_copy) + ", " + std::to_string(size));
      const Index n = 50;
      Case c = with_lambdas(random_case(n, 3, 2, 13), {0.0});
      for (Index i = 0; i < n; ++i) {
        double& x = c.X[at(n + i)];
        x = near_copy ? c.x(i, 0) + x / 1e9 : size * x;
        for (Index r = 0; r < 2; ++r) {
          const double small = near_copy ? c.x(i, 1) - c.x(i, 0) : c.x(i, 0);
          c.Y[at(r * n + i)] = small * (near_copy ? 1e9 : 2.0) + 0.1 * c.x(i, 2);
        }
      }
      const Solved solved = solve(c);
      for (Index r = 0; r < 2; ++r) {
        const Fit& fit = solved.fit(-1, r, 0);
        EXPECT_EQ(fit.status, Status::kConverged);
        EXPECT_LE(fit.gap, 1e-12);
        EXPECT_FALSE(fit.rank_deficient);
        EXPECT_NEAR(fit.deviance, 1.0, 1e-9) << "y is a combination of the columns";
      }
    }
  }
}

TEST_P(RidgeSpectrum, DependentUnpenalisedColumnsAreFlagged) {
  Case c = with_lambdas(random_case(20, 6, 1, 12), {0.5});
  for (Index i = 0; i < c.n; ++i) c.X[at(3 * c.n + i)] = c.X[at(i)];
  c.v = {0.0, 1.0, 1.0, 0.0, 1.0, 1.0};
  const Solved solved = solve(c);
  EXPECT_TRUE(solved.fit(-1, 0, 0).rank_deficient);
  EXPECT_EQ(solved.fit(-1, 0, 0).status, Status::kConverged);
}

/// `only`: the one fold to look at, or -1.
void expect_folds_as_alone(Case c, double tol, Index only = -1, Index n_folds = 3) {
  for (Index i = 0; i < c.n; ++i) c.fold.push_back((i * 7) % n_folds);
  const Solved solved = solve(c);
  for (Index f = 0; f < n_folds; ++f) {
    if (only >= 0 && f != only) continue;
    std::vector<double> weight = all_weights(c);
    for (Index i = 0; i < c.n; ++i) {
      if (c.fold[at(i)] == f) weight[at(i)] = 0.0;
    }
    Real total = 0.0L;
    for (const double w : weight) total += w;
    for (Index r = 0; r < c.n_responses; ++r) {
      const double p0 = null_loss(c, r, weight);
      for (std::size_t l = 0; l < c.lambda.size(); ++l) {
        SCOPED_TRACE("fold " + std::to_string(f) + " lambda " + std::to_string(c.lambda[l]));
        const Fit& fit = solved.fit(f, r, static_cast<Index>(l));
        const Exact exact = exact_ridge(c, r, weight, penalty_of(c, c.lambda[l], weight));
        EXPECT_EQ(fit.status, Status::kConverged);
        EXPECT_GE(fit.gap, 0.0);
        EXPECT_LE(fit.gap, 1e-12);
        EXPECT_NEAR(fit.objective, static_cast<double>(exact.objective), tol * p0);
        Real train = 0.0L, held = 0.0L, held_weight = 0.0L;
        std::size_t k = 0;
        for (Index i = 0; i < c.n; ++i) {
          const Real e = c.y(i, r) - exact.fitted(c, i);
          train += weight[at(i)] / total * e * e;
          if (c.fold[at(i)] != f) continue;
          held += c.w(i) * e * e;
          held_weight += c.w(i);
          EXPECT_NEAR(fit.held_out_prediction[k++], static_cast<double>(exact.fitted(c, i)),
                      tol * 1e4 * std::sqrt(2.0 * p0));
        }
        EXPECT_NEAR(fit.train_error, static_cast<double>(train), tol * p0);
        EXPECT_NEAR(fit.deviance, static_cast<double>(1.0L - train / (2.0L * p0)), tol);
        const double error = static_cast<double>(held / held_weight);
        EXPECT_NEAR(fit.held_out_error, error, 1e4 * tol * error);
      }
    }
  }
}

TEST_P(RidgeSpectrum, FoldsEqualFittingTheirRowsAlone) {
  for (const Index p : {6, 40}) {
    Case c = with_lambdas(random_case(24, p, 2, 13), {50.0, 1.0, 1e-2, 1e-6});
    expect_folds_as_alone(c, 1e-11);
    c.standardize = true;
    for (Index i = 0; i < c.n; ++i) c.weight.push_back(1.0 + static_cast<double>(i % 3));
    expect_folds_as_alone(c, 1e-11);
    c.intercept = false;
    expect_folds_as_alone(c, 1e-11);
  }
}

// Coefficients from X, in panels, beside those from columns.
TEST_P(RidgeSpectrum, CoefficientsInPanels) {
  Case c = with_lambdas(random_case(16, 2500, 3, 40), {3.0, 0.02});
  for (Index j = 0; j < c.p; ++j) c.v.push_back(0.5 + static_cast<double>(j % 3));
  const Solved columns = solve(c);
  for (Index i = 0; i < c.n; ++i) c.fold.push_back(i % 4);
  const Solved products = solve(c);
  for (Index r = 0; r < c.n_responses; ++r) {
    for (Index l = 0; l < 2; ++l) {
      const Fit& a = columns.fit(-1, r, l);
      const Fit& b = products.fit(-1, r, l);
      EXPECT_EQ(b.n_nonzero, c.p);
      ASSERT_EQ(static_cast<Index>(b.coef.size()), c.p);
      for (Index j = 0; j < c.p; ++j) {
        EXPECT_EQ(b.coef[at(j)].first, j);
        EXPECT_NEAR(b.coef[at(j)].second, a.coef[at(j)].second, 1e-13);
      }
    }
  }
}

// More than X's products with means are formed for at a time.
TEST_P(RidgeSpectrum, ManyFoldsOfProducts) {
  expect_folds_as_alone(with_lambdas(random_case(52, 60, 1, 38), {1.0, 1e-2}), 1e-11, -1, 26);
}

// So many folds that products with all rows pay, of which those with a fold's are what is left.
TEST_P(RidgeSpectrum, FoldsThatAreAllRowsButSome) {
  Case c = with_lambdas(random_case(45, 6, 3, 37), {50.0, 1.0, 1e-2, 1e-6});
  expect_folds_as_alone(c, 1e-11, -1, 5);
  c.standardize = true;
  c.v = {1.0, 0.5, 2.0, 1.0, 3.0, 0.7};
  expect_folds_as_alone(c, 1e-11, -1, 5);
  c.intercept = false;
  expect_folds_as_alone(c, 1e-11, -1, 6);
  // Rows 0, 5, ... outweigh what is left without them by 1e7: its bound leaves fits open.
  for (Index i = 0; i < c.n; i += 5) {
    for (Index j = 0; j < c.p; ++j) c.X[at(j * c.n + i)] *= 1e7;
  }
  c.standardize = false;
  c.lambda = {1e-1};
  expect_folds_as_alone(c, 1e-11, 0, 5);
}

// So many lambdas that most held-out predictions follow from those of others; lambda = 0 never
// does.
TEST_P(RidgeSpectrum, FoldsOfALongGridEqualFittingTheirRowsAlone) {
  std::vector<double> grid, spectrum;
  for (int l = 0; l < 30; ++l) grid.push_back(std::pow(10.0, 1.0 - l / 10.0));
  for (int i = 0; i < 64; ++i) spectrum.push_back(0.05 * (1 + i));
  ASSERT_FALSE(ridge_nodes(spectrum, grid).weight.empty());
  expect_folds_as_alone(with_lambdas(random_case(96, 120, 1, 19), grid), 1e-11);
  grid.push_back(0.0);
  expect_folds_as_alone(with_lambdas(random_case(120, 64, 1, 18), grid), 1e-11);
}

TEST_P(RidgeSpectrum, FoldsWithFactorsAndFixedRidge) {
  for (const Index p : {7, 60}) {
    Case c = with_lambdas(random_case(24, p, 2, 14), {5.0, 0.05});
    for (Index j = 0; j < p; ++j) {
      c.v.push_back(0.5 + static_cast<double>(j % 3));
      c.d.push_back(0.0);
    }
    c.v[0] = 0.0;
    expect_folds_as_alone(c, 1e-11);
    c.v[2] = 0.0;
    c.d[2] = 0.3;
    expect_folds_as_alone(c, 1e-11);
    for (Index j = 3; j < p; ++j) c.d[at(j)] = 0.01 * static_cast<double>(j);
    expect_folds_as_alone(c, 1e-11);
    c.d.clear();
    c.v.clear();
    c.dropout = 0.2;
    expect_folds_as_alone(c, 1e-11);
  }
}

// A held-out row a million times larger drags the plain mean: the column is centred directly then.
TEST_P(RidgeSpectrum, FoldsWithADraggedMean) {
  for (const Index p : {6, 40}) {
    Case c = with_lambdas(random_case(24, p, 1, 15), {1.0, 1e-2});
    c.X[at(2 * c.n + 5)] = 1e7;
    expect_folds_as_alone(c, 1e-9, 2);  // the fold that holds row 5 out
  }
}

TEST_P(RidgeSpectrum, SameBitsForAnyThreadCount) {
  for (const Index p : {9, 50}) {
    // On the CPU enough columns for several tasks per fold; emulated ones are slow.
    Case c = with_lambdas(random_case(30, p, accelerator == nullptr ? 40 : 4, 16), {});
    for (int l = 0; l < (accelerator == nullptr ? 30 : 8); ++l)
      c.lambda.push_back(100.0 * std::pow(0.5, l));
    for (Index i = 0; i < c.n; ++i) c.fold.push_back(i % 5);
    const Solved one = solve(c, 1);
    for (const int threads : {2, 3, 7}) {
      const Solved other = solve(c, threads);
      for (std::size_t k = 0; k < one.problems.size(); ++k) {
        for (std::size_t l = 0; l < c.lambda.size(); ++l) {
          const Fit& a = one.answers.fits[k][l];
          const Fit& b = other.answers.fits[k][l];
          ASSERT_EQ(a.gap, b.gap);
          ASSERT_EQ(a.objective, b.objective);
          ASSERT_EQ(a.coef, b.coef);
          ASSERT_EQ(a.held_out_prediction, b.held_out_prediction);
          ASSERT_EQ(a.status, b.status);
        }
      }
    }
  }
}

TEST_P(RidgeSpectrum, BatchAgreesWithOneByOne) {
  Case c = with_lambdas(random_case(30, 50, 5, 17), {10.0, 0.1});
  const Solved all = solve(c);
  for (Index r = 0; r < 5; ++r) {
    Case alone = c;
    alone.n_responses = 1;
    alone.Y.assign(c.Y.begin() + r * c.n, c.Y.begin() + (r + 1) * c.n);
    const Solved single = solve(alone);
    for (Index l = 0; l < 2; ++l) {
      EXPECT_NEAR(single.fit(-1, 0, l).objective, all.fit(-1, r, l).objective,
                  1e-13 * null_loss(c, r, all_weights(c)));
    }
  }
}

TEST_P(RidgeSpectrum, PathEndsWhenTheSinkSaysSo) {
  Case c = with_lambdas(random_case(20, 5, 3, 18), {3.0, 2.0, 1.0, 0.5});
  const Solved solved = solve(c, 2, 1e-7, 1);
  for (const Index next : solved.answers.next) EXPECT_EQ(next, 2);
}

TEST_P(RidgeSpectrum, ConstantResponseAndZeroMatrix) {
  Case c = with_lambdas(random_case(20, 5, 2, 19), {3.0, 0.0});
  for (Index i = 0; i < c.n; ++i) c.Y[at(i)] = 7.5;
  for (Index i = 0; i < c.n; ++i) c.fold.push_back(i % 2);
  const Solved flat = solve(c);
  for (Index f = -1; f < 2; ++f) {
    EXPECT_EQ(flat.fit(f, 0, 0).status, Status::kConverged);
    EXPECT_EQ(flat.fit(f, 0, 0).train_error, 0.0);
    EXPECT_TRUE(flat.fit(f, 0, 0).coef.empty());
  }
  EXPECT_EQ(flat.fit(-1, 0, 0).intercept, 7.5);
  std::fill(c.X.begin(), c.X.end(), 0.0);
  const Solved zero = solve(c);
  for (Index f = -1; f < 2; ++f) {
    for (Index l = 0; l < 2; ++l) {
      EXPECT_EQ(zero.fit(f, 1, l).status, Status::kConverged);
      EXPECT_TRUE(zero.fit(f, 1, l).coef.empty());
      EXPECT_NEAR(zero.fit(f, 1, l).deviance, 0.0, 1e-15);
    }
  }
}

TEST_P(RidgeSpectrum, StopsWhenTimeIsUp) {
  Case c = with_lambdas(random_case(20, 5, 3, 20), {3.0, 2.0});
  Stage s = set_up(c, 2);
  s.options.time_limit = -1.0;
  RunControl control(s.options, 1e-7, nullptr);
  Answers answers(3, 2, c.p);
  solve_ridge({*s.columns, s.problems, s.options, false, nullptr, accelerator}, *s.pool, control,
              answers);
  for (const auto& path : answers.fits) {
    EXPECT_EQ(path[0].status, Status::kTimeLimit);
    EXPECT_EQ(path[1].status, Status::kNotComputed);
  }
}

/// Fits the problems of `s`, all with every row kept: no folds.
Answers solve_stage(Stage& s, std::size_t n_lambdas) {
  Answers answers(s.problems.size(), n_lambdas, s.columns->n_features());
  RunControl control(s.options, 1e-7, nullptr);
  solve_ridge({*s.columns, s.problems, s.options, false, nullptr, accelerator}, *s.pool, control,
              answers);
  return answers;
}

Fit certify_again(const Stage& s, const Problem& problem, double lambda, const Fit& fit) {
  SparseCoef hat;
  for (const auto& [j, b] : fit.coef) {
    hat.emplace_back(j, std::ldexp(b, s.columns->exponent(j) - problem.y->exponent));
  }
  return certify(*s.columns, problem, lambda, hat, 1e-7, false);
}

// Own weights of a response: a row without weight drags the plain mean, and coefficients are
// wanted.
TEST_P(RidgeSpectrum, DirectColumnsWithCoefficients) {
  for (const Index p : {6, 40}) {
    Case c = with_lambdas(random_case(24, p, 1, 23), {1.0, 1e-2});
    c.X[at(2 * c.n + 5)] = 1e7;
    for (Index i = 0; i < c.n; ++i) c.fold.push_back(i == 5 ? 0 : 1);
    Stage s = set_up(c, 1);
    s.problems = {s.problems[1]};  // everything but row 5
    s.problems[0].fold = -1;
    s.problems[0].held_out.clear();
    s.problems[0].held_out_weight.clear();
    ASSERT_FALSE(s.problems[0].rows->direct.empty());
    const Answers answers = solve_stage(s, 2);
    std::vector<double> weight(at(c.n), 1.0);
    weight[5] = 0.0;
    for (std::size_t l = 0; l < 2; ++l) {
      const Fit& fit = answers.fits[0][l];
      EXPECT_EQ(fit.status, Status::kConverged);
      EXPECT_LE(fit.gap, 1e-12);
      const Exact exact = exact_ridge(c, 0, weight, penalty_of(c, c.lambda[l], weight));
      EXPECT_NEAR(fit.objective, static_cast<double>(exact.objective),
                  1e-9 * null_loss(c, 0, weight));
    }
  }
}

// One column 1e9 times larger than lambda resolves: the answer is poor, and must say so.
TEST_P(RidgeSpectrum, GapOfAPoorAnswerIsReported) {
  Case c = with_lambdas(random_case(20, 40, 1, 24), {1e-3});
  for (Index i = 0; i < c.n; ++i) c.X[at(2 * c.n + i)] *= 1e9;
  Stage s = set_up(c, 1);
  const Answers answers = solve_stage(s, 1);
  const Fit& fit = answers.fits[0][0];
  const Fit again = certify_again(s, s.problems[0], 1e-3, fit);
  EXPECT_EQ(fit.status, Status::kPrecisionLimit);
  EXPECT_GT(fit.gap, 1e-7);
  EXPECT_NEAR(again.gap / fit.gap, 1.0, 0.5);
}

// Rank 5 plus noise of 1e-5: the eigenvectors of the small end are poor and one pass leaves a gap.
TEST_P(RidgeSpectrum, RefinementRepairsSmallLambda) {
  Case c = random_case(30, 60, 1, 25);
  const Case noise = random_case(30, 60, 1, 26);
  for (Index j = 5; j < c.p; ++j) {
    for (Index i = 0; i < c.n; ++i) {
      c.X[at(j * c.n + i)] = c.x(i, j % 5) * static_cast<double>(1 + j % 3) + 1e-5 * noise.x(i, j);
    }
  }
  c.lambda = {1.0};
  Stage s = set_up(c, 1);
  const double lambda = 3e-12 * ridge_top_eigenvalue(*s.columns, s.problems[0]);
  s.problems[0].lambda = {lambda};
  const Answers answers = solve_stage(s, 1);
  const Fit& fit = answers.fits[0][0];
  EXPECT_GE(fit.iterations, 2);
  EXPECT_LE(fit.gap, 1e-9);
  EXPECT_LE(certify_again(s, s.problems[0], lambda, fit).gap, 1e-8);
}

TEST(RidgeTopEigenvalue, IsThatOfTheDefinition) {
  for (const Index p : {6, 100}) {
    Case c = with_lambdas(random_case(90, p, 1, 21), {1.0});
    for (Index j = 0; j < p; ++j) c.v.push_back(1.0 + static_cast<double>(j % 3));
    const Stage s = set_up(c, 1);
    const double top = ridge_top_eigenvalue(*s.columns, s.problems[0]);
    // Power iteration in long double on the definition, in the user's units.
    std::vector<Real> b(at(p), 1.0L), mean(at(p), 0.0L);
    for (Index j = 0; j < p; ++j) {
      for (Index i = 0; i < c.n; ++i) mean[at(j)] += c.x(i, j) / static_cast<Real>(c.n);
    }
    Real value = 0.0L;
    for (int step = 0; step < 2000; ++step) {
      std::vector<Real> next(at(p), 0.0L);
      for (Index i = 0; i < c.n; ++i) {
        Real f = 0.0L;
        for (Index j = 0; j < p; ++j) {
          f += (c.x(i, j) - mean[at(j)]) * b[at(j)] / std::sqrt(static_cast<Real>(c.v[at(j)]));
        }
        for (Index j = 0; j < p; ++j) {
          next[at(j)] += f / static_cast<Real>(c.n) * (c.x(i, j) - mean[at(j)]) /
                         std::sqrt(static_cast<Real>(c.v[at(j)]));
        }
      }
      Real norm = 0.0L;
      for (const Real x : next) norm += x * x;
      value = std::sqrt(norm);
      for (Index j = 0; j < p; ++j) b[at(j)] = next[at(j)] / value;
    }
    EXPECT_NEAR(top, static_cast<double>(value), 1e-9 * static_cast<double>(value));
  }
}

// What is reported with coefficients covers how far they are from the minimum, found in long
// double: half the quadratic form of the distance to the exact solution. Directions far below
// lambda, where an error in the correlations costs most.
TEST_P(RidgeSpectrum, ReportedGapCoversTheDistanceToTheMinimum) {
  for (const Index n : {60, 20}) {
    Case c = random_case(n, 40, 2, 27);
    const Case noise = random_case(n, 40, 1, 28);
    for (Index j = 6; j < c.p; ++j) {
      for (Index i = 0; i < c.n; ++i) {
        c.X[at(j * c.n + i)] = c.x(i, j % 6) + 1e-9 * noise.x(i, j);
      }
    }
    c.lambda = {1.0};
    Stage first = set_up(c, 1);
    const double top = ridge_top_eigenvalue(*first.columns, first.problems[0]);
    c.lambda = {10.0 * top, 1e-3 * top, 1e-6 * top, 1e-8 * top, 1e-9 * top};
    const Solved solved = solve(c);
    const std::vector<double> weight = all_weights(c);
    int by_bound = 0;
    for (Index r = 0; r < c.n_responses; ++r) {
      const double p0 = null_loss(c, r, weight);
      for (std::size_t l = 0; l < c.lambda.size(); ++l) {
        const Fit& fit = solved.fit(-1, r, static_cast<Index>(l));
        const Exact exact = exact_ridge(c, r, weight, penalty_of(c, c.lambda[l], weight));
        std::vector<Real> off(at(c.p));
        for (Index j = 0; j < c.p; ++j) off[at(j)] = -exact.coef[at(j)];
        for (const auto& [j, b] : fit.coef) off[at(j)] += b;
        Real distance = 0.0L, mean = 0.0L, squares = 0.0L;
        for (const Real d : off) distance += 0.5L * c.lambda[l] * d * d;
        for (Index i = 0; i < c.n; ++i) {
          Real f = 0.0L;
          for (Index j = 0; j < c.p; ++j) f += off[at(j)] * c.x(i, j);
          mean += f / static_cast<Real>(c.n);
          squares += f * f / static_cast<Real>(c.n);
        }
        distance += 0.5L * (squares - mean * mean);
        EXPECT_GE(fit.gap * p0, static_cast<double>(distance)) << "lambda " << c.lambda[l] / top;
        EXPECT_LE(fit.gap, 1e-12);
        by_bound += fit.iterations == 1 ? 1 : 0;
      }
    }
    EXPECT_GE(by_bound, 6);  // the others were refined
  }
}

// Which coefficients are wanted changes no bit of a fit: neither of those beside it nor its own.
TEST_P(RidgeSpectrum, WantedCoefficientsChangeNoBit) {
  for (const Index p : {30, 70}) {
    Case c = random_case(45, p, 7, 29);
    for (int l = 0; l < 13; ++l) c.lambda.push_back(100.0 * std::pow(0.1, l));
    Stage s = set_up(c, 1);
    const Answers all = solve_stage(s, c.lambda.size());
    for (std::size_t r = 0; r < s.problems.size(); ++r) {
      s.problems[r].keep_only = {static_cast<Index>(r), static_cast<Index>(12 - r)};
    }
    const Answers some = solve_stage(s, c.lambda.size());
    for (std::size_t r = 0; r < s.problems.size(); ++r) {
      for (std::size_t l = 0; l < c.lambda.size(); ++l) {
        SCOPED_TRACE("response " + std::to_string(r) + " lambda " + std::to_string(l));
        const Fit& a = all.fits[r][l];
        const Fit& b = some.fits[r][l];
        EXPECT_EQ(a.gap, b.gap);
        EXPECT_EQ(a.objective, b.objective);
        EXPECT_EQ(a.intercept, b.intercept);
        EXPECT_EQ(a.deviance, b.deviance);
        EXPECT_EQ(a.status, b.status);
        EXPECT_EQ(static_cast<Index>(a.coef.size()), p);
        if (l == r || l == 12 - r) {
          EXPECT_EQ(a.coef, b.coef);
        } else {
          EXPECT_TRUE(b.coef.empty());
        }
      }
    }
  }
}

/// The CPU's spectrum, but for an error in the coefficients of two columns.
class WrongSpectrum : public Spectrum {
 public:
  struct Errors {
    Index column = 0;
    double own = 0.0, next = 0.0;  ///< added to feature 3 of this column and the next one
  };
  WrongSpectrum(std::unique_ptr<Spectrum> right, Index p, const Errors& errors)
      : right_(std::move(right)), p_(p), errors_(errors) {}

  bool row_space() const override { return right_->row_space(); }
  bool has_delta() const override { return right_->has_delta(); }
  Index size() const override { return right_->size(); }
  const std::vector<double>& values() const override { return right_->values(); }
  double cutoff() const override { return right_->cutoff(); }
  double defect() const override { return right_->defect(); }
  void rotate(Index count, const double* Y, double* Z, double* defects) const override {
    right_->rotate(count, Y, Z, defects);
  }
  void shrink(const std::vector<SpectrumColumn>& columns, const double* Z, double* T,
              ShrunkSums* sums) const override {
    right_->shrink(columns, Z, T, sums);
  }
  void map_rows(Index h, const double* H, double* HM) const override { right_->map_rows(h, H, HM); }
  void predict(Index h, Index size, const double* HM, Index count, const double* T,
               double* out) const override {
    right_->predict(h, size, HM, count, T, out);
  }
  void predict_from(Index h, const double* H, Index count, const double* beta,
                    double* out) const override {
    right_->predict_from(h, H, count, beta, out);
  }
  void coefficients(Index count, const double* T, double* beta) const override {
    right_->coefficients(count, T, beta);
    beta[errors_.column * p_ + 3] += errors_.own;
    beta[(errors_.column + 1) * p_ + 3] += errors_.next;
  }
  void refine(const std::vector<SpectrumColumn>& columns, const double* Y, double* T, double* beta,
              RidgeMeasure* measures) const override {
    right_->refine(columns, Y, T, beta, measures);
  }
  void sample_vectors(double* S) const override { right_->sample_vectors(S); }

 private:
  std::unique_ptr<Spectrum> right_;
  Index p_;
  Errors errors_;
};

class WrongBackend : public CpuSpectrumVerbs {
 public:
  explicit WrongBackend(const WrongSpectrum::Errors& errors) : errors_(errors) {}
  std::unique_ptr<Spectrum> decompose(RidgeSystem&& system, bool want_map) const override {
    const Index p = system.p;
    return std::make_unique<WrongSpectrum>(
        cpu_spectrum_backend().decompose(std::move(system), want_map), p, errors_);
  }

 private:
  WrongSpectrum::Errors errors_;
};

class WrongDevice : public Accelerator {
 public:
  explicit WrongDevice(const WrongSpectrum::Errors& errors) : errors_(errors) {}
  AcceleratorInfo info() override { return {}; }
  std::unique_ptr<WorkingSetBackend> working_set_backend(const WorkingSetTask&) override {
    return nullptr;
  }
  std::unique_ptr<ProximalBackend<double>> proximal_backend(const double*, Index, Index) override {
    return nullptr;
  }
  std::unique_ptr<ProximalBackend<float>> proximal_backend(const float*, Index, Index) override {
    return nullptr;
  }
  std::unique_ptr<SpectrumBackend> spectrum_backend() override {
    return std::make_unique<WrongBackend>(errors_);
  }

 private:
  WrongSpectrum::Errors errors_;
};

// Coefficients are looked at by one combination of all fits: wrong ones, of which the bound knows
// nothing, must end as a true gap of their fit and leave the others as they are.
TEST(RidgeCombination, WrongCoefficientsAreReported) {
  for (const Index p : {30, 70}) {
    Case c = random_case(45, p, 12, 36);
    c.lambda = {0.3};
    const Solved right = solve(c);
    const auto reported = [&](const WrongSpectrum::Errors& errors) {
      WrongDevice device(errors);
      accelerator = &device;
      const Solved wrong = solve(c);
      accelerator = nullptr;
      int found = 0;
      for (Index r = 0; r < c.n_responses; ++r) {
        const Fit& fit = wrong.fit(-1, r, 0);
        if (fit.coef == right.fit(-1, r, 0).coef) {
          EXPECT_EQ(fit.gap, right.fit(-1, r, 0).gap);
        } else if (fit.gap > 1e-12) {
          ++found;
          const std::vector<double> weight = all_weights(c);
          const Exact exact = exact_ridge(c, r, weight, penalty_of(c, c.lambda[0], weight));
          const double off = fit.coef[3].second - static_cast<double>(exact.coef[3]);
          const Stage s = set_up(c, 1);
          const double variance = s.problems[0].rows->variance[3];
          const double unit = std::ldexp(1.0, 2 * s.columns->exponent(3));
          // e_3 is the largest share of a column's curvature that its gap may be divided by.
          const double distance = 0.5 * off * off * (variance * unit + c.lambda[0]);
          EXPECT_GE(fit.gap * null_loss(c, r, weight), 0.99 * distance);
        }
      }
      return found;
    };
    EXPECT_EQ(reported({4, 0.0, 0.0}), 0);
    for (Index column = 0; column + 1 < c.n_responses; ++column) {
      EXPECT_EQ(reported({column, 1e-5, 0.0}), 1) << column;
    }
    // Two errors that would cancel in a sum: with random signs every second time, both are found.
    int both = 0;
    for (Index column = 0; column + 1 < c.n_responses; ++column) {
      both += reported({column, 1e-5, -1e-5}) == 2 ? 1 : 0;
    }
    EXPECT_GE(both, 3);
  }
}

// A fold's Gram matrix as a part of the products of all rows: within its error of what the fold's
// own columns give, weights, means and factors unlike, and rows that are held out likewise.
TEST(RidgeProducts, PartsOfOneMatrixAreWithinTheirError) {
  for (const auto& [intercept, p] : {std::pair{true, 60}, {false, 60}, {true, 2500}}) {
    Case c = random_case(24, p, 1, 31);
    c.intercept = intercept;
    for (Index j = 0; j < c.p; ++j) c.v.push_back(0.3 + 0.1 * static_cast<double>(j % 7));
    for (Index i = 0; i < c.n; ++i) {
      c.weight.push_back(0.5 + static_cast<double>(i % 3));
      c.fold.push_back(i % 4);
    }
    c.lambda = {1.0};
    Stage s = set_up(c, 1);
    const Problem& fold = s.problems[1];
    ASSERT_TRUE(products_suffice(*s.columns, *fold.rows, *fold.penalties));
    const RowProducts products = make_row_products(*s.columns, *s.problems[0].penalties);
    ASSERT_EQ(products.l2, fold.penalties->l2);
    const RidgeGroup own = make_ridge_group(*s.columns, *fold.rows, *fold.penalties, intercept);
    std::vector<const RowWeighting*> rows;  // the fold's among those of others
    for (const Problem& one : s.problems) rows.push_back(one.rows.get());
    const auto means = mean_products(*s.columns, products, rows);
    EXPECT_EQ(mean_products(*s.columns, products, std::span(rows).subspan(1, 1))[0], means[1]);
    const RidgeGroup part =
        make_ridge_group(*s.columns, *fold.rows, *fold.penalties, intercept, products, means[1]);
    ASSERT_EQ(part.m, own.m);
    EXPECT_EQ(part.root, own.root);
    Real off = 0.0L, trace = 0.0L;
    for (Index i = 0; i < own.m; ++i) {
      for (Index k = 0; k < own.m; ++k) {
        Real sum = 0.0L;
        for (Index j = 0; j < c.p; ++j) {
          sum +=
              static_cast<Real>(own.system.A[at(j * own.m + i)]) * own.system.A[at(j * own.m + k)];
        }
        const Real d = part.system.K[at(k * own.m + i)] - sum;
        off += d * d;
        if (i == k) trace += sum;
      }
    }
    const double error = static_cast<double>(std::sqrt(off));
    EXPECT_LE(error, part.system.K_error);
    EXPECT_GE(error, 1e-4 * part.system.K_error);  // not a bound that says nothing
    EXPECT_LE(part.system.K_error, 1e-12 * static_cast<double>(trace));

    std::vector<double> H, constant, products_of_rows;
    prediction_rows(*s.columns, own, fold.held_out, H, constant);
    prediction_products(part, products, fold.held_out, products_of_rows);
    const Index h = static_cast<Index>(fold.held_out.size());
    for (Index i = 0; i < h; ++i) {
      for (Index k = 0; k < own.m; ++k) {
        double sum = 0.0;
        for (Index j = 0; j < c.p; ++j) sum += H[at(j * h + i)] * own.system.A[at(j * own.m + k)];
        EXPECT_NEAR(products_of_rows[at(k * h + i)], sum, 1e-12 * static_cast<double>(trace));
      }
    }

    // A' alpha and A (row / root), from X.
    const std::vector<double> alpha = random_case(own.m, 2, 1, 34).X;
    const std::vector<double> row = random_case(c.p, 1, 1, 35).X;
    std::vector<double> beta(at(2 * c.p)), some, sum_of(2), products_of_row(at(own.m));
    products_coefficients(*s.columns, part, cpu_spectrum_backend(), 2, alpha.data(), some,
                          sum_of.data(), [&](Index first, Index size) {
                            for (Index k = 0; k < 2 * size; ++k) {
                              const Index r = k / size, j = first + k % size;
                              const double mean = intercept ? fold.rows->mean[at(j)] : 0.0;
                              beta[at(r * c.p + j)] =
                                  (some[at(k)] - mean * sum_of[at(r)]) / part.root[at(j)];
                            }
                          });
    row_products(*s.columns, part, row, products_of_row.data());
    std::vector<double> of_row(at(own.m), 0.0);
    for (Index j = 0; j < c.p; ++j) {
      const double* a = own.system.A.data() + j * own.m;
      for (Index r = 0; r < 2; ++r) {
        double sum = 0.0;
        for (Index i = 0; i < own.m; ++i) sum += a[i] * alpha[at(r * own.m + i)];
        EXPECT_NEAR(beta[at(r * c.p + j)], sum, 1e-13);
      }
      for (Index i = 0; i < own.m; ++i) of_row[at(i)] += a[i] * row[at(j)] / own.root[at(j)];
    }
    for (Index i = 0; i < own.m; ++i) EXPECT_NEAR(products_of_row[at(i)], of_row[at(i)], 1e-12);
  }
}

// The same of a fold with more rows than columns, A'A and A'y from those of all rows.
TEST(RidgeProducts, AllRowsButSomeAreWithinTheirError) {
  for (const bool intercept : {true, false}) {
    Case c = random_case(60, 11, 3, 38);
    c.intercept = intercept;
    for (Index j = 0; j < c.p; ++j) c.v.push_back(0.3 + 0.1 * static_cast<double>(j % 7));
    for (Index i = 0; i < c.n; ++i) c.fold.push_back(i % 4);
    c.lambda = {1.0};
    const Stage s = set_up(c, 1);
    const Problem* const fold = &s.problems[at(c.n_responses)];
    ASSERT_TRUE(all_but_some_suffice(*s.columns, *fold->rows, *fold->penalties));
    s.columns->build_all(*s.pool);
    const double* X = s.columns->matrix();
    std::vector<double> gram(at(c.p * c.p)), products(at(c.p * c.n_responses));
    for (Index j = 0; j < c.p; ++j) {
      for (Index i = 0; i < c.n; ++i) {
        for (Index k = 0; k < c.p; ++k) gram[at(k * c.p + j)] += X[j * c.n + i] * X[k * c.n + i];
        for (Index r = 0; r < c.n_responses; ++r) {
          products[at(r * c.p + j)] += X[j * c.n + i] * fold[r].y->value[at(i)];
        }
      }
    }
    const RidgeGroup own = make_ridge_group(*s.columns, *fold->rows, *fold->penalties, intercept);
    const RidgeGroup part =
        make_ridge_group(*s.columns, *fold->rows, *fold->penalties, intercept, gram);
    EXPECT_EQ(part.root, own.root);
    ASSERT_EQ(part.m, own.m);
    const double* A = own.system.A.data();
    const auto product = [&](const double* a, const double* b) {
      Real sum = 0.0L;
      for (Index i = 0; i < own.m; ++i) sum += static_cast<Real>(a[i]) * b[i];
      return sum;
    };
    Real off = 0.0L, trace = 0.0L;
    for (Index j = 0; j < c.p; ++j) {
      trace += product(A + j * own.m, A + j * own.m);
      for (Index k = 0; k < c.p; ++k) {
        const Real d = part.system.K[at(k * c.p + j)] - product(A + j * own.m, A + k * own.m);
        off += d * d;
      }
    }
    EXPECT_LE(static_cast<double>(std::sqrt(off)), part.system.K_error);
    EXPECT_GE(static_cast<double>(std::sqrt(off)), 1e-4 * part.system.K_error);
    EXPECT_LE(part.system.K_error, 1e-12 * static_cast<double>(trace));

    std::vector<double> out(at(c.p * c.n_responses)), errors(at(c.n_responses)), y(at(own.m));
    std::vector<const Problem*> problems;
    std::vector<const double*> whole;
    for (Index r = 0; r < c.n_responses; ++r) {
      problems.push_back(fold + r);
      whole.push_back(products.data() + r * c.p);
    }
    response_products(part, problems, whole, out.data(), errors.data());
    for (Index r = 0; r < c.n_responses; ++r) {
      weighted_response(own, fold[r], y.data(), nullptr);
      Real squares = 0.0L;
      for (Index j = 0; j < c.p; ++j) {
        const Real d = out[at(r * c.p + j)] - product(A + j * own.m, y.data());
        squares += d * d;
      }
      const double error = static_cast<double>(std::sqrt(squares));
      EXPECT_LE(error, errors[at(r)]);
      EXPECT_GE(error, 1e-4 * errors[at(r)]);
      const double size = static_cast<double>(std::sqrt(trace * product(y.data(), y.data())));
      EXPECT_LE(errors[at(r)], 1e-12 * size);
    }
  }
}

// Fits of such a fold whose bound is too weak are measured from its columns: far below the top
// eigenvalue, and the others keep their bits whether such a lambda stands beside them or not.
TEST_P(RidgeSpectrum, FoldsOfProductsMeasureWhatTheirBoundLeavesOpen) {
  Case c = random_case(30, 70, 2, 32);
  const Case noise = random_case(30, 70, 1, 33);
  for (Index j = 6; j < c.p; ++j) {
    for (Index i = 0; i < c.n; ++i) {
      c.X[at(j * c.n + i)] = c.x(i, j % 6) + 1e-9 * noise.x(i, j);
    }
  }
  for (Index i = 0; i < c.n; ++i) c.fold.push_back(i % 3);
  c.lambda = {1.0};
  Stage first = set_up(c, 1);
  const double top = ridge_top_eigenvalue(*first.columns, first.problems[0]);
  c.lambda = {10.0 * top, 1e-3 * top};
  const Solved easy = solve(c);
  c.lambda.insert(c.lambda.end(), {1e-8 * top, 1e-10 * top});
  const Solved all = solve(c);
  for (Index f = 0; f < 3; ++f) {
    for (Index r = 0; r < c.n_responses; ++r) {
      for (Index l = 0; l < 4; ++l) {
        EXPECT_LE(all.fit(f, r, l).gap, 1e-12);
        if (l > 1) continue;
        EXPECT_EQ(all.fit(f, r, l).gap, easy.fit(f, r, l).gap);
        EXPECT_EQ(all.fit(f, r, l).held_out_error, easy.fit(f, r, l).held_out_error);
      }
    }
  }
}

// A bound on the gap of fits whose coefficients are never formed must hold for what they stand
// for: with a lambda far below what double resolves, the measured gap may not exceed the bound.
TEST_P(RidgeSpectrum, CheapBoundCoversTheMeasuredGap) {
  std::unique_ptr<SpectrumBackend> device;
  if (accelerator != nullptr) device = accelerator->spectrum_backend();
  const SpectrumBackend& backend = device ? *device : cpu_spectrum_backend();
  for (const Index p : {12, 40}) {
    const Case c = random_case(20, p, 1, 22);
    RidgeSystem system;
    system.m = c.n;
    system.p = p;
    system.A = c.X;
    const auto spectrum = backend.decompose(std::move(system), true);
    ASSERT_TRUE(spectrum);
    std::vector<double> Z(at(spectrum->size())), T(Z), beta(at(p)), defect(1);
    spectrum->rotate(1, c.Y.data(), Z.data(), defect.data());
    for (const double share : {1.0, 1e-4, 1e-8, 1e-11}) {
      const double top = spectrum->values().back(), lambda = share * top;
      ShrunkSums sums;
      spectrum->shrink({{0, lambda}}, Z.data(), T.data(), &sums);
      spectrum->coefficients(1, T.data(), beta.data());
      const double rho =
          defect[0] + 1e-15 * std::sqrt(sums.zz) + spectrum->defect() * std::sqrt(sums.tt);
      // The true gap in long double: P(beta) - min P = 1/2 rho' H^-1 rho <= |rho|^2 / (2 lambda).
      std::vector<Real> r(c.Y.begin(), c.Y.end()), alpha(at(c.n), 0.0L);
      for (Index j = 0; j < p; ++j) {
        for (Index i = 0; i < c.n; ++i) r[at(i)] -= static_cast<Real>(beta[at(j)]) * c.x(i, j);
      }
      Real primal = 0.0L;
      for (Index j = 0; j < p; ++j) {
        Real g = -static_cast<Real>(lambda) * beta[at(j)];
        for (Index i = 0; i < c.n; ++i) g += r[at(i)] * c.x(i, j);
        primal += g * g;
      }
      if (spectrum->row_space()) {
        const double bound = 0.5 * rho * rho * std::min(1.0, (top + spectrum->defect()) / lambda);
        EXPECT_GT(bound, 0.0);
        RidgeMeasure measure;
        spectrum->refine({{0, lambda}}, c.Y.data(), T.data(), beta.data(), &measure);
        EXPECT_LE(measure.gap, bound);
      } else {
        EXPECT_LE(static_cast<double>(primal), rho * rho);
      }
    }
  }
}

}  // namespace
}  // namespace thresher

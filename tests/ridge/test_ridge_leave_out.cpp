#include "engines/ridge_leave_out.hpp"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "ridge_case.hpp"

namespace thresher {
namespace {

using namespace testing_ridge;

std::vector<ClosedFormErrors> errors_of(const Case& c, ClosedForm form, int threads = 1) {
  const Stage s = set_up(c, threads);
  return closed_form_errors(*s.columns, s.problems, form, *s.pool);
}

/// Every row left out for real, in long double, at lambda / (1 - w_i) and d / (1 - w_i).
void expect_leave_one_out(const Case& c, double tol = 1e-9) {
  const std::vector<ClosedFormErrors> found = errors_of(c, ClosedForm::kLeaveOneOut);
  const std::vector<double> weight = all_weights(c);
  Real total = 0.0L, counted = 0.0L;
  for (const double w : weight) {
    total += w;
    counted += w > 0.0 ? 1.0L : 0.0L;
  }
  for (Index r = 0; r < c.n_responses; ++r) {
    for (std::size_t l = 0; l < c.lambda.size(); ++l) {
      SCOPED_TRACE("response " + std::to_string(r) + " lambda " + std::to_string(c.lambda[l]));
      const std::vector<Real> e = penalty_of(c, c.lambda[l], weight);
      std::vector<Real> square(at(c.n), 0.0L);
      Real error = 0.0L, spread = 0.0L;
      for (Index i = 0; i < c.n; ++i) {
        const Real w = weight[at(i)] / total;
        if (!(w > 0.0L)) continue;
        std::vector<double> others = weight;
        others[at(i)] = 0.0;
        std::vector<Real> raised = e;
        for (Real& value : raised) value /= 1.0L - w;
        const Exact exact = exact_ridge(c, r, others, raised);
        const Real miss = c.y(i, r) - exact.fitted(c, i);
        square[at(i)] = miss * miss;
        error += w * miss * miss;
      }
      for (Index i = 0; i < c.n; ++i) {
        const Real d = square[at(i)] - error;
        spread += weight[at(i)] / total * d * d;
      }
      const double want = static_cast<double>(error);
      EXPECT_NEAR(found[at(r)].error[l], want, tol * want);
      const double se = static_cast<double>(std::sqrt(spread / (counted - 1.0L)));
      EXPECT_NEAR(found[at(r)].se[l], se, tol * se);
      const Exact all = exact_ridge(c, r, weight, e);
      Real train = 0.0L;
      for (Index i = 0; i < c.n; ++i) {
        const Real miss = c.y(i, r) - all.fitted(c, i);
        train += weight[at(i)] / total * miss * miss;
      }
      EXPECT_NEAR(found[at(r)].train[l], static_cast<double>(train),
                  1e-9 * static_cast<double>(train) + 1e-14 * null_loss(c, r, weight));
    }
  }
}

Case base(Index n, Index p, unsigned seed) {
  Case c = random_case(n, p, 2, seed);
  c.lambda = {30.0, 1.0, 0.01};
  return c;
}

TEST(RidgeLeaveOneOut, EqualsLeavingRowsOut) {
  expect_leave_one_out(base(25, 6, 1));
  expect_leave_one_out(base(15, 30, 2));
}

TEST(RidgeLeaveOneOut, TinyLambdaWithMoreColumnsThanRows) {
  Case c = base(15, 30, 3);
  c.lambda = {1e-7};
  expect_leave_one_out(c, 1e-6);
}

// Equal rows: A A' has a null space beyond what intercept and unpenalised features span.
TEST(RidgeLeaveOneOut, EqualRows) {
  Case c = base(15, 30, 10);
  for (Index j = 0; j < c.p; ++j) {
    for (Index i = 0; i < 5; ++i) c.X[at(j * c.n + i + 5)] = c.x(i, j);
  }
  expect_leave_one_out(c);
}

TEST(RidgeLeaveOneOut, LambdaZeroIsTheLimit) {
  for (const Index p : {6, 30}) {
    Case c = base(15, p, 4);
    c.lambda = {1e-9, 0.0};
    const auto found = errors_of(c, ClosedForm::kLeaveOneOut);
    EXPECT_NEAR(found[0].error[1], found[0].error[0], 1e-5 * found[0].error[0]);
    EXPECT_GT(found[0].error[1], 0.0);
  }
}

TEST(RidgeLeaveOneOut, WeightsInterceptAndFactors) {
  for (const Index p : {7, 30}) {
    for (const bool intercept : {true, false}) {
      Case c = base(18, p, 5);
      c.intercept = intercept;
      for (Index i = 0; i < c.n; ++i) c.weight.push_back(static_cast<double>(i % 4));
      expect_leave_one_out(c);
      for (Index j = 0; j < p; ++j) {
        c.v.push_back(0.5 + static_cast<double>(j % 3));
        c.d.push_back(0.0);
      }
      c.v[0] = 0.0;
      expect_leave_one_out(c);
      c.v[2] = 0.0;
      c.d[2] = 0.3;
      expect_leave_one_out(c);
    }
  }
}

TEST(RidgeLeaveOneOut, FrozenStandardizeAndDropout) {
  for (const Index p : {7, 60}) {  // 60: one system per lambda
    Case c = base(18, p, 6);
    c.dropout = 0.25;
    expect_leave_one_out(c);
    c.weight.assign(at(c.n), 1.0);
    c.weight[0] = 2.0;
    c.standardize = true;
    expect_leave_one_out(c);
  }
}

TEST(RidgeGcv, EqualsItsDefinition) {
  for (const Index p : {6, 30}) {
    for (const bool intercept : {true, false}) {
      Case c = base(18, p, 7);
      c.intercept = intercept;
      for (Index i = 0; i < c.n; ++i) c.weight.push_back(static_cast<double>(i % 3));
      c.v.assign(at(p), 1.5);
      c.v[1] = 0.0;
      const auto found = errors_of(c, ClosedForm::kGcv);
      const std::vector<double> weight = all_weights(c);
      Real total = 0.0L, n = 0.0L;
      for (const double w : weight) {
        total += w;
        n += w > 0.0 ? 1.0L : 0.0L;
      }
      for (std::size_t l = 0; l < c.lambda.size(); ++l) {
        const std::vector<Real> e = penalty_of(c, c.lambda[l], weight);
        // tr H column by column: H e_i is the fit of the i-th unit response.
        Real trace = 0.0L;
        Case unit = c;
        unit.n_responses = 1;
        for (Index i = 0; i < c.n; ++i) {
          if (!(weight[at(i)] > 0.0)) continue;
          unit.Y.assign(at(c.n), 0.0);
          unit.Y[at(i)] = 1.0;
          trace += exact_ridge(unit, 0, weight, e).fitted(unit, i);
        }
        for (Index r = 0; r < c.n_responses; ++r) {
          const Exact exact = exact_ridge(c, r, weight, e);
          Real loss = 0.0L;
          for (Index i = 0; i < c.n; ++i) {
            const Real miss = c.y(i, r) - exact.fitted(c, i);
            loss += weight[at(i)] / total * miss * miss;
          }
          const double want = static_cast<double>(loss / ((1 - trace / n) * (1 - trace / n)));
          EXPECT_NEAR(found[at(r)].error[l], want, 1e-9 * want);
          EXPECT_TRUE(std::isnan(found[at(r)].se[l]));
        }
      }
    }
  }
}

TEST(RidgeLeaveOneOut, ARowThatDecidesItsOwnFitHasNoError) {
  Case c = base(12, 4, 8);
  c.v.assign(4, 1.0);
  c.v[2] = 0.0;  // unpenalised indicator of row 3
  for (Index i = 0; i < c.n; ++i) c.X[at(2 * c.n + i)] = i == 3 ? 1.0 : 0.0;
  for (const ClosedFormErrors& found : errors_of(c, ClosedForm::kLeaveOneOut)) {
    for (const double error : found.error) EXPECT_TRUE(std::isnan(error));
  }
}

TEST(RidgeLeaveOneOut, SameBitsForAnyThreadCount) {
  const Case c = base(20, 30, 9);
  const auto one = errors_of(c, ClosedForm::kLeaveOneOut, 1);
  const auto three = errors_of(c, ClosedForm::kLeaveOneOut, 3);
  for (std::size_t r = 0; r < one.size(); ++r) {
    EXPECT_EQ(one[r].error, three[r].error);
    EXPECT_EQ(one[r].se, three[r].se);
  }
}

}  // namespace
}  // namespace thresher

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "ridge_case.hpp"
#include "thresher/thresher.hpp"

namespace thresher {
namespace {

using namespace testing_ridge;

Data data_of(const Case& c) {
  Data data;
  data.X = MatrixView<const double>::column_major(c.X.data(), c.n, c.p);
  data.Y = MatrixView<const double>::column_major(c.Y.data(), c.n, c.n_responses);
  data.sample_weight = c.weight;
  data.l2_factor = c.v;
  return data;
}

Options options_of(const Case& c) {
  Options options;
  options.threads = 2;
  options.lambda_grid =
      MatrixView<const double>::row_major(c.lambda.data(), 1, static_cast<Index>(c.lambda.size()));
  options.n_lambdas = static_cast<Index>(c.lambda.size());
  return options;
}

/// sum_i w_i e_i^2 with every row of positive weight left out for real.
double left_out_error(const Case& c, Index r, double lambda, const std::vector<double>& weight) {
  Real total = 0.0L, error = 0.0L;
  for (const double w : weight) total += w;
  for (Index i = 0; i < c.n; ++i) {
    if (!(weight[at(i)] > 0.0)) continue;
    const Real w = weight[at(i)] / total;
    std::vector<Real> e = penalty_of(c, lambda, weight);
    for (Real& value : e) value /= 1.0L - w;
    std::vector<double> others = weight;
    others[at(i)] = 0.0;
    const Real miss = c.y(i, r) - exact_ridge(c, r, others, e).fitted(c, i);
    error += w * miss * miss;
  }
  return static_cast<double>(error);
}

TEST(RidgeClosedForm, ModelHoldsErrorsAndChoices) {
  Case c = random_case(20, 7, 3, 31);
  c.weight.assign(at(c.n), 1.0);
  c.weight[2] = 3.0;
  for (int l = 0; l < 12; ++l) c.lambda.push_back(50.0 * std::pow(0.3, l));
  const Model model = ridge_closed_form(data_of(c), options_of(c), ClosedForm::kLeaveOneOut);
  ASSERT_TRUE(model.cv.has_value());
  const CvTable& cv = *model.cv;
  EXPECT_EQ(cv.n_folds, 0);
  EXPECT_TRUE(cv.fold_error.empty());
  EXPECT_EQ(model.l1_ratio, std::vector<double>{0.0});
  for (Index r = 0; r < c.n_responses; ++r) {
    Index best = 0;
    for (Index l = 0; l < model.n_lambdas; ++l) {
      const auto f = at(model.fit(r, 0, l));
      EXPECT_EQ(model.status[f], static_cast<std::uint8_t>(Status::kConverged));
      EXPECT_EQ(model.engine[f], static_cast<std::uint8_t>(Engine::kRidge));
      const double want = left_out_error(c, r, c.lambda[at(l)], c.weight);
      EXPECT_NEAR(cv.error[f], want, 1e-9 * want);
      EXPECT_NEAR(cv.train_error[f], 2.0 * (1.0 - model.deviance[f]) * null_loss(c, r, c.weight),
                  1e-9 * null_loss(c, r, c.weight));
      if (cv.error[f] < cv.error[at(model.fit(r, 0, best))]) best = l;
    }
    EXPECT_EQ(cv.best[at(2 * r)], 0);
    EXPECT_EQ(cv.best[at(2 * r + 1)], best);
    Index one_se = 0;
    const auto f = at(model.fit(r, 0, best));
    while (cv.error[at(model.fit(r, 0, one_se))] > cv.error[f] + cv.se[f]) ++one_se;
    EXPECT_EQ(cv.one_se[at(2 * r + 1)], one_se);
    EXPECT_EQ(cv.boundary[at(r)], best + 1 == model.n_lambdas ? 1 : 0);
  }
}

TEST(RidgeClosedForm, GcvHasNoStandardError) {
  Case c = random_case(20, 30, 2, 32);
  const Model model = ridge_closed_form(data_of(c), {}, ClosedForm::kGcv);
  ASSERT_TRUE(model.cv.has_value());
  EXPECT_EQ(model.n_lambdas, 100);
  for (const double se : model.cv->se) EXPECT_TRUE(std::isnan(se));
  EXPECT_EQ(model.cv->best, model.cv->one_se);
  for (const double error : model.cv->error) EXPECT_GT(error, 0.0);
}

TEST(RidgeClosedForm, MissingResponsesAreLeftOut) {
  Case c = random_case(20, 6, 2, 33);
  c.lambda = {2.0, 0.1};
  std::vector<double> weight(at(c.n), 1.0);
  Case holes = c;
  for (const Index i : {3, 11}) {
    holes.Y[at(c.n + i)] = std::numeric_limits<double>::quiet_NaN();
    weight[at(i)] = 0.0;
  }
  Data data = data_of(holes);
  data.missing_responses = true;
  const Model model = ridge_closed_form(data, options_of(c), ClosedForm::kLeaveOneOut);
  for (Index l = 0; l < 2; ++l) {
    const double want = left_out_error(c, 1, c.lambda[at(l)], weight);
    EXPECT_NEAR(model.cv->error[at(model.fit(1, 0, l))], want, 1e-9 * want);
  }
}

TEST(RidgeClosedForm, KeepsTheChosenFitsAlone) {
  Case c = random_case(20, 6, 2, 34);
  c.lambda = {20.0, 2.0, 0.1, 0.01};
  Options options = options_of(c);
  const Model whole = ridge_closed_form(data_of(c), options, ClosedForm::kLeaveOneOut);
  options.keep_chosen = true;
  const Model model = ridge_closed_form(data_of(c), options, ClosedForm::kLeaveOneOut);
  for (Index r = 0; r < 2; ++r) {
    for (Index l = 0; l < 4; ++l) {
      const auto f = at(model.fit(r, 0, l));
      const bool chosen =
          l == model.cv->best[at(2 * r + 1)] || l == model.cv->one_se[at(2 * r + 1)];
      EXPECT_EQ(model.coef_kept[f], chosen ? 1 : 0);
      const Index length = model.coef_indptr[f + 1] - model.coef_indptr[f];
      EXPECT_EQ(length, chosen ? 6 : 0);
      for (Index k = 0; k < length; ++k) {
        EXPECT_EQ(model.coef_values[at(model.coef_indptr[f] + k)],
                  whole.coef_values[at(whole.coef_indptr[f] + k)]);
      }
    }
  }
}

TEST(RidgeClosedForm, BadInputIsRefused) {
  Case c = random_case(20, 6, 1, 35);
  c.X[5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(ridge_closed_form(data_of(c), {}, ClosedForm::kGcv), Error);
}

}  // namespace
}  // namespace thresher

// keep_chosen keeps coefficients of the chosen fits alone and every scalar of all fits.

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

void expect_only_chosen(const Table& table, Options options) {
  CvOptions cv;
  cv.n_folds = 4;
  cv.predictions = true;
  const Model whole = cross_validate(table.data(), options, cv);
  options.keep_chosen = true;
  const Model kept = cross_validate(table.data(), options, cv);
  ASSERT_EQ(kept.n_lambdas, whole.n_lambdas);
  expect_same_bits(kept.lambda, whole.lambda, "lambda");
  expect_same_bits(kept.objective, whole.objective, "objective");
  expect_same_bits(kept.gap, whole.gap, "gap");
  expect_same_bits(kept.intercept, whole.intercept, "intercept");
  expect_same_bits(kept.deviance, whole.deviance, "deviance");
  expect_same_bits(kept.status, whole.status, "status");
  expect_same_bits(kept.n_nonzero, whole.n_nonzero, "n_nonzero");
  expect_same_bits(kept.cv->error, whole.cv->error, "cv.error");
  expect_same_bits(kept.cv->fold_error, whole.cv->fold_error, "cv.fold_error");
  expect_same_bits(kept.cv->predictions, whole.cv->predictions, "cv.predictions");
  expect_same_bits(kept.cv->best, whole.cv->best, "cv.best");
  expect_same_bits(kept.cv->one_se, whole.cv->one_se, "cv.one_se");
  for (Index r = 0; r < kept.n_responses; ++r) {
    const Index best = kept.fit(r, kept.cv->best[at(2 * r)], kept.cv->best[at(2 * r + 1)]);
    const Index one_se = kept.fit(r, kept.cv->one_se[at(2 * r)], kept.cv->one_se[at(2 * r + 1)]);
    EXPECT_GT(kept.n_nonzero[at(best)], 0);
    for (Index a = 0; a < kept.n_l1_ratios; ++a) {
      for (Index l = 0; l < kept.n_lambdas; ++l) {
        const Index f = kept.fit(r, a, l);
        const bool chosen = f == best || f == one_se;
        EXPECT_EQ(kept.coef_kept[at(f)], chosen ? 1 : 0);
        if (chosen) {
          EXPECT_EQ(coefficients(kept, f), coefficients(whole, f));
        } else {
          EXPECT_EQ(kept.coef_indptr[at(f)], kept.coef_indptr[at(f + 1)]);
        }
      }
    }
  }
}

TEST(KeepChosen, LassoAndElasticNet) {
  Options options;
  options.l1_ratio = {1.0, 0.5};
  options.n_lambdas = 25;
  expect_only_chosen(Table(50, 20, 3), options);
}

TEST(KeepChosen, Ridge) {
  Options options;
  options.l1_ratio = {0.0};
  options.n_lambdas = 25;
  expect_only_chosen(Table(30, 40, 3), options);
}

TEST(KeepChosen, AnExtendedGrid) {
  Options options;
  options.n_lambdas = 10;
  options.lambda_min_ratio = 0.3;  // too short: the best lambda is its end
  const Table table(60, 10, 2);
  const Model model = cross_validate(table.data(), options);
  ASSERT_EQ(model.n_lambdas, 20);
  expect_only_chosen(table, options);
}

TEST(KeepChosen, PredictionOfADroppedFitIsRefused) {
  const Table table(50, 20, 2);
  Options options;
  options.keep_chosen = true;
  const Model model = cross_validate(table.data(), options);
  std::vector<double> out(100);
  const auto view = MatrixView<double>::column_major(out.data(), 50, 2);
  const auto choice = [&](Index r) {
    return std::pair{model.cv->best[at(2 * r)], model.cv->best[at(2 * r + 1)]};
  };
  predict(model, table.data().X, {choice(0), choice(1)}, view);
  std::pair<Index, Index> dropped{0, 0};
  while (model.coef_kept[at(model.fit(1, 0, dropped.second))] != 0) ++dropped.second;
  try {
    predict(model, table.data().X, {choice(0), dropped}, view);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
  }
}

TEST(KeepChosen, TakesLessMemoryInThePlan) {
  const Table table(200, 400, 50);
  Options options;
  options.n_lambdas = 100;
  const std::size_t whole = plan_cross_validation(table.data(), options).bytes;
  options.keep_chosen = true;
  EXPECT_LT(plan_cross_validation(table.data(), options).bytes, whole);
}

}  // namespace
}  // namespace thresher::testing_library

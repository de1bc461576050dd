// Out-of-fold predictions are those of a fit that never saw the row.

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

void expect_predictions_of_fits_alone(const Table& table, const Options& options,
                                      const CvOptions& cv, const std::vector<Index>& fold,
                                      std::vector<double> weight = {}) {
  Data data = table.data();
  data.sample_weight = weight;
  const Model model = cross_validate(data, options, cv);
  ASSERT_TRUE(model.cv);
  const Index n = table.n, n_folds = model.cv->n_folds;
  ASSERT_EQ(model.cv->predictions.size(), at(n * table.n_responses));
  for (Index r = 0; r < table.n_responses; ++r) {
    const Index a = model.cv->best[at(2 * r)], best = model.cv->best[at(2 * r + 1)];
    // The whole path down to the best lambda, as the fold's path went.
    std::vector<double> grid;
    for (Index l = 0; l <= best; ++l) grid.push_back(model.lambda[at(model.fit(r, a, l))]);
    for (Index k = 0; k < n_folds; ++k) {
      const auto trains = [&](Index i) { return fold[at(i)] != k; };
      const Table training = table.subset(r, trains);
      Data part = training.data();
      std::vector<double> part_weight;
      for (Index i = 0; i < n && !weight.empty(); ++i) {
        if (trains(i)) part_weight.push_back(weight[at(i)]);
      }
      part.sample_weight = part_weight;
      Options given = options;
      given.l1_ratio = {options.l1_ratio[at(a)]};
      given.early_stop.reset();
      given.lambda_grid =
          MatrixView<const double>::row_major(grid.data(), 1, static_cast<Index>(grid.size()));
      const Model alone = fit_path(part, given);
      std::vector<double> predicted(at(n));
      predict(alone, data.X, {{0, best}}, MatrixView<double>::column_major(predicted.data(), n, 1));
      double error = 0.0, total = 0.0;
      for (Index i = 0; i < n; ++i) {
        if (trains(i)) continue;
        const double given_prediction = model.cv->predictions[at(r * n + i)];
        EXPECT_NEAR(given_prediction, predicted[at(i)], 1e-5) << "row " << i << " response " << r;
        const double w = weight.empty() ? 1.0 : weight[at(i)];
        error += w * (table.y(i, r) - given_prediction) * (table.y(i, r) - given_prediction);
        total += w;
      }
      // The errors of the table are those of the predictions.
      EXPECT_NEAR(error / total, model.cv->fold_error[at(model.fit(r, a, best) * n_folds + k)],
                  1e-9 * (1.0 + error / total));
    }
  }
}

struct Setting {
  const char* name;
  Engine engine;
  Mode mode;
  std::vector<double> l1_ratio;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class Predictions : public testing::TestWithParam<Setting> {
 protected:
  Options options() const {
    Options out;
    out.engine = GetParam().engine;
    out.mode = GetParam().mode;
    out.l1_ratio = GetParam().l1_ratio;
    out.n_lambdas = 25;
    out.tol = 1e-12;
    return out;
  }
};

TEST_P(Predictions, OfSeededFolds) {
  const Table table(45, 20, 3);
  CvOptions cv;
  cv.n_folds = 5;
  cv.seed = 7;
  cv.predictions = true;
  expect_predictions_of_fits_alone(table, options(), cv, make_folds(45, 5, 7));
}

TEST_P(Predictions, OfGivenFoldsOfUnequalSizeStandardizedAndWeighted) {
  const Table table(45, 20, 2);
  std::vector<Index> fold(45);
  std::vector<double> weight(45);
  for (Index i = 0; i < 45; ++i) {
    fold[at(i)] = i % 7 == 0 ? 2 : i < 25 ? 0 : 1;
    weight[at(i)] = 0.5 + static_cast<double>(i % 4);
  }
  CvOptions cv;
  cv.fold_id = fold;
  cv.predictions = true;
  Options given = options();
  given.standardize = true;
  expect_predictions_of_fits_alone(table, given, cv, fold, weight);
}

TEST_P(Predictions, AreNotThereUnlessAskedFor) {
  const Table table(30, 10, 2);
  Options given = options();
  given.tol.reset();
  EXPECT_TRUE(cross_validate(table.data(), given).cv->predictions.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Engines, Predictions,
    testing::Values(Setting{"residual", Engine::kActiveSet, Mode::kResidual, {1.0, 0.5}},
                    Setting{"gram", Engine::kActiveSet, Mode::kGram, {1.0, 0.5}},
                    Setting{"proximal", Engine::kProximalGradient, Mode::kAuto, {0.6}},
                    Setting{"ridge", Engine::kRidge, Mode::kAuto, {0.0}},
                    Setting{"reference", Engine::kReference, Mode::kAuto, {0.8}},
                    Setting{"auto", Engine::kAuto, Mode::kAuto, {1.0, 0.0}}),
    [](const auto& one) { return std::string(one.param.name); });

/// After an extension the best lambda lies beyond the first grid.
TEST(PredictionsExtended, ComeFromTheExtendedPath) {
  const Table table(60, 10, 2);
  Options options;
  options.n_lambdas = 10;
  options.lambda_min_ratio = 0.3;
  options.tol = 1e-12;
  CvOptions cv;
  cv.n_folds = 5;
  cv.predictions = true;
  const Model model = cross_validate(table.data(), options, cv);
  ASSERT_EQ(model.n_lambdas, 20);
  EXPECT_GE(model.cv->best[1], 10);
  expect_predictions_of_fits_alone(table, options, cv, make_folds(60, 5, 1));
}

}  // namespace
}  // namespace thresher::testing_library

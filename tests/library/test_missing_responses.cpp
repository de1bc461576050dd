// A missing response takes its row out of that response's fits, and out of nothing else.

#include <cmath>

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

const double kNaN = std::nan("");

struct Setting {
  const char* name;
  Engine engine;
  double l1_ratio;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class MissingResponses : public testing::TestWithParam<Setting> {
 protected:
  Table table_{40, 15, 3};
  Options options_;

  void SetUp() override {
    for (Index i = 0; i < 40; i += 3) table_.y(i, 1) = kNaN;
    table_.y(5, 2) = kNaN;
    options_.engine = GetParam().engine;
    options_.l1_ratio = {GetParam().l1_ratio};
    options_.n_lambdas = 20;
    options_.tol = 1e-12;
    options_.early_stop.reset();
    options_.standardize = true;  // scales belong to the observed rows
  }
  Data data() const {
    Data out = table_.data();
    out.missing_responses = true;
    return out;
  }
  bool seen(Index i, Index r) const { return !std::isnan(table_.y(i, r)); }
};

TEST_P(MissingResponses, APathIsTheOneOfTheObservedRows) {
  const Model model = fit_path(data(), options_);
  for (Index r = 0; r < 3; ++r) {
    SCOPED_TRACE("response " + std::to_string(r));
    const Table observed = table_.subset(r, [&](Index i) { return seen(i, r); });
    const Model alone = fit_path(observed.data(), options_);
    for (Index l = 0; l < 20; ++l) {
      const Index f = model.fit(r, 0, l);
      EXPECT_NEAR(model.lambda[at(f)] / alone.lambda[at(l)], 1.0, 1e-11);
      EXPECT_TRUE(is_good(status(model, f)));
      EXPECT_NEAR(model.objective[at(f)] / alone.objective[at(l)], 1.0, 1e-9);
      const std::vector<double> a = coefficients(model, f), b = coefficients(alone, l);
      for (std::size_t j = 0; j < a.size(); ++j) EXPECT_NEAR(a[j], b[j], 2e-5);
    }
  }
}

TEST_P(MissingResponses, TheUnmarkedValueDoesNotMatter) {
  const Model model = fit_path(data(), options_);
  // The same rows switched off by weights, with 1e6 in place of what is missing.
  std::vector<double> weight(at(40 * 3), 1.0);
  Table filled = table_;
  for (Index r = 0; r < 3; ++r) {
    for (Index i = 0; i < 40; ++i) {
      if (seen(i, r)) continue;
      weight[at(r * 40 + i)] = 0.0;
      filled.y(i, r) = 1e6;
    }
  }
  Data weighted = filled.data();
  weighted.response_weight = MatrixView<const double>::column_major(weight.data(), 40, 3);
  expect_same_model(fit_path(weighted, options_), model, "weights of 0");
}

TEST_P(MissingResponses, OtherResponsesAreUnharmed) {
  const Model model = fit_path(data(), options_);
  const Table complete = table_.subset(0, [](Index) { return true; });
  const Model alone = fit_path(complete.data(), options_);
  for (Index l = 0; l < 20; ++l) {
    EXPECT_NEAR(model.objective[at(l)] / alone.objective[at(l)], 1.0, 1e-11);
  }
}

TEST_P(MissingResponses, FoldErrorsCountObservedRowsAlone) {
  CvOptions cv;
  cv.n_folds = 4;
  const std::vector<Index> fold = make_folds(40, 4, cv.seed);
  const Model model = cross_validate(data(), options_, cv);
  for (Index r = 0; r < 3; ++r) {
    double total = 0.0;
    std::vector<double> mean(20, 0.0);
    for (Index k = 0; k < 4; ++k) {
      const Table training =
          table_.subset(r, [&](Index i) { return seen(i, r) && fold[at(i)] != k; });
      Options given = options_;
      std::vector<double> grid;
      for (Index l = 0; l < 20; ++l) grid.push_back(model.lambda[at(model.fit(r, 0, l))]);
      given.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 20);
      const Model alone = fit_path(training.data(), given);
      double held_out = 0.0;
      for (Index i = 0; i < 40; ++i) held_out += seen(i, r) && fold[at(i)] == k ? 1.0 : 0.0;
      total += held_out;
      for (Index l = 0; l < 20; ++l) {
        const std::vector<double> b = coefficients(alone, l);
        double error = 0.0;
        for (Index i = 0; i < 40; ++i) {
          if (!seen(i, r) || fold[at(i)] != k) continue;
          double residual = table_.y(i, r) - alone.intercept[at(l)];
          for (Index j = 0; j < 15; ++j) residual -= table_.x(i, j) * b[at(j)];
          error += residual * residual / held_out;
        }
        mean[at(l)] += held_out * error;
        EXPECT_NEAR(model.cv->fold_error[at(model.fit(r, 0, l) * 4 + k)] / error, 1.0, 1e-5);
      }
    }
    for (Index l = 0; l < 20; ++l) {
      EXPECT_NEAR(model.cv->error[at(model.fit(r, 0, l))] / (mean[at(l)] / total), 1.0, 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, MissingResponses,
                         testing::Values(Setting{"lasso", Engine::kActiveSet, 1.0},
                                         Setting{"proximal", Engine::kProximalGradient, 0.7},
                                         Setting{"ridge", Engine::kRidge, 0.0},
                                         Setting{"reference", Engine::kReference, 0.7}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace thresher::testing_library

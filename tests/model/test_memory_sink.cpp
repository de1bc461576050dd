#include "model/memory_sink.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "model/sample_model.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(MemorySink, HoldsWhatItTook) {
  SampleSize size;
  size.n_folds = 3;
  size.predictions = true;
  const Model model = sample_model(size);
  EXPECT_EQ(model.n_lambdas, size.n_lambdas);
  EXPECT_EQ(model.cv->n_folds, 3);
  std::size_t next = 0;
  for (Index r = 0; r < size.n_responses; ++r) {
    const ResponseResult part = sample_result(size, r);
    for (Index a = 0; a < size.n_l1_ratios; ++a) {
      for (Index l = 0; l < size.n_lambdas; ++l) {
        const auto f = static_cast<std::size_t>(model.fit(r, a, l));
        const auto g = static_cast<std::size_t>(a * size.n_lambdas + l);
        EXPECT_EQ(model.lambda[f], part.lambda[g]);
        EXPECT_EQ(model.status[f], part.status[g]);
        EXPECT_EQ(model.iterations[f], part.iterations[g]);
        EXPECT_EQ(model.cv->error[f], part.cv_error[g]);
        for (std::size_t k = 0; k < 3; ++k) {
          EXPECT_EQ(model.cv->fold_error[f * 3 + k], part.cv_fold_error[g * 3 + k]);
        }
        EXPECT_EQ(static_cast<std::size_t>(model.coef_indptr[f]), next);
        for (const auto& [j, value] : part.coef[g]) {
          EXPECT_EQ(model.coef_indices[next], j);
          EXPECT_EQ(model.coef_values[next], value);
          ++next;
        }
        EXPECT_EQ(static_cast<std::size_t>(model.coef_indptr[f + 1]), next);
      }
    }
    for (std::size_t i = 0; i < part.predictions.size(); ++i) {
      const auto n = static_cast<std::size_t>(size.n_samples);
      EXPECT_EQ(model.cv->predictions[static_cast<std::size_t>(r) * n + i], part.predictions[i]);
    }
    EXPECT_EQ(model.cv->best[static_cast<std::size_t>(2 * r + 1)], part.best[1]);
    EXPECT_EQ(model.cv->boundary[static_cast<std::size_t>(r)], part.boundary ? 1 : 0);
  }
  EXPECT_EQ(next, model.coef_values.size());
}

TEST(MemorySink, PadsShorterGridsAndMissingResponses) {
  SampleSize size;
  size.n_folds = 2;
  size.longer_by = 2;  // response 1 alone, so that what is there already must move
  const Model model = sample_model(size, {0, 1, 3});
  ASSERT_EQ(model.n_lambdas, 5);
  ASSERT_EQ(model.lambda.size(), 4u * 2 * 5);
  ASSERT_EQ(model.coef_indptr.size(), 4u * 2 * 5 + 1);
  for (Index r = 0; r < 4; ++r) {
    const ResponseResult part = sample_result(size, r);
    const Index there = r == 2 ? 0 : part.n_lambdas;
    for (Index a = 0; a < 2; ++a) {
      for (Index l = 0; l < 5; ++l) {
        const auto f = static_cast<std::size_t>(model.fit(r, a, l));
        if (l < there) {
          const auto g = static_cast<std::size_t>(a * part.n_lambdas + l);
          EXPECT_EQ(model.lambda[f], part.lambda[g]);
          EXPECT_EQ(model.coef_indptr[f + 1] - model.coef_indptr[f],
                    static_cast<Index>(part.coef[g].size()));
          EXPECT_EQ(model.cv->fold_error[f * 2 + 1], part.cv_fold_error[g * 2 + 1]);
        } else {
          EXPECT_TRUE(std::isnan(model.lambda[f]));
          EXPECT_TRUE(std::isnan(model.intercept[f]));
          EXPECT_TRUE(std::isnan(model.cv->fold_error[f * 2 + 1]));
          EXPECT_EQ(model.status[f], static_cast<std::uint8_t>(Status::kNotComputed));
          EXPECT_EQ(model.coef_kept[f], 0);
          EXPECT_EQ(model.n_nonzero[f], 0);
          EXPECT_EQ(model.coef_indptr[f + 1], model.coef_indptr[f]);
        }
      }
    }
  }
  EXPECT_EQ(model.cv->best[2 * 2], 0);
  EXPECT_EQ(model.cv->best[2 * 3 + 1], sample_result(size, 3).best[1]);
}

TEST(MemorySink, NothingTakenIsAModelOfNothingComputed) {
  const Model model = sample_model(SampleSize{}, {});
  EXPECT_EQ(model.n_lambdas, 1);
  ASSERT_EQ(model.status.size(), 8u);
  for (const std::uint8_t code : model.status) EXPECT_EQ(code, 6);
  EXPECT_EQ(model.coef_indptr, std::vector<Index>(9, 0));
}

TEST(MemorySink, PredictionsOfSomeResponsesOnly) {
  SampleSize size;
  size.n_folds = 2;
  size.predictions = true;
  MemorySink sink;
  sink.begin(sample_header(size));
  for (const Index r : {0, 1, 2, 3}) {
    ResponseResult part = sample_result(size, r);
    if (r != 1) part.predictions.clear();
    sink.take(std::move(part));
  }
  const Model model = sink.finish();
  ASSERT_EQ(model.cv->predictions.size(), 28u);
  for (std::size_t i = 0; i < 28; ++i) {
    EXPECT_EQ(std::isnan(model.cv->predictions[i]), i / 7 != 1) << i;
  }
}

TEST(MemorySink, ValuesThatAreNotFiniteNeverPassAsAGoodFit) {
  const SampleSize size;
  MemorySink sink;
  sink.begin(sample_header(size));
  ResponseResult part = sample_result(size, 0);
  part.status.assign(part.status.size(), 0);
  part.coef_kept.assign(part.coef_kept.size(), 1);
  part.intercept.assign(part.intercept.size(), 1.0);
  for (auto& coef : part.coef) coef = {{2, 1.0}, {4, 2.0}};
  part.coef[1][1].second = kNaN;
  part.intercept[2] = std::numeric_limits<double>::infinity();
  part.status[3] = static_cast<std::uint8_t>(Status::kTimeLimit);
  part.coef[3][0].second = kNaN;
  sink.take(std::move(part));
  const Model model = sink.finish();
  EXPECT_EQ(std::vector<std::uint8_t>(model.status.begin(), model.status.begin() + 6),
            (std::vector<std::uint8_t>{0, 5, 5, 3, 0, 0}));
  EXPECT_EQ(std::vector<std::uint8_t>(model.coef_kept.begin(), model.coef_kept.begin() + 6),
            (std::vector<std::uint8_t>{1, 0, 0, 0, 1, 1}));
  EXPECT_EQ(model.coef_indices, (std::vector<Index>{2, 4, 2, 4, 2, 4}));
}

TEST(MemorySink, RefusesResultsThatDoNotFit) {
  SampleSize size;
  size.n_folds = 2;
  const std::vector<std::pair<const char*, std::function<void(ResponseResult&)>>> lies = {
      {"response", [](ResponseResult& x) { x.response = 0; }},
      {"response", [](ResponseResult& x) { x.response = 4; }},
      {"lambda", [](ResponseResult& x) { x.lambda.pop_back(); }},
      {"gap", [](ResponseResult& x) { x.gap.push_back(0); }},
      {"coef", [](ResponseResult& x) { x.coef.pop_back(); }},
      {"sizes", [](ResponseResult& x) { x.n_lambdas = -1; }},
      {"sizes", [](ResponseResult& x) { x.n_lambdas = Index{1} << 62; }},
      {"status", [](ResponseResult& x) { x.status[0] = 7; }},
      {"engine", [](ResponseResult& x) { x.engine[0] = 5; }},
      {"mode", [](ResponseResult& x) { x.mode[0] = 3; }},
      {"n_nonzero", [](ResponseResult& x) { x.n_nonzero[0] = 10; }},
      {"iterations", [](ResponseResult& x) { x.iterations[0] = -1; }},
      {"lambda", [](ResponseResult& x) { x.lambda[0] = -1.0; }},
      {"coefficient indices",
       [](ResponseResult& x) {
         x.coef[0] = {{9, 1.0}};
       }},
      {"coefficient indices",
       [](ResponseResult& x) {
         x.coef[0] = {{3, 1.0}, {3, 1.0}};
       }},
      {"coefficient indices",
       [](ResponseResult& x) {
         x.coef[0] = {{-1, 1.0}};
       }},
      {"cv.fold_error", [](ResponseResult& x) { x.cv_fold_error.pop_back(); }},
      {"best", [](ResponseResult& x) { x.best[1] = 3; }},
      {"one_se", [](ResponseResult& x) { x.one_se[0] = -1; }},
      {"predictions", [](ResponseResult& x) { x.predictions = {1.0}; }},
  };
  for (const auto& [word, lie] : lies) {
    MemorySink sink;
    sink.begin(sample_header(size));
    sink.take(sample_result(size, 0));
    ResponseResult part = sample_result(size, 2);
    lie(part);
    try {
      sink.take(std::move(part));
      ADD_FAILURE() << word;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Errc::kInvalidArgument);
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    }
  }
}

TEST(MemorySink, RefusesCallsOutOfOrder) {
  MemorySink sink;
  EXPECT_THROW(sink.finish(), Error);
  EXPECT_THROW(sink.take(sample_result(SampleSize{}, 0)), Error);
  sink.begin(sample_header(SampleSize{}));
  EXPECT_THROW(sink.begin(sample_header(SampleSize{})), Error);
  ModelHeader empty = sample_header(SampleSize{});
  empty.n_features = 0;
  EXPECT_THROW(MemorySink().begin(empty), Error);
}

}  // namespace
}  // namespace thresher

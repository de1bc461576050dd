#include "command/report.hpp"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "command/progress_line.hpp"
#include "command/summary_sink.hpp"
#include "command/text_table.hpp"
#include "readers/matrix_file.hpp"

namespace thresher::command {
namespace {

// Keeps what reaches the model file.
class RecordingSink : public ModelSink {
 public:
  void begin(const ModelHeader& header) override { n_responses = header.n_responses; }
  void take(ResponseResult&& result) override { results.push_back(std::move(result)); }

  Index n_responses = 0;
  std::vector<ResponseResult> results;
};

constexpr Index kFeatures = 9;
constexpr Index kLambdas = 3;

ModelHeader header_of(Index n_responses, Index n_folds) {
  ModelHeader header;
  header.n_samples = 4;
  header.n_features = kFeatures;
  header.n_responses = n_responses;
  header.n_l1_ratios = 2;
  header.n_folds = n_folds;
  header.l1_ratio = {0.5, 1.0};
  return header;
}

// Fit (a, l) has lambda 10^-l, l coefficients and error 100 + 10 a + l unless changed.
ResponseResult result_of(Index response, bool with_cv) {
  ResponseResult result;
  result.response = response;
  result.n_lambdas = kLambdas;
  for (Index a = 0; a < 2; ++a) {
    for (Index l = 0; l < kLambdas; ++l) {
      result.lambda.push_back(std::pow(10.0, -static_cast<double>(l)));
      result.intercept.push_back(0.25);
      result.objective.push_back(1.0);
      result.gap.push_back(1e-9 * static_cast<double>(l + 1));
      result.deviance.push_back(0.1 * static_cast<double>(l));
      result.status.push_back(static_cast<std::uint8_t>(Status::kConverged));
      result.engine.push_back(static_cast<std::uint8_t>(Engine::kActiveSet));
      result.mode.push_back(static_cast<std::uint8_t>(Mode::kResidual));
      result.rank_deficient.push_back(0);
      result.n_nonzero.push_back(l);
      result.iterations.push_back(1);
      result.coef_kept.push_back(1);
      std::vector<std::pair<Index, double>> coef;
      for (Index k = 0; k < l; ++k) coef.emplace_back(k + 3, k == 0 ? 0.5 : -2.0);
      result.coef.push_back(coef);
      if (with_cv) {
        result.cv_error.push_back(static_cast<double>(100 + 10 * a + l));
        result.cv_se.push_back(3.0);
        result.cv_train_error.push_back(90.0);
      }
    }
  }
  if (with_cv) {
    result.best[0] = 1;
    result.best[1] = 2;
    result.one_se[0] = 1;
    result.one_se[1] = 1;
    result.predictions = {1.0, 2.0, 3.0, 4.0};
  }
  return result;
}

RunReport report_of(Index n_responses, bool with_cv,
                    const std::function<void(ResponseResult&)>& change = {}) {
  RecordingSink file;
  SummarySink sink(file, "");
  sink.begin(header_of(n_responses, with_cv ? 5 : 0));
  for (Index r = 0; r < n_responses; ++r) {
    ResponseResult result = result_of(r, with_cv);
    if (change) change(result);
    sink.take(std::move(result));
  }
  sink.finish();
  RunReport report;
  report.summary = sink.summary();
  report.stats.n_fits = 6 * n_responses;
  report.stats.worst_gap = 3e-9;
  report.stats.threads = 2;
  report.stats.device_note = "no CUDA device is present";
  report.stats.planned_bytes = 12345;
  report.seconds = {.read = 0.5, .solve = 1.5, .solve_cpu = 1.25, .write = 0.25};
  report.peak_memory_bytes = std::size_t{3} << 20;
  report.command_line = {"thresher", "cv", "-x", "X.npy"};
  report.output = "m.safetensors";
  return report;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(SummarySink, HandsEverythingButPredictionsToTheFile) {
  RecordingSink file;
  SummarySink sink(file, "");
  sink.begin(header_of(1, 5));
  sink.take(result_of(0, true));

  ASSERT_EQ(file.n_responses, 1);
  ASSERT_EQ(file.results.size(), 1u);
  EXPECT_EQ(file.results[0].lambda, result_of(0, true).lambda);
  EXPECT_EQ(file.results[0].coef, result_of(0, true).coef);
}

TEST(SummarySink, ReadsTheChosenFitsOfAResponse) {
  const RunReport report = report_of(1, true);
  const ChosenSummary& chosen = report.summary.chosen.at(0);

  EXPECT_EQ(chosen.best.l1_ratio, 1.0);
  EXPECT_EQ(chosen.best.lambda, 0.01);
  EXPECT_EQ(chosen.best.error, 112.0);
  EXPECT_EQ(chosen.best.se, 3.0);
  EXPECT_EQ(chosen.best.train_error, 90.0);
  EXPECT_EQ(chosen.best.n_nonzero, 2);
  EXPECT_EQ(chosen.one_se.lambda, 0.1);
  EXPECT_EQ(chosen.one_se.n_nonzero, 1);
  const std::vector<std::pair<Index, double>> largest_first = {{4, -2.0}, {3, 0.5}};
  EXPECT_EQ(chosen.top_features, largest_first);
}

TEST(SummarySink, CountsResponsesThatNeverCameAsNotComputed) {
  RecordingSink file;
  SummarySink sink(file, "");
  sink.begin(header_of(3, 0));
  sink.take(result_of(0, false));
  sink.finish();

  const auto& counts = sink.summary().status_count;
  EXPECT_EQ(counts[static_cast<std::size_t>(Status::kConverged)], 6);
  EXPECT_EQ(counts[static_cast<std::size_t>(Status::kNotComputed)], 12);
}

// An interrupted run may leave out responses anywhere; the others must keep their columns.
TEST(SummarySink, LeavesNaNWherePredictionsAreMissing) {
  const std::string path = testing::TempDir() + "summary_sink_predictions.npy";
  RecordingSink file;
  SummarySink sink(file, path);
  sink.begin(header_of(4, 5));
  sink.take(result_of(1, true));
  ResponseResult cut_short = result_of(2, true);
  cut_short.predictions.clear();
  sink.take(std::move(cut_short));
  sink.finish();
  sink.commit_predictions();

  const MatrixFile written = read_matrix(path);
  ASSERT_EQ(written.rows, 4);
  ASSERT_EQ(written.cols, 4);
  for (Index i = 0; i < 4; ++i) {
    for (const Index absent : {0, 2, 3}) {
      EXPECT_TRUE(std::isnan(element(written.view(), i, absent)));
    }
    EXPECT_EQ(element(written.view(), i, 1), static_cast<double>(i + 1));
  }
  std::filesystem::remove(path);
}

TEST(SummarySink, SurvivesAResponseThatWasCutShort) {
  const RunReport report = report_of(1, true, [](ResponseResult& result) {
    result.cv_error.assign(result.cv_error.size(), std::nan(""));
    result.status.assign(result.status.size(), static_cast<std::uint8_t>(Status::kNotComputed));
  });

  EXPECT_EQ(report.summary.chosen.at(0).best.lambda_position, -1);
  EXPECT_TRUE(contains(report_text(report), "not finished"));
  EXPECT_TRUE(nlohmann::json::parse(report_json(report))["chosen"][0]["lambda_best"].is_null());
}

TEST(ReportText, ShowsNamesErrorsAndLargestFeaturesOfCv) {
  RunReport report = report_of(2, true);
  report.response_names = {"water", "fat"};
  report.feature_names = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
  const std::string text = report_text(report);

  EXPECT_TRUE(contains(text, "water")) << text;
  EXPECT_TRUE(contains(text, "112 ± 3")) << text;
  EXPECT_TRUE(contains(text, "e -2, d 0.5")) << text;
  EXPECT_TRUE(contains(text, "worst relative gap 3.0e-09, all ended well")) << text;
  EXPECT_TRUE(contains(text,
                       "engine active-set, mode residual, 2 threads, peak memory 3 MB\n"
                       "device: cpu (no CUDA device is present)\n"))
      << text;
  EXPECT_FALSE(contains(text, "hint")) << text;
}

TEST(ReportText, StopsAfterTwentyResponses) {
  const std::string cv = report_text(report_of(23, true));
  const std::string path = report_text(report_of(23, false));

  for (const std::string& text : {cv, path}) {
    EXPECT_TRUE(contains(text, "\ny19 ")) << text;
    EXPECT_FALSE(contains(text, "\ny20 ")) << text;
    EXPECT_TRUE(contains(text, "... and 3 more (all in the model file)")) << text;
  }
  EXPECT_FALSE(contains(report_text(report_of(20, true)), "more"));
}

TEST(ReportText, ShowsOneRowForEachPath) {
  const std::string text = report_text(report_of(1, false, [](ResponseResult& result) {
    result.status[2] = static_cast<std::uint8_t>(Status::kNotComputed);
  }));

  // lambda_max, last lambda, fits, features, deviance, worst gap: the first path ends early.
  EXPECT_TRUE(contains(text,
                       "y0             0.5           1          0.1     2         1       0.1"
                       "    2.0e-09"))
      << text;
  EXPECT_TRUE(contains(text, "3.0e-09")) << text;
}

TEST(ReportText, ExplainsOverfittingEdgesAndEmptyModels) {
  const std::string overfit = report_text(report_of(2, true, [](ResponseResult& result) {
    result.cv_train_error.assign(result.cv_train_error.size(), 50.0);
  }));
  const std::string edge =
      report_text(report_of(2, true, [](ResponseResult& r) { r.boundary = r.response == 1; }));
  const std::string empty =
      report_text(report_of(1, true, [](ResponseResult& result) { result.best[1] = 0; }));

  EXPECT_TRUE(contains(overfit, "training error is far below the cv error (2 of 2 responses)"));
  EXPECT_TRUE(contains(edge, "the best lambda is the end of its grid (1 of 2 responses)"));
  EXPECT_TRUE(contains(empty, "no feature improves on the mean:"));
}

TEST(ReportText, SaysWhatDidNotConverge) {
  RunReport report = report_of(1, true, [](ResponseResult& result) {
    result.status[5] = static_cast<std::uint8_t>(Status::kIterationLimit);
  });
  report.stats.n_not_converged = 4;
  const std::string text = report_text(report);

  EXPECT_TRUE(contains(text, "4 fits did not converge")) << text;
  EXPECT_TRUE(contains(text, "iteration limit 1")) << text;
}

TEST(ReportJson, HoldsCountsChoicesAndSeconds) {
  RunReport report = report_of(2, true);
  report.response_names = {"caf\xe9", "fat"};  // Latin-1, which no JSON may hold
  const auto json = nlohmann::json::parse(report_json(report));

  EXPECT_EQ(json["n_samples"], 4);
  EXPECT_EQ(json["n_features"], kFeatures);
  EXPECT_EQ(json["n_responses"], 2);
  EXPECT_EQ(json["n_l1_ratios"], 2);
  EXPECT_EQ(json["n_lambdas"], kLambdas);
  EXPECT_EQ(json["n_folds"], 5);
  EXPECT_EQ(json["n_fits"], 12);
  EXPECT_EQ(json["n_not_converged"], 0);
  EXPECT_EQ(json["worst_gap"], 3e-9);
  EXPECT_EQ(json["seconds"]["read"], 0.5);
  EXPECT_EQ(json["seconds"]["solve"], 1.5);
  EXPECT_EQ(json["seconds"]["solve_cpu"], 1.25);
  EXPECT_EQ(json["seconds"]["write"], 0.25);
  EXPECT_EQ(json["engine"], "active-set");
  EXPECT_EQ(json["mode"], "residual");
  EXPECT_EQ(json["threads"], 2);
  EXPECT_EQ(json["peak_memory_bytes"], 3 << 20);
  EXPECT_EQ(json["memory_planned_bytes"], 12345);
  EXPECT_EQ(json["statuses"]["converged"], 12);
  EXPECT_EQ(json["interrupted"], false);
  EXPECT_EQ(json["command_line"][1], "cv");
  ASSERT_EQ(json["chosen"].size(), 2u);
  EXPECT_EQ(json["chosen"][1]["name"], "fat");
  EXPECT_EQ(json["chosen"][1]["lambda_best"], 0.01);
  EXPECT_EQ(json["chosen"][1]["lambda_1se"], 0.1);
  EXPECT_EQ(json["chosen"][1]["cv_error"], 112.0);
}

TEST(ProgressText, GivesShareRateAndTimeLeft) {
  EXPECT_EQ(progress_text({0, 100, 0.0}), "  0 %");
  EXPECT_EQ(progress_text({25, 100, 5.0}), " 25 %  5 fits/s  15 s left");
  EXPECT_EQ(progress_text({25, 100, 0.1}), " 25 %");
  EXPECT_EQ(progress_text({0, 0, 0.0}), "starting");
  EXPECT_EQ(duration_text(0.421), "0.42 s");
  EXPECT_EQ(duration_text(200.0), "3 min 20 s");
  EXPECT_EQ(duration_text(7500.0), "2 h 5 min");
}

TEST(CsvField, QuotesWhatWouldBreakTheRow) {
  EXPECT_EQ(csv_field("plain"), "plain");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"x\""), "\"say \"\"x\"\"\"");
}

TEST(ExactText, ReadsBackAsTheSameDouble) {
  for (const double value : {0.1, 1.0 / 3.0, -1e-300, 5e-324, 1.7976931348623157e308}) {
    EXPECT_EQ(std::strtod(exact_text(value).c_str(), nullptr), value);
  }
}

}  // namespace
}  // namespace thresher::command

#include <csignal>

#include <chrono>
#include <cmath>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "command_fixture.hpp"
#include "readers/matrix_file.hpp"
#include "thresher/error.hpp"
#include "thresher/model_file.hpp"

namespace thresher {
namespace {

using Words = std::vector<std::string>;

class CommandTest : public CommandFixture {
 protected:
  // A refusal: this exit code, one line on stderr with these words, and no new file.
  void expect_refused(const Words& words, int code, const std::string& part) {
    SCOPED_TRACE(testing::PrintToString(words));
    const auto before = files();
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.err.rfind("thresher: ", 0), 0u) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(files(), before);
  }

  Outcome expect_code(const Words& words, int code) {
    SCOPED_TRACE(testing::PrintToString(words));
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    return outcome;
  }

  nlohmann::json json(const std::string& name) { return nlohmann::json::parse(read(name)); }

  std::vector<std::vector<std::string>> csv(const std::string& name) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(read(name));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::vector<std::string>& row = rows.emplace_back();
      for (std::string field; std::getline(fields, field, ',');) row.push_back(field);
    }
    return rows;
  }

  // X (4, 2), y, as CSV with names.
  void write_small_tables() {
    write("X.csv", "height,width\n1,2\n2,1\n3,5\n4,3\n5,9\n");
    write("y.csv", "weight\n1\n3\n2\n5\n4\n");
  }
};

TEST_F(CommandTest, RefusesBadArguments) {
  expect_refused({}, 2, "subcommand is required");
  expect_refused({"fit"}, 2, "");
  expect_refused({"path", "-x", "X.npy", "-o", "m", "--tol", "abc"}, 2,
                 "--tol: must be a number, got 'abc'");
  expect_refused({"path", "-x", "X.npy", "-o", "m", "--device", "gpu"}, 2,
                 "--device: must be one of auto, cpu, cuda, got 'gpu'");
  expect_refused({"path", "-x", "X.npy", "-o", "m", "--no-such-option"}, 2, "--no-such-option");
  expect_refused({"path", "-y", "Y.npy", "-o", "m"}, 2, "-x is required");
  expect_refused({"simulate", "--rows", "0", "--features", "5", "-o", "s"}, 2,
                 "simulate: rows must be at least 1, got 0");
  expect_refused({"coef", "-m", "m", "-o", "c.csv", "--choose", "worst"}, 2, "--choose: must be");
}

TEST_F(CommandTest, PrintsHelpAndVersionOnStdout) {
  for (const Words& words : {Words{"--help"}, Words{"cv", "--help"}, Words{"--version"}}) {
    const Outcome outcome = expect_code(words, 0);
    EXPECT_NE(outcome.out.find("thresher"), std::string::npos);
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(CommandTest, DescribesItself) {
  const auto info = nlohmann::json::parse(expect_code({"info", "--json"}, 0).out);

  for (const char* key :
       {"version", "compiler", "blas", "instruction_set", "device", "device_library"}) {
    EXPECT_FALSE(info.at(key).get<std::string>().empty()) << key;
  }
  EXPECT_GE(info.at("threads_available").get<int>(), 1);
  EXPECT_EQ(info.at("device") == "cuda", info.at("device_why_not") == "");
  EXPECT_NE(expect_code({"info"}, 0).out.find(info.at("version").get<std::string>()),
            std::string::npos);
}

TEST_F(CommandTest, FailsWhenStdoutIsFull) {
  const Outcome outcome = shell("\"$thresher\" info > /dev/full");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("stdout must be writable"), std::string::npos) << outcome.err;
}

TEST_F(CommandTest, SimulatesTheSameFilesTwice) {
  const Words size = {"--rows", "30", "--features", "20", "--responses", "2", "--seed", "9"};
  simulate("a", size);
  simulate("deep/b", size);
  for (const char* name : {"X.npy", "Y.npy", "coef.npy", "truth.json"}) {
    EXPECT_EQ(read(std::string("a/") + name), read(std::string("deep/b/") + name)) << name;
  }

  const MatrixFile X = read_matrix(path("a/X.npy"));
  const MatrixFile Y = read_matrix(path("a/Y.npy"));
  const MatrixFile coef = read_matrix(path("a/coef.npy"));
  EXPECT_EQ(X.rows, 30);
  EXPECT_EQ(X.cols, 20);
  EXPECT_TRUE(X.column_major);
  EXPECT_EQ(Y.rows, 30);
  EXPECT_EQ(Y.cols, 2);
  EXPECT_EQ(coef.rows, 20);
  EXPECT_EQ(coef.cols, 2);
  const auto truth = json("a/truth.json");
  EXPECT_EQ(truth["seed"], 9);
  EXPECT_EQ(truth["support"], 10);
  EXPECT_EQ(truth["snr"], 3.0);
  // Y - X coef is the noise: each response has its own scale, within 5 standard errors.
  for (Index r = 0; r < 2; ++r) {
    double noise = 0.0;
    for (Index i = 0; i < 30; ++i) {
      double residual = element(Y.view(), i, r);
      for (Index j = 0; j < 20; ++j) {
        residual -= element(X.view(), i, j) * element(coef.view(), j, r);
      }
      noise += residual * residual / 30;
    }
    const double sd = truth["noise_sd"][static_cast<std::size_t>(r)];
    EXPECT_NEAR(noise / (sd * sd), 1.0, 5 * std::sqrt(2.0 / 30));
  }
}

TEST_F(CommandTest, SimulatesIntoNothingButAFolder) {
  write("file", "old");
  expect_refused({"simulate", "--rows", "5", "--features", "5", "-o", "file/sub"}, 1, "file/sub");
  EXPECT_EQ(read("file"), "old");
}

TEST_F(CommandTest, TellsMissingFilesFromBadOnes) {
  write_small_tables();
  write("ragged.csv", "a,b\n1,2\n3\n");
  write("broken.safetensors", "not a model");

  expect_refused({"path", "-x", "none.npy", "-y", "y.csv", "-o", "m"}, 1, "none.npy");
  expect_refused({"path", "-x", "X.csv", "-y", "none.csv", "-o", "m"}, 1, "none.csv");
  expect_refused({"path", "-x", "ragged.csv", "-y", "y.csv", "-o", "m"}, 2, "ragged.csv");
  expect_refused({"path", "-x", "X.csv", "-o", "m"}, 2, "-y: must name a file of responses");
  expect_refused({"coef", "-m", "none.safetensors", "-o", "c.csv"}, 1, "none.safetensors");
  expect_refused({"coef", "-m", "broken.safetensors", "-o", "c.csv"}, 2, "broken.safetensors");
  expect_refused({"predict", "-m", "none.safetensors", "-x", "X.csv", "-o", "p.npy"}, 1,
                 "none.safetensors");
}

TEST_F(CommandTest, HearsOfAMissingOutputFolderBeforeTheWork) {
  write_small_tables();
  const Words fit = {"cv", "-x", "X.csv", "-y", "y.csv", "--folds", "2"};
  const auto with = [&](const Words& more) {
    Words words = fit;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };

  expect_refused(with({"-o", "no/m.safetensors"}), 1, "no/m.safetensors");
  expect_refused(with({"-o", "m.safetensors", "--json", "no/s.json"}), 1, "no/s.json");
  expect_refused(with({"-o", "m.safetensors", "--predictions", "no/p.npy"}), 1, "no/p.npy");
  // Not even X is opened.
  expect_refused({"path", "-x", "none.npy", "-o", "no/m"}, 1, "no/m");
}

TEST_F(CommandTest, NeverWritesOverItsInput) {
  write_small_tables();
  write("model", "m");
  const std::string X = read("X.csv");

  expect_refused({"path", "-x", "X.csv", "-y", "y.csv", "-o", "X.csv"}, 2, "file of its own");
  expect_refused({"path", "-x", "X.csv", "-y", "y.csv", "-o", path("y.csv")}, 2, "y.csv");
  expect_refused({"cv", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--json", "./m"}, 2, "./m");
  expect_refused({"coef", "-m", "model", "-o", "model"}, 2, "model");
  expect_refused({"predict", "-m", "model", "-x", "X.csv", "-o", "X.csv"}, 2, "X.csv");
  EXPECT_EQ(read("X.csv"), X);
}

TEST_F(CommandTest, RefusesToReplaceADevice) {
  write_small_tables();
  expect_refused({"path", "-x", "X.csv", "-y", "y.csv", "-o", "/dev/null"}, 1, "/dev/null");
}

TEST_F(CommandTest, RefusesNamesThatDoNotCount) {
  write_small_tables();
  write("f.txt", "one\ntwo\nthree\n");
  expect_refused({"path", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--feature-names", "f.txt"}, 2,
                 "one name for each of the 2 features, got 3");
  expect_refused({"path", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--response-names", "f.txt"}, 2,
                 "one name for each of the 1 responses, got 3");
}

TEST_F(CommandTest, RefusesShuffledRowNames) {
  write("X.csv", ",a,b\nr1,1,2\nr2,2,1\nr3,3,5\n");
  write("shuffled.csv", ",y\nr1,1\nr3,3\nr2,2\n");
  expect_refused({"path", "-x", "X.csv", "-y", "shuffled.csv", "-o", "m"}, 2,
                 "row 1 is 'r2' in X, 'r3' in Y");
}

TEST_F(CommandTest, RefusesFoldsThatAreNoWholeNumbers) {
  write_small_tables();
  write_array("f.npy", {5}, {0, 1, 0.5, 1, 0});
  write_array("square.npy", {5, 2}, {0, 1, 0, 1, 0, 1, 0, 1, 0, 1});
  const Words cv = {"cv", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--fold-id"};
  Words words = cv;
  words.push_back("f.npy");
  expect_refused(words, 2, "--fold-id: entry 2 must be a whole number");
  words.back() = "square.npy";
  expect_refused(words, 2, "must hold one row or one column, got shape (5, 2)");
}

TEST_F(CommandTest, ForwardsTheRefusalsOfTheLibrary) {
  write_small_tables();
  write("y3.csv", "weight\n1\n3\n2\n");
  write("nan.csv", "weight\n1\nNA\n2\n5\n4\n");
  write_array("nan.npy", {5, 2}, {1, 2, 2, 1, 3, std::nan(""), 4, 3, 5, 9});
  write_array("nan_y.npy", {5}, {1, 2, std::nan(""), 4, 5});
  write_array("u3.npy", {3}, {1, 1, 1});
  write_array("negative.npy", {5}, {1, 1, -1, 1, 1});
  write_array("gap.npy", {5}, {0, 2, 0, 2, 0});
  write_array("unsorted.npy", {3}, {0.1, 0.5, 0.2});
  const Words data = {"-x", "X.csv", "-y", "y.csv", "-o", "m"};
  const auto refused = [&](const std::string& verb, const Words& more, const std::string& part) {
    Words words{verb};
    words.insert(words.end(), data.begin(), data.end());
    words.insert(words.end(), more.begin(), more.end());
    expect_refused(words, 2, part);
  };

  expect_refused({"path", "-x", "X.csv", "-y", "y3.csv", "-o", "m"}, 2, "3");
  expect_refused({"path", "-x", "nan.npy", "-y", "y.csv", "-o", "m"}, 2, "NaN in row 2, column 1");
  expect_refused({"path", "-x", "X.csv", "-y", "nan.csv", "-o", "m"}, 2, "nan.csv");
  expect_refused({"path", "-x", "X.csv", "-y", "nan_y.npy", "-o", "m"}, 2,
                 "NaN in row 2, column 0");
  refused("path", {"--l1-ratio", "1.5"}, "1.5");
  refused("path", {"--tol", "0"}, "tol");
  refused("path", {"--tol", "nan"}, "tol");
  refused("path", {"--lambdas", "0"}, "0");
  refused("path", {"--max-iterations", "0"}, "max_iterations");
  refused("path", {"--dropout", "1"}, "dropout");
  refused("path", {"--l1-factors", "u3.npy"}, "3");
  refused("path", {"--weights", "negative.npy"}, "-1");
  refused("path", {"--lambda-grid", "unsorted.npy"}, "lambda");
  refused("path", {"--keep", "chosen"}, "keep");
  refused("cv", {"--fold-id", "gap.npy"}, "fold");
  refused("cv", {"--folds", "1"}, "fold");
  refused("cv", {"--folds", "6"}, "6");
}

TEST_F(CommandTest, PlansWithoutFitting) {
  write_small_tables();
  const auto before = files();
  for (const char* verb : {"path", "cv"}) {
    Words words = {verb, "-x", "X.csv", "-y", "y.csv", "--plan"};
    if (words[0] == "cv") words.insert(words.end(), {"--folds", "2"});
    const Outcome outcome = expect_code(words, 0);
    EXPECT_FALSE(outcome.out.empty());
  }
  EXPECT_EQ(files(), before);
}

TEST_F(CommandTest, PredictsWhatItsCoefficientsSay) {
  simulate("s", {"--rows", "60", "--features", "100", "--responses", "3"});
  expect_code({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m.safetensors", "--lambdas", "20",
               "--json", "s.json", "--l1-ratio", "0.5,1"},
              0);
  const Model model = load_model(path("m.safetensors"));
  ASSERT_EQ(model.n_responses, 3);
  ASSERT_EQ(model.n_l1_ratios, 2);
  ASSERT_EQ(model.n_lambdas, 20);

  expect_code({"coef", "-m", "m.safetensors", "-o", "c.csv", "--choose", "1,9"}, 0);
  expect_code({"predict", "-m", "m.safetensors", "-x", "s/X.npy", "-o", "p.npy", "--choose", "1,9"},
              0);

  const MatrixFile X = read_matrix(path("s/X.npy"));
  const MatrixFile predicted = read_matrix(path("p.npy"));
  ASSERT_EQ(predicted.rows, 60);
  ASSERT_EQ(predicted.cols, 3);
  std::vector<double> fitted(60 * 3, 0.0);
  const auto rows = csv("c.csv");
  ASSERT_EQ(rows.at(0),
            (Words{"response", "l1_ratio", "lambda", "feature_index", "feature", "coefficient"}));
  for (std::size_t k = 1; k < rows.size(); ++k) {
    ASSERT_EQ(rows[k].size(), 6u);
    const Index r = std::stoll(rows[k][0].substr(1));
    EXPECT_EQ(rows[k][1], "1");
    const double value = std::stod(rows[k][5]);
    for (Index i = 0; i < 60; ++i) {
      const bool intercept = rows[k][4] == "(intercept)";
      EXPECT_EQ(intercept, rows[k][3].empty());
      fitted[static_cast<std::size_t>(3 * i + r)] +=
          value * (intercept ? 1.0 : element(X.view(), i, std::stoll(rows[k][3])));
    }
  }
  EXPECT_GT(rows.size(), 6u);  // more than three intercepts
  for (Index i = 0; i < 60; ++i) {
    for (Index r = 0; r < 3; ++r) {
      EXPECT_NEAR(element(predicted.view(), i, r), fitted[static_cast<std::size_t>(3 * i + r)],
                  1e-12);
    }
  }

  const auto summary = json("s.json");
  EXPECT_EQ(summary["n_samples"], 60);
  EXPECT_EQ(summary["n_features"], 100);
  EXPECT_EQ(summary["n_l1_ratios"], 2);
  EXPECT_EQ(summary["n_folds"], 0);
  EXPECT_LE(summary["worst_gap"].get<double>(), 1e-7);
  EXPECT_EQ(summary["n_not_converged"], 0);
  EXPECT_FALSE(summary["interrupted"].get<bool>());
  EXPECT_GT(summary["peak_memory_bytes"].get<double>(), 1e6);
  EXPECT_EQ(summary["command_line"][1], "path");
}

TEST_F(CommandTest, WritesEveryKeptFitOnRequest) {
  simulate("s", {"--rows", "30", "--features", "10", "--responses", "2"});
  expect_code({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--lambdas", "5",
               "--early-stop", "off", "--quiet"},
              0);
  expect_code({"coef", "-m", "m", "-o", "all.csv", "--choose", "all"}, 0);

  const auto rows = csv("all.csv");
  EXPECT_EQ(std::count_if(rows.begin(), rows.end(),
                          [](const auto& row) { return row[4] == "(intercept)"; }),
            10);
  expect_refused({"coef", "-m", "m", "-o", "c.csv"}, 2, "--choose: must be A,L");
  expect_refused({"coef", "-m", "m", "-o", "c.csv", "--choose", "best"}, 2,
                 "--choose: must be A,L");
  expect_refused({"coef", "-m", "m", "-o", "c.csv", "--choose", "0,5"}, 2, "must lie below 1,5");
}

TEST_F(CommandTest, ChoosesByCrossValidationAndWritesOutOfFoldPredictions) {
  simulate("s", {"--rows", "60", "--features", "40", "--responses", "2", "--support", "4"});
  const Outcome outcome =
      expect_code({"cv", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--folds", "5", "--lambdas",
                   "30", "--predictions", "oof.npy", "--json", "s.json"},
                  0);
  EXPECT_NE(outcome.out.find("cv error ± se"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("y1"), std::string::npos) << outcome.out;

  const Model model = load_model(path("m"));
  ASSERT_TRUE(model.cv.has_value());
  EXPECT_EQ(model.cv->n_folds, 5);
  const auto summary = json("s.json");
  EXPECT_EQ(summary["n_folds"], 5);
  const MatrixFile Y = read_matrix(path("s/Y.npy"));
  const MatrixFile oof = read_matrix(path("oof.npy"));
  ASSERT_EQ(oof.rows, 60);
  ASSERT_EQ(oof.cols, 2);
  for (Index r = 0; r < 2; ++r) {
    const auto& chosen = summary["chosen"][static_cast<std::size_t>(r)];
    const Index l = chosen["best"][1];
    EXPECT_EQ(l, model.cv->best[static_cast<std::size_t>(2 * r + 1)]);
    EXPECT_EQ(chosen["lambda_best"], model.lambda[static_cast<std::size_t>(model.fit(r, 0, l))]);
    EXPECT_LE(chosen["lambda_best"].get<double>(), chosen["lambda_1se"].get<double>());
    // Folds of equal size: the error is the mean over all rows.
    double error = 0.0;
    for (Index i = 0; i < 60; ++i) {
      error += std::pow(element(Y.view(), i, r) - element(oof.view(), i, r), 2) / 60;
    }
    EXPECT_NEAR(chosen["cv_error"].get<double>(), error, 1e-9 * error);
  }

  expect_code({"coef", "-m", "m", "-o", "best.csv"}, 0);
  expect_code({"coef", "-m", "m", "-o", "one_se.csv", "--choose", "one-se"}, 0);
  expect_code({"predict", "-m", "m", "-x", "s/X.npy", "-o", "p.npy", "--choose", "one-se"}, 0);
  for (const auto& [file, key] :
       {std::pair{"best.csv", "lambda_best"}, std::pair{"one_se.csv", "lambda_1se"}}) {
    for (const auto& row : csv(file)) {
      if (row[0] == "response") continue;
      const auto& chosen = summary["chosen"][row[0] == "y0" ? 0 : 1];
      EXPECT_EQ(std::stod(row[2]), chosen[key].get<double>()) << file;
    }
  }
  // Else the two choices could be swapped unnoticed.
  EXPECT_NE(summary["chosen"][0]["lambda_best"], summary["chosen"][0]["lambda_1se"]);
}

TEST_F(CommandTest, KeepsTheChosenFitsAlone) {
  simulate("s", {"--rows", "40", "--features", "20", "--responses", "2"});
  const Words cv = {"cv", "-x", "s/X.npy", "-y", "s/Y.npy", "--folds", "4", "--lambdas", "20"};
  Words all = cv, chosen = cv;
  all.insert(all.end(), {"-o", "all"});
  chosen.insert(chosen.end(), {"-o", "chosen", "--keep", "chosen"});
  expect_code(all, 0);
  expect_code(chosen, 0);
  for (const char* which : {"best", "one-se"}) {
    expect_code({"coef", "-m", "all", "-o", "a.csv", "--choose", which}, 0);
    expect_code({"coef", "-m", "chosen", "-o", "b.csv", "--choose", which}, 0);
    EXPECT_EQ(read("a.csv"), read("b.csv")) << which;
  }
  EXPECT_LT(read("chosen").size(), read("all").size());
}

TEST_F(CommandTest, CarriesNamesIntoModelTableAndRefusals) {
  write_small_tables();
  expect_code({"path", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--lambda-min-ratio", "0.001"}, 0);
  const Model model = load_model(path("m"));
  EXPECT_EQ(model.feature_names, (Words{"height", "width"}));
  EXPECT_EQ(model.response_names, (Words{"weight"}));

  expect_code({"coef", "-m", "m", "-o", "c.csv", "--choose", "0,30"}, 0);
  EXPECT_EQ(csv("c.csv").at(1)[0], "weight");
  EXPECT_EQ(csv("c.csv").at(2)[4], "height");

  write("renamed.csv", "height,depth\n1,2\n");
  expect_refused({"predict", "-m", "m", "-x", "renamed.csv", "-o", "p.npy", "--choose", "0,30"}, 2,
                 "must be 'width' as in the model, got 'depth'");
  write("wide.csv", "1,2,3\n");
  expect_refused({"predict", "-m", "m", "-x", "wide.csv", "-o", "p.npy", "--choose", "0,30"}, 2,
                 "must have 2 columns as in the model, got 3");
}

TEST_F(CommandTest, TakesGridsSharedAndPerResponse) {
  simulate("s", {"--rows", "20", "--features", "5", "--responses", "3"});
  write_array("shared.npy", {3}, {0.5, 0.25, 0.125});
  write_array("one_each.npy", {3, 1}, {0.5, 0.25, 0.125});
  write_array("two_each.npy", {3, 2}, {0.5, 0.1, 0.25, 0.1, 0.125, 0.1});
  const auto lambdas = [&](const std::string& grid) {
    expect_code({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--lambda-grid", grid,
                 "--early-stop", "off"},
                0);
    return load_model(path("m")).lambda;
  };

  EXPECT_EQ(lambdas("shared.npy"),
            (std::vector<double>{0.5, 0.25, 0.125, 0.5, 0.25, 0.125, 0.5, 0.25, 0.125}));
  EXPECT_EQ(lambdas("one_each.npy"), (std::vector<double>{0.5, 0.25, 0.125}));
  EXPECT_EQ(lambdas("two_each.npy"), (std::vector<double>{0.5, 0.1, 0.25, 0.1, 0.125, 0.1}));
}

TEST_F(CommandTest, TakesWeightsFactorsFoldsAndMissingResponses) {
  simulate("s", {"--rows", "20", "--features", "5", "--responses", "2"});
  std::vector<double> ones(20, 1.0), w(40, 1.0), folds;
  for (int i = 0; i < 20; ++i) folds.push_back(i % 4);
  w[7] = 0.0;
  write_array("w.npy", {20}, ones);
  write_array("w2.npy", {20, 2}, w);
  write_array("u.npy", {5}, {1, 0, 1, std::numeric_limits<double>::infinity(), 2});
  write_array("d.npy", {5}, {0, 0, 0.5, 0, 0});
  write_array("f.npy", {20}, folds);
  const Words cv = {"cv", "-x",        "s/X.npy", "-y",        "s/Y.npy", "-o",
                    "m",  "--lambdas", "10",      "--fold-id", "f.npy"};
  const auto with = [&](const Words& more) {
    Words words = cv;
    words.insert(words.end(), more.begin(), more.end());
    expect_code(words, 0);
    return load_model(path("m"));
  };

  const Model plain = with({});
  EXPECT_EQ(plain.cv->n_folds, 4);
  EXPECT_EQ(with({"--weights", "w.npy"}).coef_values, plain.coef_values);
  EXPECT_NE(with({"--weights", "w2.npy"}).coef_values, plain.coef_values);
  const Model factors = with({"--l1-factors", "u.npy"});
  for (const Index feature : factors.coef_indices) EXPECT_NE(feature, 3);
  EXPECT_NE(with({"--fixed-l2", "d.npy"}).coef_values, plain.coef_values);
  EXPECT_NE(with({"--dropout", "0.3"}).coef_values, plain.coef_values);
  EXPECT_NE(with({"--standardize"}).coef_values, plain.coef_values);
  const Model through_origin = with({"--no-intercept"});
  for (std::size_t f = 0; f < through_origin.status.size(); ++f) {
    if (through_origin.status[f] == static_cast<std::uint8_t>(Status::kNotComputed)) continue;
    EXPECT_EQ(through_origin.intercept[f], 0.0);
  }

  MatrixFile Y = read_matrix(path("s/Y.npy"));
  std::vector<double> missing;
  for (Index i = 0; i < 20; ++i) {
    for (Index r = 0; r < 2; ++r) {
      missing.push_back(i == 3 && r == 1 ? std::nan("") : element(Y.view(), i, r));
    }
  }
  write_array("missing.npy", {20, 2}, missing);
  expect_code({"path", "-x", "s/X.npy", "-y", "missing.npy", "-o", "m", "--missing-responses"}, 0);
}

TEST_F(CommandTest, FindsResponsesInsideSvmlight) {
  write("d.svm", "1.5 1:1 2:0.5\n-1 2:1\n0.5 1:2\n3 1:3 2:1\n");
  expect_code({"path", "-x", "d.svm", "-o", "m", "--lambdas", "4"}, 0);
  const Model model = load_model(path("m"));
  EXPECT_EQ(model.n_samples, 4);
  EXPECT_EQ(model.n_features, 2);
  EXPECT_EQ(model.n_responses, 1);
}

TEST_F(CommandTest, SaysNothingWhenQuiet) {
  write_small_tables();
  const Outcome outcome =
      expect_code({"path", "-x", "X.csv", "-y", "y.csv", "-o", "m", "--quiet"}, 0);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(CommandTest, FitsXInSinglePrecision) {
  simulate("s", {"--rows", "40", "--features", "10"});
  expect_code({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--float"}, 0);
  EXPECT_EQ(load_model(path("m")).n_features, 10);
}

TEST_F(CommandTest, EndsWithThreeWhenAFitDoesNotConverge) {
  simulate("s", {"--rows", "50", "--features", "80", "--corr", "0.9"});
  const Outcome outcome =
      expect_code({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--max-iterations", "1",
                   "--engine", "proximal-gradient", "--json", "s.json"},
                  3);
  EXPECT_NE(outcome.err.find("did not converge"), std::string::npos) << outcome.err;
  EXPECT_EQ(load_model(path("m")).n_features, 80);
  EXPECT_GT(json("s.json")["n_not_converged"].get<int>(), 0);
}

TEST_F(CommandTest, EndsWithThreeAndAModelWhenOutOfTime) {
  simulate("s", {"--rows", "300", "--features", "3000", "--responses", "200"});
  expect_code({"cv", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--time-limit", "0.5", "--json",
               "s.json"},
              3);
  EXPECT_EQ(load_model(path("m")).n_responses, 200);
  EXPECT_TRUE(json("s.json")["interrupted"].get<bool>());
}

TEST_F(CommandTest, WritesWhatIsFinishedWhenInterrupted) {
  simulate("s", {"--rows", "300", "--features", "3000", "--responses", "400"});
  // How soon the first response is finished depends on the machine: be patient by steps.
  for (const int wait_ms : {1000, 3000, 9000, 27000}) {
    const pid_t process = start({"cv", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--keep",
                                 "chosen", "--json", "s.json"});
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    kill(process, SIGINT);
    const Outcome outcome = finish(process);
    ASSERT_EQ(outcome.code, 130) << outcome.err;
    if (outcome.err.find("nothing written") == std::string::npos) break;
    EXPECT_EQ(read("m"), "");
  }

  const Model model = load_model(path("m"));
  EXPECT_EQ(model.n_responses, 400);
  EXPECT_TRUE(json("s.json")["interrupted"].get<bool>());
  EXPECT_GT(json("s.json")["statuses"]["converged"].get<int>(), 0);
  for (const std::string& name : files()) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
}

TEST_F(CommandTest, LeavesTheOldModelWhenTheDiskIsFull) {
  simulate("s", {"--rows", "100", "--features", "200", "--responses", "20"});
  write("m", "old model");
  const auto before = files();
  // 16 blocks of 512 bytes; without its signal a file that is too long fails as a full disk does.
  const Outcome outcome = shell(
      "trap '' XFSZ; ulimit -f 16; exec \"$thresher\" path -x s/X.npy -y s/Y.npy -o m --quiet");
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("must be writable"), std::string::npos) << outcome.err;
  EXPECT_EQ(read("m"), "old model");
  EXPECT_EQ(files(), before);
}

TEST_F(CommandTest, SimulatesNothingOntoAFullDisk) {
  const Outcome outcome = shell(
      "trap '' XFSZ; ulimit -f 16; "
      "exec \"$thresher\" simulate --rows 100 --features 100 -o s");
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_EQ(files(), Words{});
}

}  // namespace
}  // namespace thresher

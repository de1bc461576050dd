#include "command/arguments.hpp"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "thresher/error.hpp"

namespace thresher::command {
namespace {

Arguments parse(std::vector<const char*> words) {
  words.insert(words.begin(), "thresher");
  return parse_arguments(static_cast<int>(words.size()), words.data());
}

FitArguments parse_fit(const std::vector<const char*>& words) {
  return std::get<FitArguments>(parse(words));
}

// The message of the refusal; empty if there was none.
std::string refusal(const std::function<void()>& act, Errc code = Errc::kInvalidArgument) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "";
}

TEST(Arguments, KeepTheDefaultsOfTheLibrary) {
  const FitArguments fit = parse_fit({"path", "-x", "X.npy", "-y", "Y.npy", "-o", "m"});
  const Options defaults;

  EXPECT_FALSE(fit.cross_validate);
  EXPECT_EQ(fit.options.l1_ratio, defaults.l1_ratio);
  EXPECT_EQ(fit.options.n_lambdas, defaults.n_lambdas);
  EXPECT_FALSE(fit.options.lambda_min_ratio.has_value());
  EXPECT_EQ(fit.options.early_stop, defaults.early_stop);
  EXPECT_TRUE(fit.options.intercept);
  EXPECT_FALSE(fit.options.standardize);
  EXPECT_FALSE(fit.options.tol.has_value());
  EXPECT_EQ(fit.options.max_memory, 0u);
  EXPECT_EQ(fit.cv.n_folds, CvOptions{}.n_folds);
}

TEST(Arguments, ReachEveryOptionOfPath) {
  const FitArguments fit = parse_fit({"path",
                                      "-x",
                                      "X",
                                      "-y",
                                      "Y",
                                      "-o",
                                      "m",
                                      "--l1-ratio",
                                      "0.5,1",
                                      "--lambdas",
                                      "7",
                                      "--lambda-min-ratio",
                                      "0.03",
                                      "--weights",
                                      "w",
                                      "--l1-factors",
                                      "u",
                                      "--l2-factors",
                                      "v",
                                      "--fixed-l2",
                                      "d",
                                      "--dropout",
                                      "0.2",
                                      "--standardize",
                                      "--no-intercept",
                                      "--missing-responses",
                                      "--early-stop",
                                      "off",
                                      "--keep",
                                      "path",
                                      "--tol",
                                      "1e-9",
                                      "--max-iterations",
                                      "11",
                                      "--engine",
                                      "active-set",
                                      "--mode",
                                      "gram",
                                      "--device",
                                      "cpu",
                                      "--threads",
                                      "3",
                                      "--max-memory",
                                      "4G",
                                      "--time-limit",
                                      "60",
                                      "--float",
                                      "--feature-names",
                                      "f",
                                      "--response-names",
                                      "r",
                                      "--json",
                                      "j",
                                      "--plan",
                                      "--quiet"});

  EXPECT_EQ(fit.options.l1_ratio, (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(fit.options.n_lambdas, 7);
  EXPECT_EQ(fit.options.lambda_min_ratio, 0.03);
  EXPECT_EQ(fit.weights, "w");
  EXPECT_EQ(fit.l1_factors, "u");
  EXPECT_EQ(fit.l2_factors, "v");
  EXPECT_EQ(fit.fixed_l2, "d");
  EXPECT_EQ(fit.options.dropout_rate, 0.2);
  EXPECT_TRUE(fit.options.standardize);
  EXPECT_FALSE(fit.options.intercept);
  EXPECT_TRUE(fit.missing_responses);
  EXPECT_FALSE(fit.options.early_stop.has_value());
  EXPECT_FALSE(fit.options.keep_chosen);
  EXPECT_EQ(fit.options.tol, 1e-9);
  EXPECT_EQ(fit.options.max_iterations, 11);
  EXPECT_EQ(fit.options.engine, Engine::kActiveSet);
  EXPECT_EQ(fit.options.mode, Mode::kGram);
  EXPECT_EQ(fit.options.device, Device::kCpu);
  EXPECT_EQ(fit.options.threads, 3);
  EXPECT_EQ(fit.options.max_memory, std::size_t{4} << 30);
  EXPECT_EQ(fit.options.time_limit, 60.0);
  EXPECT_TRUE(fit.as_float);
  EXPECT_EQ(fit.feature_names, "f");
  EXPECT_EQ(fit.response_names, "r");
  EXPECT_EQ(fit.json, "j");
  EXPECT_TRUE(fit.plan);
  EXPECT_TRUE(fit.quiet);
}

TEST(Arguments, ReachEveryOptionThatOnlyCvHas) {
  const FitArguments fit =
      parse_fit({"cv", "-x", "X", "-o", "m", "--folds", "5", "--seed", "18446744073709551615",
                 "--predictions", "oof.npy", "--keep", "chosen", "--lambda-grid", "g"});

  EXPECT_TRUE(fit.cross_validate);
  EXPECT_EQ(fit.cv.n_folds, 5);
  EXPECT_EQ(fit.cv.seed, ~std::uint64_t{0});
  EXPECT_EQ(fit.predictions, "oof.npy");
  EXPECT_TRUE(fit.options.keep_chosen);
  EXPECT_EQ(fit.lambda_grid, "g");
}

TEST(Arguments, RefuseWhatMakesNoSenseTogether) {
  EXPECT_NE(refusal([] {
              parse({"cv", "-x", "X", "-o", "m", "--folds", "5", "--fold-id", "f"});
            }),
            "");
  EXPECT_NE(refusal([] {
              parse({"path", "-x", "X", "-o", "m", "--lambda-grid", "g", "--lambdas", "5"});
            }),
            "");
  EXPECT_NE(refusal([] { parse({"path", "-x", "X", "-o", "m", "--folds", "5"}); }), "");
  EXPECT_NE(refusal([] { parse({"path", "-x", "X"}); }), "");
  EXPECT_NE(refusal([] { parse({}); }), "");
  EXPECT_NE(refusal([] { parse({"paht"}); }), "");
  EXPECT_NE(refusal([] { parse({"path", "-x", "X", "-o", "m", "--tol", "1", "--tol", "2"}); }), "");
}

TEST(Arguments, NameOptionRuleAndValue) {
  const auto with = [](const char* option, const char* value) {
    return refusal([=] { parse({"path", "-x", "X", "-o", "m", option, value}); });
  };

  EXPECT_EQ(with("--tol", "1e-7x"), "--tol: must be a number, got '1e-7x'");
  EXPECT_EQ(with("--lambdas", "1.5"), "--lambdas: must be a whole number, got '1.5'");
  EXPECT_EQ(with("--lambdas", "0x10"), "--lambdas: must be a whole number, got '0x10'");
  EXPECT_EQ(with("--l1-ratio", "0.5,,1"),
            "--l1-ratio: must be numbers with commas between them, got '0.5,,1'");
  EXPECT_EQ(with("--early-stop", "on"), "--early-stop: must be a number or off, got 'on'");
  EXPECT_EQ(with("--keep", "all"), "--keep: must be path or chosen, got 'all'");
  EXPECT_EQ(with("--mode", "covariance"),
            "--mode: must be one of auto, gram, residual, got 'covariance'");
  EXPECT_EQ(with("--threads", "0"), "--threads: must be a whole number of at least 1, got '0'");
}

TEST(Arguments, NameTheDevice) {
  const auto device = [](const char* word) {
    return std::get<FitArguments>(parse({"path", "-x", "X", "-o", "m", "--device", word}))
        .options.device;
  };
  EXPECT_EQ(device("auto"), Device::kAuto);
  EXPECT_EQ(device("cpu"), Device::kCpu);
  EXPECT_EQ(device("cuda"), Device::kCuda);
}

TEST(Arguments, GiveHelpAndVersionWithoutWork) {
  EXPECT_NE(std::get<TextArguments>(parse({"--help"})).text.find("simulate"), std::string::npos);
  EXPECT_NE(std::get<TextArguments>(parse({"cv", "--help"})).text.find("--fold-id"),
            std::string::npos);
  EXPECT_EQ(std::get<TextArguments>(parse({"--version"})).text.rfind("thresher ", 0), 0u);
}

TEST(ParseBytes, CountsInPowersOf1024) {
  EXPECT_EQ(parse_bytes("--max-memory", "1000"), 1000u);
  EXPECT_EQ(parse_bytes("--max-memory", "3K"), 3072u);
  EXPECT_EQ(parse_bytes("--max-memory", "1.5m"), std::size_t{3} << 19);
  EXPECT_EQ(parse_bytes("--max-memory", "2T"), std::size_t{1} << 41);
  for (const char* bad : {"", "G", "0", "-1G", "4GB", "4 G", "nan", "inf", "1e30"}) {
    EXPECT_NE(refusal([=] { parse_bytes("--max-memory", bad); }), "") << bad;
  }
}

TEST(ParseChoice, TakesWordsAndPositions) {
  EXPECT_EQ(parse_choice("--choose", "best", false).kind, Choice::Kind::kBest);
  EXPECT_EQ(parse_choice("--choose", "one-se", false).kind, Choice::Kind::kOneSe);
  EXPECT_EQ(parse_choice("--choose", "all", true).kind, Choice::Kind::kAll);
  const Choice choice = parse_choice("--choose", "1,42", false);
  EXPECT_EQ(choice.kind, Choice::Kind::kIndex);
  EXPECT_EQ(choice.l1_ratio, 1);
  EXPECT_EQ(choice.lambda, 42);
  for (const char* bad : {"all", "", "1", "1,", ",1", "1,2,3", "-1,0", "0,-1", "1.0,2"}) {
    EXPECT_NE(refusal([=] { parse_choice("--choose", bad, false); }), "") << bad;
  }
}

}  // namespace
}  // namespace thresher::command

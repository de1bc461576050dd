#include "command/arguments.hpp"

#include <charconv>
#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <utility>

#include <CLI/CLI.hpp>

#include "command/text_table.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher::command {
namespace {

[[noreturn]] void refuse(std::string_view option, std::string_view rule, std::string_view value) {
  throw Error(Errc::kInvalidArgument, std::string(option) + ": must be " + std::string(rule) +
                                          ", got '" + std::string(value) + "'");
}

// The whole text as one number, or nothing. The number parsers of CLI11 read 010 as eight and stop
// at nothing; these take decimal digits only.
template <class T>
std::optional<T> whole_text_as(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

int parse_threads(std::string_view option, std::string_view text) {
  const Index count = parse_whole_number(option, text);
  if (count < 1 || count > std::numeric_limits<int>::max()) {
    refuse(option, "a whole number of at least 1", text);
  }
  return static_cast<int>(count);
}

template <class Enum>
Enum parse_word(std::string_view option, std::string_view text, std::initializer_list<Enum> all) {
  std::string words;
  for (const Enum value : all) {
    if (name(value) == text) return value;
    if (!words.empty()) words += ", ";
    words += name(value);
  }
  refuse(option, "one of " + words, text);
}

Device parse_device(std::string_view option, std::string_view text) {
  return parse_word(option, text, {Device::kAuto, Device::kCpu, Device::kCuda});
}

bool parse_keep(std::string_view option, std::string_view text) {
  if (text == "chosen") return true;
  if (text == "path") return false;
  refuse(option, "path or chosen", text);
}

std::string default_text(double value) { return " (default " + exact_text(value) + ")"; }

template <std::integral T>
std::string default_text(T value) {
  return " (default " + std::to_string(value) + ")";
}

// An option whose text goes through `parse`, so that every value is checked by our own rules and
// every message has the same form.
template <class Parse, class Target>
CLI::Option* add(CLI::App* app, const std::string& flags, Target& target, Parse parse,
                 const std::string& help, const std::string& type) {
  const std::string option = flags.substr(flags.rfind(',') + 1);
  std::function<void(const std::string&)> store = [&target, parse, option](const std::string& s) {
    target = parse(option, s);
  };
  return app->add_option_function<std::string>(flags, store, help)->type_name(type);
}

CLI::Option* add_file(CLI::App* app, const std::string& flags, std::string& target,
                      const std::string& help) {
  return app->add_option(flags, target, help)->type_name("FILE");
}

void add_fit_options(CLI::App* app, FitArguments& fit) {
  Options& options = fit.options;
  add_file(app, "-x", fit.X, "Features: .npy, .csv, .tsv, .svm, .mtx, each also .gz")->required();
  add_file(app, "-y", fit.Y, "Responses, one column each (svmlight files carry their own)");
  add_file(app, "-o", fit.output, "Model file to write (safetensors)");

  add(app, "--l1-ratio", options.l1_ratio, parse_number_list,
      "Shares of L1 in the penalty, as in 0.5,1; 1 is the Lasso, 0 is Ridge (default 1)", "LIST");
  auto* lambdas = add(app, "--lambdas", options.n_lambdas, parse_whole_number,
                      "Length of the automatic grid" + default_text(options.n_lambdas), "N");
  auto* ratio = add(app, "--lambda-min-ratio", options.lambda_min_ratio, parse_number,
                    "Last lambda of the automatic grid over its first "
                    "(default 0.01 if features >= rows, else 0.0001)",
                    "R");
  add_file(app, "--lambda-grid", fit.lambda_grid,
           "Lambdas, descending: one row for all responses, or one row each")
      ->excludes(lambdas)
      ->excludes(ratio);
  add_file(app, "--weights", fit.weights, "Row weights: one column, or one for each response");
  add_file(app, "--l1-factors", fit.l1_factors, "Factor on each feature's L1 penalty");
  add_file(app, "--l2-factors", fit.l2_factors, "Factor on each feature's L2 penalty");
  add_file(app, "--fixed-l2", fit.fixed_l2, "L2 penalty of each feature that lambda leaves alone");
  add(app, "--dropout", options.dropout_rate, parse_number,
      "Penalty equal to inverted dropout of the features at this rate", "Q");
  app->add_flag("--standardize", options.standardize, "Penalise on the scale of unit variance");
  app->add_flag_function(
      "--no-intercept", [&options](std::int64_t) { options.intercept = false; },
      "Fit through the origin");
  app->add_flag("--missing-responses", fit.missing_responses,
                "NaN (or NA) in Y: leave that row out for that response");

  add(app, "--early-stop", options.early_stop, parse_early_stop,
      "Stop a path past this share of deviance, or off; cv ignores it" +
          default_text(*options.early_stop),
      "D|off");
  add(app, "--keep", options.keep_chosen, parse_keep,
      "Coefficients to keep: path (all) or chosen (cv only: best and one-se)", "WHAT");
  add(app, "--tol", options.tol, parse_number,
      "Relative duality gap to reach (default 1e-7; 1e-5 with --float)", "T");
  add(app, "--max-iterations", options.max_iterations, parse_whole_number, "Limit for each fit",
      "N");
  add(
      app, "--engine", options.engine,
      [](std::string_view option, std::string_view text) {
        return parse_word(option, text,
                          {Engine::kAuto, Engine::kActiveSet, Engine::kProximalGradient,
                           Engine::kRidge, Engine::kReference});
      },
      "auto, active-set, proximal-gradient, ridge or reference", "NAME");
  add(
      app, "--mode", options.mode,
      [](std::string_view option, std::string_view text) {
        return parse_word(option, text, {Mode::kAuto, Mode::kGram, Mode::kResidual});
      },
      "auto, gram or residual", "NAME");
  add(app, "--device", options.device, parse_device,
      "auto (a GPU if there is one and the work is large enough), cpu or cuda", "NAME");
  add(app, "--threads", options.threads, parse_threads, "Threads (default: all processors)", "N");
  add(app, "--max-memory", options.max_memory, parse_bytes,
      "Memory the fit may add, as in 500M or 4G (default: 80 % of what is free)", "BYTES");
  add(app, "--time-limit", options.time_limit, parse_number, "Seconds for all fits together", "S");
  app->add_flag("--float", fit.as_float, "Hold X in single precision");

  if (fit.cross_validate) {
    auto* folds = add(app, "--folds", fit.cv.n_folds, parse_whole_number,
                      "Number of folds" + default_text(fit.cv.n_folds), "K");
    add_file(app, "--fold-id", fit.fold_id, "Fold of each row, 0 to K-1")->excludes(folds);
    add(
        app, "--seed", fit.cv.seed,
        [](std::string_view option, std::string_view text) {
          const auto value = whole_text_as<std::uint64_t>(text);
          if (!value) refuse(option, "a whole number of at least 0", text);
          return *value;
        },
        "Seed of the folds" + default_text(fit.cv.seed), "S");
    add_file(app, "--predictions", fit.predictions,
             "Write out-of-fold predictions at the best lambda (.npy)");
  }

  add_file(app, "--feature-names", fit.feature_names, "One name per line, in the order of X");
  add_file(app, "--response-names", fit.response_names, "One name per line, in the order of Y");
  add_file(app, "--json", fit.json, "Write a summary for programs");
  app->add_flag("--plan", fit.plan, "Say what would be done and in how much memory, then stop");
  app->add_flag("--quiet", fit.quiet, "No table, no progress line");
}

void add_choice(CLI::App* app, Choice& choice, bool all_allowed) {
  add(
      app, "--choose", choice,
      [all_allowed](std::string_view option, std::string_view text) {
        return parse_choice(option, text, all_allowed);
      },
      all_allowed ? "best, one-se, A,L (positions from 0) or all"
                  : "best, one-se or A,L (positions from 0)",
      "WHICH");
}

}  // namespace

double parse_number(std::string_view option, std::string_view text) {
  const auto value = whole_text_as<double>(text);
  if (!value) refuse(option, "a number", text);
  return *value;
}

Index parse_whole_number(std::string_view option, std::string_view text) {
  const auto value = whole_text_as<Index>(text);
  if (!value) refuse(option, "a whole number", text);
  return *value;
}

std::vector<double> parse_number_list(std::string_view option, std::string_view text) {
  std::vector<double> values;
  for (std::size_t begin = 0;;) {
    const std::size_t comma = text.find(',', begin);
    const auto value = whole_text_as<double>(text.substr(begin, comma - begin));
    if (!value) refuse(option, "numbers with commas between them", text);
    values.push_back(*value);
    if (comma == std::string_view::npos) return values;
    begin = comma + 1;
  }
}

std::size_t parse_bytes(std::string_view option, std::string_view text) {
  constexpr std::string_view kRule = "a size such as 500M or 4G";
  constexpr std::string_view kUnits = "KMGT";
  double unit = 1.0;
  std::string_view digits = text;
  if (!text.empty()) {
    const char last = text.back();
    const char upper = last >= 'a' && last <= 'z' ? static_cast<char>(last - 'a' + 'A') : last;
    const std::size_t position = kUnits.find(upper);
    if (position != std::string_view::npos) {
      unit = std::ldexp(1.0, static_cast<int>(10 * (position + 1)));
      digits.remove_suffix(1);
    }
  }
  const auto value = whole_text_as<double>(digits);
  // 2^62: far beyond any memory, and safe to convert.
  if (!value || !(*value * unit >= 1.0) || !(*value * unit <= std::ldexp(1.0, 62))) {
    refuse(option, kRule, text);
  }
  return static_cast<std::size_t>(*value * unit);
}

std::optional<double> parse_early_stop(std::string_view option, std::string_view text) {
  if (text == "off") return std::nullopt;
  const auto value = whole_text_as<double>(text);
  if (!value) refuse(option, "a number or off", text);
  return *value;
}

Choice parse_choice(std::string_view option, std::string_view text, bool all_allowed) {
  Choice choice;
  if (text == "best") {
    choice.kind = Choice::Kind::kBest;
  } else if (text == "one-se") {
    choice.kind = Choice::Kind::kOneSe;
  } else if (text == "all" && all_allowed) {
    choice.kind = Choice::Kind::kAll;
  } else {
    const std::size_t comma = text.find(',');
    const auto first = whole_text_as<Index>(text.substr(0, comma));
    const auto second = comma == std::string_view::npos
                            ? std::nullopt
                            : whole_text_as<Index>(text.substr(comma + 1));
    if (!first || !second || *first < 0 || *second < 0) {
      refuse(option, all_allowed ? "best, one-se, A,L or all" : "best, one-se or A,L", text);
    }
    choice = {Choice::Kind::kIndex, *first, *second};
  }
  return choice;
}

Arguments parse_arguments(int argc, const char* const* argv) {
  CLI::App app("Certified Lasso, Elastic Net and Ridge paths for many responses", "thresher");
  app.require_subcommand(1);
  app.footer(
      "Exit: 0 good; 1 files, memory or device; 2 bad input, nothing written; 3 some fit did not\n"
      "converge, the model is written; 130 interrupted, what is finished is written.");
  bool version_asked = false;
  app.add_flag("--version", version_asked, "Print the version");

  FitArguments path;
  auto* path_app = app.add_subcommand("path", "Fit a path of lambdas for every response");
  add_fit_options(path_app, path);

  FitArguments cv;
  cv.cross_validate = true;
  auto* cv_app = app.add_subcommand("cv", "Choose lambda for every response by cross-validation");
  add_fit_options(cv_app, cv);

  PredictArguments predict;
  auto* predict_app = app.add_subcommand("predict", "Predict responses for new rows");
  add_file(predict_app, "-m", predict.model, "Model file")->required();
  add_file(predict_app, "-x", predict.X, "Features of the new rows")->required();
  add_file(predict_app, "-o", predict.output, "Predictions to write (.npy)")->required();
  add_choice(predict_app, predict.choice, false);

  CoefArguments coef;
  auto* coef_app = app.add_subcommand("coef", "Write coefficients as a CSV table");
  add_file(coef_app, "-m", coef.model, "Model file")->required();
  add_file(coef_app, "-o", coef.output, "Table to write (.csv)")->required();
  add_choice(coef_app, coef.choice, true);

  SimulateArguments simulated;
  SimulationSpec& spec = simulated.spec;
  auto* simulate_app = app.add_subcommand("simulate", "Make data with a known answer");
  add(simulate_app, "--rows", spec.rows, parse_whole_number, "Rows", "N")->required();
  add(simulate_app, "--features", spec.features, parse_whole_number, "Features", "P")->required();
  add(simulate_app, "--responses", spec.responses, parse_whole_number,
      "Responses" + default_text(spec.responses), "R");
  add(simulate_app, "--corr", spec.corr, parse_number,
      "Correlation of neighbouring features" + default_text(spec.corr), "C");
  add(simulate_app, "--support", spec.support, parse_whole_number,
      "Features with a coefficient (default 10, or all if there are fewer)", "K");
  add(simulate_app, "--snr", spec.snr, parse_number,
      "Signal variance over noise" + default_text(spec.snr), "S");
  add(
      simulate_app, "--seed", spec.seed,
      [](std::string_view option, std::string_view text) {
        const auto value = whole_text_as<std::uint64_t>(text);
        if (!value) refuse(option, "a whole number of at least 0", text);
        return *value;
      },
      "Seed" + default_text(spec.seed), "S");
  simulate_app->add_option("-o", simulated.folder, "Folder to write to")
      ->type_name("FOLDER")
      ->required();

  InfoArguments info;
  auto* info_app = app.add_subcommand("info", "Say how this build computes, and where");
  info_app->add_flag("--json", info.json, "For programs");

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return TextArguments{app.help()};
  } catch (const CLI::ParseError& error) {
    // Without a verb CLI11 reports the missing one even if --version is there.
    if (version_asked) return TextArguments{std::string("thresher ") + version() + "\n"};
    const auto used = app.get_subcommands();
    throw Error(Errc::kInvalidArgument, std::string(error.what()) + " (see thresher " +
                                            (used.empty() ? "" : used[0]->get_name() + " ") +
                                            "--help)");
  }
  if (version_asked) return TextArguments{std::string("thresher ") + version() + "\n"};

  if (*path_app || *cv_app) {
    FitArguments& fit = *cv_app ? cv : path;
    if (fit.output.empty() && !fit.plan) {
      throw Error(Errc::kInvalidArgument, "-o: must name the model file to write, got nothing");
    }
    return std::move(fit);
  }
  if (*predict_app) return predict;
  if (*coef_app) return coef;
  if (*simulate_app) return simulated;
  return info;
}

}  // namespace thresher::command

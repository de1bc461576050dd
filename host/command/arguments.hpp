#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "command/simulate.hpp"
#include "thresher/options.hpp"

namespace thresher::command {

/// `path` and `cv`. File names are empty when not given; the borrowed views inside `options` and
/// `cv` are filled when the files are read (fit_inputs.hpp).
struct FitArguments {
  bool cross_validate = false;
  std::string X, Y, output;
  std::string lambda_grid, weights, l1_factors, l2_factors, fixed_l2, fold_id;
  std::string feature_names, response_names;
  std::string predictions, json;
  bool missing_responses = false;
  bool as_float = false;
  bool plan = false;
  bool quiet = false;
  Options options;
  CvOptions cv;
};

/// Which fit of a model a command uses. kDefault: best after cross-validation, else the only fit.
struct Choice {
  enum class Kind { kDefault, kBest, kOneSe, kAll, kIndex };
  Kind kind = Kind::kDefault;
  Index l1_ratio = 0, lambda = 0;  ///< positions, for kIndex
};

struct PredictArguments {
  std::string model, X, output;
  Choice choice;
};

struct CoefArguments {
  std::string model, output;
  Choice choice;
};

struct SimulateArguments {
  SimulationSpec spec;
  std::string folder;
};

struct InfoArguments {
  bool json = false;
};

/// Text that was asked for (--help, --version) in place of work.
struct TextArguments {
  std::string text;
};

using Arguments = std::variant<FitArguments, PredictArguments, CoefArguments, SimulateArguments,
                               InfoArguments, TextArguments>;

/// Reads a command line.
/// Throws   Error{kInvalidArgument} naming the option, the rule and the value.
Arguments parse_arguments(int argc, const char* const* argv);

// The value syntaxes, each throwing Error{kInvalidArgument} that starts with `option`.
double parse_number(std::string_view option, std::string_view text);
Index parse_whole_number(std::string_view option, std::string_view text);
std::vector<double> parse_number_list(std::string_view option, std::string_view text);
std::size_t parse_bytes(std::string_view option, std::string_view text);
std::optional<double> parse_early_stop(std::string_view option, std::string_view text);
Choice parse_choice(std::string_view option, std::string_view text, bool all_allowed);

}  // namespace thresher::command

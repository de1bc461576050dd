#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "command/commands.hpp"
#include "command/exit_code.hpp"
#include "command/text_table.hpp"
#include "model/atomic_file.hpp"
#include "readers/matrix_file.hpp"
#include "thresher/error.hpp"
#include "thresher/fit.hpp"
#include "thresher/model_file.hpp"

namespace thresher::command {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(Errc::kInvalidArgument, message);
}

using Position = std::pair<Index, Index>;  // l1_ratio, lambda

// The fit of every response; empty for kAll.
std::vector<Position> chosen_positions(const Model& model, Choice choice) {
  using Kind = Choice::Kind;
  std::vector<Position> positions;
  if (choice.kind == Kind::kAll) return positions;
  if (choice.kind == Kind::kDefault) {
    const bool one_fit = model.n_l1_ratios == 1 && model.n_lambdas == 1;
    if (!model.cv && !one_fit) {
      refuse("--choose: must be A,L for a model without cross-validation (" +
             std::to_string(model.n_l1_ratios) + " l1_ratios, " + std::to_string(model.n_lambdas) +
             " lambdas), got nothing");
    }
    choice.kind = model.cv ? Kind::kBest : Kind::kIndex;
  }
  if (choice.kind == Kind::kIndex) {
    if (choice.l1_ratio >= model.n_l1_ratios || choice.lambda >= model.n_lambdas) {
      refuse("--choose: A,L must lie below " + std::to_string(model.n_l1_ratios) + "," +
             std::to_string(model.n_lambdas) + ", got " + std::to_string(choice.l1_ratio) + "," +
             std::to_string(choice.lambda));
    }
    positions.assign(static_cast<std::size_t>(model.n_responses), {choice.l1_ratio, choice.lambda});
    return positions;
  }
  if (!model.cv) {
    refuse("--choose: must be A,L for a model without cross-validation, got " +
           std::string(choice.kind == Kind::kBest ? "best" : "one-se"));
  }
  const std::vector<Index>& table = choice.kind == Kind::kBest ? model.cv->best : model.cv->one_se;
  for (std::size_t r = 0; r < static_cast<std::size_t>(model.n_responses); ++r) {
    positions.emplace_back(table[2 * r], table[2 * r + 1]);
  }
  return positions;
}

std::string response_label(const Model& model, Index response) {
  return name_or_position(model.response_names, "y", response);
}

bool is_computed(const Model& model, Index response, Position at) {
  if (at.first < 0 || at.second < 0) return false;
  const auto f = static_cast<std::size_t>(model.fit(response, at.first, at.second));
  return model.status[f] != static_cast<std::uint8_t>(Status::kNotComputed);
}

bool has_coef(const Model& model, Index response, Position at) {
  return is_computed(model, response, at) &&
         model.coef_kept[static_cast<std::size_t>(model.fit(response, at.first, at.second))] != 0;
}

// Refuses a table whose columns are named, and named otherwise than those of the model.
void compare_feature_names(const Model& model, const MatrixFile& X, const std::string& path) {
  const auto& want = model.feature_names;
  const auto& got = X.column_names;
  if (want.empty() || got.empty() || want.size() != got.size()) return;
  const auto differ = std::mismatch(want.begin(), want.end(), got.begin());
  if (differ.first == want.end()) return;
  refuse("-x: column " + std::to_string(differ.first - want.begin()) + " of " + path +
         " must be '" + *differ.first + "' as in the model, got '" + *differ.second + "'");
}

void append_rows(const Model& model, Index response, Position at, std::string& out) {
  const auto f = static_cast<std::size_t>(model.fit(response, at.first, at.second));
  const std::string start = csv_field(response_label(model, response)) + "," +
                            exact_text(model.l1_ratio[static_cast<std::size_t>(at.first)]) + "," +
                            exact_text(model.lambda[f]) + ",";
  out += start + ",(intercept)," + exact_text(model.intercept[f]) + "\n";
  for (Index k = model.coef_indptr[f]; k < model.coef_indptr[f + 1]; ++k) {
    const auto entry = static_cast<std::size_t>(k);
    const Index feature = model.coef_indices[entry];
    out += start + std::to_string(feature) + "," +
           csv_field(name_or_position(model.feature_names, "x", feature)) + "," +
           exact_text(model.coef_values[entry]) + "\n";
  }
}

}  // namespace

int run_predict(const PredictArguments& arguments) {
  check_outputs({arguments.output}, {arguments.model, arguments.X});
  const Model model = load_model(arguments.model);
  const auto choice = chosen_positions(model, arguments.choice);
  for (Index r = 0; r < model.n_responses; ++r) {
    if (has_coef(model, r, choice[static_cast<std::size_t>(r)])) continue;
    refuse("--choose: the fit chosen for response " + response_label(model, r) +
           " must have been computed and kept, got one without coefficients");
  }
  const MatrixFile X = read_matrix(arguments.X);
  compare_feature_names(model, X, arguments.X);
  if (X.cols != model.n_features) {
    refuse("-x: " + arguments.X + " must have " + std::to_string(model.n_features) +
           " columns as in the model, got " + std::to_string(X.cols));
  }
  if (X.rows > std::numeric_limits<Index>::max() / 8 / std::max<Index>(1, model.n_responses)) {
    throw Error(Errc::kOutOfMemory, "predict: rows * responses must fit memory, got " +
                                        std::to_string(X.rows) + " * " +
                                        std::to_string(model.n_responses));
  }
  std::vector<double> predictions(static_cast<std::size_t>(X.rows * model.n_responses));
  const auto out = MatrixView<double>::row_major(predictions.data(), X.rows, model.n_responses);
  predict(model, X.view(), choice, out);
  write_npy(arguments.output,
            MatrixView<const double>::row_major(predictions.data(), X.rows, model.n_responses));
  return kExitGood;
}

int run_coef(const CoefArguments& arguments) {
  check_outputs({arguments.output}, {arguments.model});
  AtomicFile file(arguments.output);
  const Model model = load_model(arguments.model);
  const auto choice = chosen_positions(model, arguments.choice);

  std::string rows = "response,l1_ratio,lambda,feature_index,feature,coefficient\n";
  const auto write_rows = [&] {
    file.write(rows.data(), rows.size());
    rows.clear();
  };
  for (Index r = 0; r < model.n_responses; ++r) {
    if (!choice.empty()) {
      const Position at = choice[static_cast<std::size_t>(r)];
      if (!has_coef(model, r, at)) {
        refuse("--choose: the fit chosen for response " + response_label(model, r) +
               " must have been computed and kept, got one without coefficients");
      }
      append_rows(model, r, at, rows);
    } else {
      for (Index a = 0; a < model.n_l1_ratios; ++a) {
        for (Index l = 0; l < model.n_lambdas; ++l) {
          if (has_coef(model, r, {a, l})) append_rows(model, r, {a, l}, rows);
        }
      }
    }
    write_rows();
  }
  write_rows();
  file.commit();
  return kExitGood;
}

}  // namespace thresher::command

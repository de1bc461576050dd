#include "command/fit_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "command/text_table.hpp"
#include "readers/byte_source.hpp"
#include "readers/npy_header.hpp"
#include "thresher/error.hpp"

namespace thresher::command {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(Errc::kInvalidArgument, message);
}

std::string shape(const MatrixFile& file) {
  return format("(%lld, %lld)", static_cast<long long>(file.rows),
                static_cast<long long>(file.cols));
}

ReadOptions read_options(const FitArguments& arguments) {
  ReadOptions options;
  options.max_bytes = arguments.options.max_memory;
  return options;
}

std::vector<double> read_vector(const char* option, const std::string& path,
                                const ReadOptions& how) {
  if (path.empty()) return {};
  MatrixFile file = read_matrix(path, how);
  if (file.rows != 1 && file.cols != 1) {
    refuse(std::string(option) + ": " + path + " must hold one row or one column, got shape " +
           shape(file));
  }
  // The library takes an empty span for "not given", so this must be said here.
  if (file.rows == 0 || file.cols == 0) {
    refuse(std::string(option) + ": " + path + " must hold at least one value, got none");
  }
  return column_major_values(std::move(file));
}

// A .npy of shape (L,) and one of shape (L, 1) both arrive as one column, yet as a grid the first
// is L lambdas for every response and the second one lambda for each of L responses.
bool is_two_dimensional_npy(const std::string& path) {
  const bool zipped = path.ends_with(".npy.gz");
  if (!zipped && !path.ends_with(".npy")) return false;
  std::unique_ptr<ByteSource> source = open_file("--lambda-grid", path);
  if (zipped) source = open_gzip(std::move(source));
  return read_npy_header(*source).shape.size() == 2;
}

void read_lambda_grid(const FitArguments& arguments, FitInputs& in) {
  if (arguments.lambda_grid.empty()) return;
  MatrixFile file = read_matrix(arguments.lambda_grid, read_options(arguments));
  if (file.rows == 0 || file.cols == 0) {
    refuse("--lambda-grid: " + arguments.lambda_grid +
           " must hold at least one lambda, got shape " + shape(file));
  }
  Index n_rows = file.rows;
  Index n_lambdas = file.cols;
  if (n_lambdas == 1 && !is_two_dimensional_npy(arguments.lambda_grid)) {
    std::swap(n_rows, n_lambdas);
  }
  in.lambda_grid = column_major_values(std::move(file));
  in.options.lambda_grid =
      MatrixView<const double>::column_major(in.lambda_grid.data(), n_rows, n_lambdas);
}

void read_weights(const FitArguments& arguments, FitInputs& in) {
  if (arguments.weights.empty()) return;
  MatrixFile file = read_matrix(arguments.weights, read_options(arguments));
  if (file.rows == 0 || file.cols == 0) {
    refuse("--weights: " + arguments.weights + " must hold at least one weight, got shape " +
           shape(file));
  }
  const Index n_rows = file.rows;
  const Index n_cols = file.cols;
  in.weights = column_major_values(std::move(file));
  if (n_cols == 1) {
    in.data.sample_weight = in.weights;
  } else {
    in.data.response_weight =
        MatrixView<const double>::column_major(in.weights.data(), n_rows, n_cols);
  }
}

void read_fold_id(const FitArguments& arguments, FitInputs& in) {
  const auto values = read_vector("--fold-id", arguments.fold_id, read_options(arguments));
  in.fold_id.reserve(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    // 2^53: beyond it a double no longer tells neighbouring integers apart.
    if (values[i] != std::floor(values[i]) || !(std::abs(values[i]) <= 0x1p53)) {
      refuse("--fold-id: entry " + std::to_string(i) + " must be a whole number, got " +
             std::to_string(values[i]));
    }
    in.fold_id.push_back(static_cast<Index>(values[i]));
  }
  in.cv.fold_id = in.fold_id;
}

std::vector<std::string> names(const char* option, const std::string& path,
                               const std::vector<std::string>& header, Index count,
                               const char* what) {
  if (path.empty()) return header;
  auto given = read_names(path);
  if (static_cast<Index>(given.size()) != count) {
    refuse(std::string(option) + ": " + path + " must hold one name for each of the " +
           std::to_string(count) + " " + what + ", got " + std::to_string(given.size()));
  }
  return given;
}

// Row names on both sides say whether the two tables are in the same order; fitting shuffled rows
// would give a plausible wrong answer.
void compare_row_names(const std::string& Y_path, FitInputs& in) {
  const auto& of_x = in.X.row_names;
  const auto& of_y = in.Y.row_names;
  if (of_x.empty() || of_y.empty() || of_x.size() != of_y.size() || of_x == of_y) return;
  auto sorted_x = of_x;
  auto sorted_y = of_y;
  std::sort(sorted_x.begin(), sorted_x.end());
  std::sort(sorted_y.begin(), sorted_y.end());
  const auto differ = std::mismatch(of_x.begin(), of_x.end(), of_y.begin());
  const auto row = std::to_string(differ.first - of_x.begin());
  const std::string both =
      "row " + row + " is '" + *differ.first + "' in X, '" + *differ.second + "' in Y";
  if (sorted_x == sorted_y) {
    refuse("-y: " + Y_path +
           " must have its rows in the order of X, got the same names in another "
           "order (" +
           both + ")");
  }
  in.warnings.push_back("row names of X and Y differ (" + both + "); rows are matched by position");
}

}  // namespace

std::vector<double> column_major_values(MatrixFile&& file) {
  if (!file.is_float && (file.column_major || file.rows <= 1 || file.cols <= 1)) {
    return std::move(file.f64);
  }
  const AnyMatrix view = file.view();
  std::vector<double> values;
  values.reserve(file.is_float ? file.f32.size() : file.f64.size());
  for (Index j = 0; j < file.cols; ++j) {
    for (Index i = 0; i < file.rows; ++i) values.push_back(element(view, i, j));
  }
  return values;
}

FitInputs read_fit_inputs(const FitArguments& arguments) {
  FitInputs in;
  in.options = arguments.options;
  in.cv = arguments.cv;
  in.data.missing_responses = arguments.missing_responses;
  const ReadOptions how = read_options(arguments);

  // The small files first, so that a mistake in them does not wait for a large X.
  read_lambda_grid(arguments, in);
  read_weights(arguments, in);
  in.l1_factors = read_vector("--l1-factors", arguments.l1_factors, how);
  in.l2_factors = read_vector("--l2-factors", arguments.l2_factors, how);
  in.fixed_l2 = read_vector("--fixed-l2", arguments.fixed_l2, how);
  in.data.l1_factor = in.l1_factors;
  in.data.l2_factor = in.l2_factors;
  in.data.fixed_l2 = in.fixed_l2;
  read_fold_id(arguments, in);

  if (!arguments.Y.empty()) {
    ReadOptions with_missing = how;
    with_missing.allow_missing = arguments.missing_responses;
    in.Y = read_matrix(arguments.Y, with_missing);
  }
  ReadOptions features = how;
  features.as_float = arguments.as_float;
  in.X = read_matrix(arguments.X, features);
  if (arguments.Y.empty()) {
    if (in.X.labels.empty()) {
      refuse("-y: must name a file of responses, since " + arguments.X +
             " carries none, got "
             "nothing");
    }
    in.Y.rows = static_cast<Index>(in.X.labels.size());
    in.Y.cols = 1;
    in.Y.f64 = std::move(in.X.labels);
  }
  in.data.X = in.X.view();
  in.data.Y = in.Y.view();
  compare_row_names(arguments.Y, in);

  in.feature_names =
      names("--feature-names", arguments.feature_names, in.X.column_names, in.X.cols, "features");
  in.response_names = names("--response-names", arguments.response_names, in.Y.column_names,
                            in.Y.cols, "responses");
  return in;
}

}  // namespace thresher::command

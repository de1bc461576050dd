#include "selection/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "thresher/error.hpp"

namespace thresher {
namespace {

/// Builds "function: operand must rule, got value".
template <class Value>
[[noreturn]] void refuse(const std::string& function, const std::string& operand,
                         const std::string& rule, const Value& value) {
  std::ostringstream text;
  text.precision(17);
  text << function << ": " << operand << " must " << rule << ", got " << value;
  throw Error(Errc::kInvalidArgument, text.str());
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "infinity" : "-infinity";
  std::ostringstream text;
  text.precision(17);
  text << value;
  return text.str();
}

void check_vector(const std::string& function, const std::string& name,
                  std::span<const double> values, Index size, bool infinity_allowed) {
  if (values.empty()) return;
  if (static_cast<Index>(values.size()) != size) {
    refuse(function, name, "have size " + std::to_string(size), values.size());
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double v = values[i];
    if (!(v >= 0.0) || (std::isinf(v) && !infinity_allowed)) {
      refuse(function, name + "[" + std::to_string(i) + "]",
             infinity_allowed ? "be >= 0" : "be finite and >= 0", number(v));
    }
  }
}

void check_responses(const std::string& function, const Data& data) {
  const Index n = rows(data.Y);
  const Index n_responses = cols(data.Y);
  for (Index r = 0; r < n_responses; ++r) {
    bool any_row = false;
    for (Index i = 0; i < n; ++i) {
      const double y = element(data.Y, i, r);
      if (std::isinf(y) || (std::isnan(y) && !data.missing_responses)) {
        const std::string rule =
            std::isnan(y) ? "be finite (missing responses need the missing-responses option)"
                          : "be finite";
        refuse(function, "Y", rule,
               number(y) + " in row " + std::to_string(i) + ", column " + std::to_string(r));
      }
      double w = data.sample_weight.empty() ? 1.0 : data.sample_weight[static_cast<std::size_t>(i)];
      if (!data.response_weight.empty()) w *= data.response_weight(i, r);
      any_row = any_row || (w > 0.0 && !std::isnan(y));
    }
    if (!any_row) {
      refuse(function, "Y", "have an observed row with positive weight in every column",
             "none in column " + std::to_string(r));
    }
  }
}

}  // namespace

void validate(const std::string& function, const Data& data, const Options& options) {
  const Index n = rows(data.X);
  const Index p = cols(data.X);
  if (n < 1 || p < 1) {
    refuse(function, "X", "have at least one row and one column",
           std::to_string(n) + " x " + std::to_string(p));
  }
  if (n > std::numeric_limits<Index>::max() / 64 / p) {
    refuse(function, "X", "have fewer than 2^57 elements",
           std::to_string(n) + " x " + std::to_string(p));
  }
  if (rows(data.Y) != n) {
    refuse(function, "Y", "have as many rows as X, " + std::to_string(n), rows(data.Y));
  }
  if (cols(data.Y) < 1) refuse(function, "Y", "have at least one column", cols(data.Y));
  const Index n_responses = cols(data.Y);

  check_vector(function, "sample_weight", data.sample_weight, n, false);
  if (!data.sample_weight.empty() &&
      std::all_of(data.sample_weight.begin(), data.sample_weight.end(),
                  [](double w) { return w == 0.0; })) {
    refuse(function, "sample_weight", "have a positive entry", "only zeros");
  }
  const MatrixView<const double>& response_weight = data.response_weight;
  if (!response_weight.empty()) {
    if (response_weight.rows != n || response_weight.cols != n_responses) {
      refuse(function, "response_weight",
             "have the shape of Y, " + std::to_string(n) + " x " + std::to_string(n_responses),
             std::to_string(response_weight.rows) + " x " + std::to_string(response_weight.cols));
    }
    for (Index r = 0; r < n_responses; ++r) {
      for (Index i = 0; i < n; ++i) {
        const double w = response_weight(i, r);
        if (!(w >= 0.0) || std::isinf(w)) {
          refuse(function, "response_weight", "be finite and >= 0",
                 number(w) + " in row " + std::to_string(i) + ", column " + std::to_string(r));
        }
      }
    }
  }
  check_vector(function, "l1_factor", data.l1_factor, p, true);
  check_vector(function, "l2_factor", data.l2_factor, p, true);
  check_vector(function, "fixed_l2", data.fixed_l2, p, false);
  check_responses(function, data);

  if (!(options.dropout_rate >= 0.0 && options.dropout_rate < 1.0)) {
    refuse(function, "dropout_rate", "lie in [0, 1)", number(options.dropout_rate));
  }
  if (options.l1_ratio.empty()) refuse(function, "l1_ratio", "have at least one value", "none");
  for (const double ratio : options.l1_ratio) {
    if (!(ratio >= 0.0 && ratio <= 1.0)) {
      refuse(function, "l1_ratio", "lie in [0, 1]", number(ratio));
    }
  }
  const MatrixView<const double>& grid = options.lambda_grid;
  if (grid.rows != 0 || grid.cols != 0) {
    if (grid.empty()) {
      refuse(function, "lambda_grid", "have at least one value",
             std::to_string(grid.rows) + " x " + std::to_string(grid.cols));
    }
    if (grid.rows != 1 && grid.rows != n_responses) {
      refuse(function, "lambda_grid",
             "have 1 row or one per response, " + std::to_string(n_responses), grid.rows);
    }
    for (Index r = 0; r < grid.rows; ++r) {
      for (Index l = 0; l < grid.cols; ++l) {
        const double lambda = grid(r, l);
        const std::string place =
            grid.rows == 1 ? "lambda_grid[" + std::to_string(l) + "]"
                           : "lambda_grid[" + std::to_string(r) + ", " + std::to_string(l) + "]";
        if (!(lambda >= 0.0) || std::isinf(lambda)) {
          refuse(function, place, "be finite and >= 0", number(lambda));
        }
        if (l > 0 && lambda > grid(r, l - 1)) {
          refuse(function, place, "not be above the value before it (the grid descends)",
                 number(lambda) + " after " + number(grid(r, l - 1)));
        }
      }
    }
  }
  if (options.n_lambdas < 1) refuse(function, "n_lambdas", "be at least 1", options.n_lambdas);
  if (options.lambda_min_ratio &&
      !(*options.lambda_min_ratio > 0.0 && *options.lambda_min_ratio < 1.0)) {
    refuse(function, "lambda_min_ratio", "lie in (0, 1)", number(*options.lambda_min_ratio));
  }
  if (options.tol && !(*options.tol > 0.0 && std::isfinite(*options.tol))) {
    refuse(function, "tol", "be > 0", number(*options.tol));
  }
  if (options.max_iterations < 1) {
    refuse(function, "max_iterations", "be at least 1", options.max_iterations);
  }
  if (!(options.time_limit > 0.0)) {
    refuse(function, "time_limit", "be > 0", number(options.time_limit));
  }
  if (options.early_stop && !(*options.early_stop > 0.0 && *options.early_stop <= 1.0)) {
    refuse(function, "early_stop", "lie in (0, 1]", number(*options.early_stop));
  }
  if (options.threads < 0) refuse(function, "threads", "be >= 0", options.threads);
  if (options.look_ahead < 1) refuse(function, "look_ahead", "be at least 1", options.look_ahead);
  const MatrixView<const double>& start = options.warm_start;
  if (!start.empty()) {
    if (start.rows != p || start.cols != n_responses) {
      refuse(function, "warm_start",
             "have shape " + std::to_string(p) + " x " + std::to_string(n_responses),
             std::to_string(start.rows) + " x " + std::to_string(start.cols));
    }
    for (Index r = 0; r < n_responses; ++r) {
      for (Index j = 0; j < p; ++j) {
        if (!std::isfinite(start(j, r))) {
          refuse(function, "warm_start", "be finite",
                 number(start(j, r)) + " in row " + std::to_string(j) + ", column " +
                     std::to_string(r));
        }
      }
    }
  }
  if (options.engine == Engine::kReference && options.device == Device::kCuda) {
    refuse(function, "device", "be auto or cpu for engine reference", "cuda");
  }
  if (options.engine == Engine::kRidge) {
    for (const double ratio : options.l1_ratio) {
      if (ratio != 0.0) refuse(function, "l1_ratio", "be 0 for engine ridge", number(ratio));
    }
  }
}

std::vector<Index> checked_folds(const std::string& function, const Data& data,
                                 const CvOptions& cv) {
  const Index n = rows(data.X);
  std::vector<Index> fold;
  if (cv.fold_id.empty()) {
    if (cv.n_folds < 2 || cv.n_folds > n) {
      refuse(function, "n_folds", "lie between 2 and the number of rows, " + std::to_string(n),
             cv.n_folds);
    }
    fold = make_folds(n, cv.n_folds, cv.seed);
  } else {
    if (static_cast<Index>(cv.fold_id.size()) != n) {
      refuse(function, "fold_id", "have one entry per row, " + std::to_string(n),
             cv.fold_id.size());
    }
    fold.assign(cv.fold_id.begin(), cv.fold_id.end());
  }
  const Index lowest = *std::min_element(fold.begin(), fold.end());
  const Index highest = *std::max_element(fold.begin(), fold.end());
  if (lowest != 0) refuse(function, "fold_id", "start at 0", lowest);
  if (highest < 1) refuse(function, "fold_id", "name at least 2 folds", 1);
  if (highest >= n) refuse(function, "fold_id", "use every fold from 0 to its largest", highest);
  const Index n_folds = highest + 1;
  std::vector<std::uint8_t> used(static_cast<std::size_t>(n_folds), 0);
  for (const Index k : fold) used[static_cast<std::size_t>(k)] = 1;
  for (Index k = 0; k < n_folds; ++k) {
    if (!used[static_cast<std::size_t>(k)]) {
      refuse(function, "fold_id", "use every fold from 0 to its largest",
             "no row in fold " + std::to_string(k));
    }
  }

  // Weights may empty a fold's training rows, for all responses or for one.
  for (Index r = 0; r < cols(data.Y); ++r) {
    std::vector<std::uint8_t> training(static_cast<std::size_t>(n_folds), 0);
    Index first_fold = -1;
    bool several = false;
    for (Index i = 0; i < n; ++i) {
      double w = data.sample_weight.empty() ? 1.0 : data.sample_weight[static_cast<std::size_t>(i)];
      if (!data.response_weight.empty()) w *= data.response_weight(i, r);
      if (!(w > 0.0) || std::isnan(element(data.Y, i, r))) continue;
      const Index k = fold[static_cast<std::size_t>(i)];
      if (first_fold < 0) first_fold = k;
      several = several || k != first_fold;
    }
    if (!several) {
      refuse(
          function, "fold_id", "leave every fold a training row with positive weight",
          "none without fold " + std::to_string(first_fold) + " for response " + std::to_string(r));
    }
  }
  if (!data.sample_weight.empty()) {
    std::vector<double> held_out(static_cast<std::size_t>(n_folds), 0.0);
    for (Index i = 0; i < n; ++i) {
      held_out[static_cast<std::size_t>(fold[static_cast<std::size_t>(i)])] +=
          data.sample_weight[static_cast<std::size_t>(i)];
    }
    for (Index k = 0; k < n_folds; ++k) {
      if (held_out[static_cast<std::size_t>(k)] == 0.0) {
        refuse(function, "fold_id", "leave every fold a held-out row with positive weight",
               "none in fold " + std::to_string(k));
      }
    }
  }
  return fold;
}

}  // namespace thresher

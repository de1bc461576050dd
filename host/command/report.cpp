#include "command/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "command/progress_line.hpp"
#include "command/text_table.hpp"

namespace thresher::command {
namespace {

// Where errors on training rows fall below this share of those on held-out rows, most of the fit
// is to noise. A rule of thumb for a hint, nothing else hangs on it.
constexpr double kOverfitShare = 0.5;

template <class Enum, std::size_t kCount>
std::string most_used(const std::array<Index, kCount>& counts) {
  const auto most = std::max_element(counts.begin(), counts.end());
  if (*most == 0) return "none";
  return std::string(name(static_cast<Enum>(most - counts.begin())));
}

std::string response_name(const RunReport& report, Index response) {
  return name_or_position(report.response_names, "y", response);
}

std::string more_note(const RunReport& report, Index shown) {
  const Index taken = report.summary.n_taken;
  if (taken <= shown) return "";
  return "... and " + std::to_string(taken - shown) + " more (all in the model file)\n";
}

std::string error_text(const ChosenFit& fit) {
  return short_text(fit.error) + " ± " + short_text(fit.se);
}

std::string features_text(const RunReport& report, const ChosenSummary& chosen) {
  std::string text;
  for (const auto& [feature, coefficient] : chosen.top_features) {
    if (!text.empty()) text += ", ";
    text +=
        name_or_position(report.feature_names, "x", feature) + " " + format("%.3g", coefficient);
  }
  return text;
}

std::string cv_table(const RunReport& report) {
  const bool several_ratios = report.summary.n_l1_ratios > 1;
  TextTable table;
  table.add_column("response", TextTable::Align::kLeft);
  if (several_ratios) table.add_column("l1_ratio");
  for (const char* heading :
       {"lambda", "lambda_1se", "cv error ± se", "train error", "features", "at 1se"}) {
    table.add_column(heading);
  }
  table.add_column("edge", TextTable::Align::kLeft);
  table.add_column("largest coefficients", TextTable::Align::kLeft);

  Index shown = 0;
  for (const ChosenSummary& chosen : report.summary.chosen) {
    if (shown == kTableResponses) break;
    ++shown;
    std::vector<std::string> row{response_name(report, chosen.response)};
    if (chosen.best.lambda_position < 0) {
      row.resize(several_ratios ? 2 : 1);
      row.insert(row.end(), {"-", "-", "not finished"});
    } else {
      if (several_ratios) row.push_back(short_text(chosen.best.l1_ratio));
      row.insert(row.end(),
                 {short_text(chosen.best.lambda), short_text(chosen.one_se.lambda),
                  error_text(chosen.best), short_text(chosen.best.train_error),
                  std::to_string(chosen.best.n_nonzero), std::to_string(chosen.one_se.n_nonzero),
                  chosen.boundary ? "yes" : "no", features_text(report, chosen)});
    }
    table.add_row(std::move(row));
  }
  return table.text() + more_note(report, shown);
}

std::string path_table(const RunReport& report) {
  const bool several_ratios = report.summary.n_l1_ratios > 1;
  TextTable table;
  table.add_column("response", TextTable::Align::kLeft);
  if (several_ratios) table.add_column("l1_ratio");
  for (const char* heading :
       {"lambda_max", "last lambda", "fits", "features", "deviance", "worst gap"}) {
    table.add_column(heading);
  }
  for (const PathSummary& path : report.summary.paths) {
    std::vector<std::string> row{response_name(report, path.response)};
    if (several_ratios) row.push_back(short_text(path.l1_ratio));
    row.insert(row.end(), {short_text(path.first_lambda), short_text(path.last_lambda),
                           std::to_string(path.n_fits), std::to_string(path.n_nonzero),
                           short_text(path.deviance), format("%.1e", path.worst_gap)});
    table.add_row(std::move(row));
  }
  return table.text() + more_note(report, std::min(kTableResponses, report.summary.n_taken));
}

std::string of_responses(Index count, Index all) {
  if (all == 1) return "";
  return " (" + std::to_string(count) + " of " + std::to_string(all) + " responses)";
}

// How to read over- and underfitting off the table.
std::string hints(const RunReport& report) {
  Index n_chosen = 0, n_edge = 0, n_empty = 0, n_overfit = 0;
  for (const ChosenSummary& chosen : report.summary.chosen) {
    if (chosen.best.lambda_position < 0) continue;
    ++n_chosen;
    if (chosen.boundary) ++n_edge;
    if (chosen.best.n_nonzero == 0) ++n_empty;
    if (chosen.best.train_error < kOverfitShare * chosen.best.error) ++n_overfit;
  }
  std::string text;
  if (n_overfit > 0) {
    text +=
        "hint: training error is far below the cv error" + of_responses(n_overfit, n_chosen) +
        ": part of the fit is to noise. lambda_1se, more rows or fewer features overfit less.\n";
  }
  if (n_edge > 0) {
    text += "hint: the best lambda is the end of its grid" + of_responses(n_edge, n_chosen) +
            ": the error may fall further, the model may underfit. Lower --lambda-min-ratio or "
            "extend --lambda-grid.\n";
  }
  if (n_empty > 0) {
    text += "hint: no feature improves on the mean" + of_responses(n_empty, n_chosen) +
            ": nothing that a sparse linear model can predict was found.\n";
  }
  return text;
}

std::string count_of(Index count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string footer(const RunReport& report) {
  const RunSummary& summary = report.summary;
  const RunStats& stats = report.stats;
  std::string text = count_of(stats.n_fits, "fit", "fits");
  if (summary.n_folds > 0) text += " (" + std::to_string(summary.n_folds) + " folds included)";
  text += ", worst relative gap " + format("%.1e", stats.worst_gap) + ", ";
  text += stats.n_not_converged == 0
              ? "all ended well\n"
              : count_of(stats.n_not_converged, "fit", "fits") + " did not converge\n";
  if (stats.n_not_converged > 0) {
    std::string kinds;
    for (std::size_t s = 0; s < kStatuses; ++s) {
      const auto status = static_cast<Status>(s);
      if (is_good(status) || status == Status::kNotComputed || summary.status_count[s] == 0) {
        continue;
      }
      if (!kinds.empty()) kinds += ", ";
      kinds += std::string(name(status)) + " " + std::to_string(summary.status_count[s]);
    }
    if (!kinds.empty()) text += "fits on all rows that ended early: " + kinds + "\n";
  }
  text += "seconds: read " + format("%.3g", report.seconds.read) + ", solve " +
          format("%.3g", report.seconds.solve) + ", write " + format("%.3g", report.seconds.write) +
          "; engine " + main_engine(summary) + ", mode " + main_mode(summary) + ", " +
          count_of(stats.threads, "thread", "threads") + ", peak memory " +
          bytes_text(static_cast<double>(report.peak_memory_bytes)) + "\n";
  text += "device: " + std::string(name(stats.device));
  if (stats.device == Device::kCuda) text += ", " + stats.device_name;
  if (!stats.device_note.empty()) text += " (" + stats.device_note + ")";
  text += "\n";
  if (report.signalled || stats.interrupted) {
    text += std::string(report.signalled ? "interrupted" : "out of time") + ": " +
            std::to_string(summary.n_taken) + " of " + std::to_string(summary.n_responses) +
            " responses are in the model\n";
  }
  if (!report.output.empty()) text += "model: " + report.output + "\n";
  return text;
}

}  // namespace

std::string main_engine(const RunSummary& summary) {
  return most_used<Engine>(summary.engine_count);
}

std::string main_mode(const RunSummary& summary) { return most_used<Mode>(summary.mode_count); }

std::string report_text(const RunReport& report) {
  const RunSummary& summary = report.summary;
  std::string text = count_of(summary.n_samples, "row", "rows") + ", " +
                     count_of(summary.n_features, "feature", "features") + ", " +
                     count_of(summary.n_responses, "response", "responses") + ", " +
                     count_of(summary.n_lambdas, "lambda", "lambdas");
  if (summary.n_l1_ratios > 1) text += ", " + std::to_string(summary.n_l1_ratios) + " l1_ratios";
  if (summary.n_folds > 0) text += ", " + std::to_string(summary.n_folds) + " folds";
  text += "\n\n";
  text += summary.n_folds > 0 ? cv_table(report) : path_table(report);
  text += "\n";
  return text + hints(report) + footer(report);
}

}  // namespace thresher::command

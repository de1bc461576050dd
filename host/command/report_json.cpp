#include <nlohmann/json.hpp>

#include "command/build_info.hpp"
#include "command/report.hpp"
#include "command/text_table.hpp"
#include "thresher/status.hpp"

namespace thresher::command {
namespace {

using Json = nlohmann::ordered_json;  // NaN and infinity are dumped as null

Json chosen_json(const RunReport& report, const ChosenSummary& chosen) {
  Json json;
  json["response"] = chosen.response;
  if (!report.response_names.empty()) {
    json["name"] = report.response_names[static_cast<std::size_t>(chosen.response)];
  }
  json["lambda_best"] = chosen.best.lambda;
  json["lambda_1se"] = chosen.one_se.lambda;
  json["l1_ratio_best"] = chosen.best.l1_ratio;
  json["l1_ratio_1se"] = chosen.one_se.l1_ratio;
  json["best"] = {chosen.best.l1_ratio_position, chosen.best.lambda_position};
  json["one_se"] = {chosen.one_se.l1_ratio_position, chosen.one_se.lambda_position};
  json["cv_error"] = chosen.best.error;
  json["cv_se"] = chosen.best.se;
  json["train_error"] = chosen.best.train_error;
  json["cv_error_1se"] = chosen.one_se.error;
  json["n_nonzero_best"] = chosen.best.n_nonzero;
  json["n_nonzero_1se"] = chosen.one_se.n_nonzero;
  json["boundary"] = chosen.boundary;
  return json;
}

template <class Enum, std::size_t kCount>
Json counts_json(const std::array<Index, kCount>& counts) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kCount; ++i) {
    if (counts[i] > 0) json[std::string(name(static_cast<Enum>(i)))] = counts[i];
  }
  return json;
}

}  // namespace

std::string report_json(const RunReport& report) {
  const RunSummary& summary = report.summary;
  const BuildInfo build = build_info();
  Json json;
  json["command_line"] = report.command_line;
  json["versions"] = {{"thresher", build.version},
                      {"compiler", build.compiler},
                      {"build_type", build.build_type},
                      {"blas", build.blas}};
  json["n_samples"] = summary.n_samples;
  json["n_features"] = summary.n_features;
  json["n_responses"] = summary.n_responses;
  json["n_l1_ratios"] = summary.n_l1_ratios;
  json["n_lambdas"] = summary.n_lambdas;
  json["n_folds"] = summary.n_folds;
  json["n_fits"] = report.stats.n_fits;
  json["n_not_converged"] = report.stats.n_not_converged;
  json["worst_gap"] = report.stats.worst_gap;
  json["seconds"] = {{"read", report.seconds.read},
                     {"solve", report.seconds.solve},
                     {"solve_cpu", report.seconds.solve_cpu},
                     {"write", report.seconds.write}};
  json["engine"] = main_engine(summary);
  json["mode"] = main_mode(summary);
  json["engines"] = counts_json<Engine>(summary.engine_count);
  json["modes"] = counts_json<Mode>(summary.mode_count);
  json["device"] = name(report.stats.device);
  json["device_name"] = report.stats.device_name;
  json["device_note"] = report.stats.device_note;
  json["threads"] = report.stats.threads;
  json["n_tiles"] = report.stats.n_tiles;
  json["peak_memory_bytes"] = report.peak_memory_bytes;
  json["memory_planned_bytes"] = report.stats.planned_bytes;
  json["statuses"] = counts_json<Status>(summary.status_count);
  json["interrupted"] = report.signalled || report.stats.interrupted;
  json["n_responses_written"] = summary.n_taken;
  json["model"] = report.output;
  Json chosen = Json::array();
  for (const ChosenSummary& one : summary.chosen) chosen.push_back(chosen_json(report, one));
  json["chosen"] = std::move(chosen);
  // Names come from files and need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace thresher::command

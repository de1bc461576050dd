#pragma once

#include <string>
#include <vector>

#include "command/summary_sink.hpp"
#include "thresher/model.hpp"

namespace thresher::command {

struct Seconds {
  double read = 0.0;
  double solve = 0.0;      ///< data in memory to result in memory
  double solve_cpu = 0.0;  ///< processor time of all threads meanwhile, writing included
  double write = 0.0;
};

/// All that the reports of `path` and `cv` say.
struct RunReport {
  RunSummary summary;
  RunStats stats;
  Seconds seconds;
  std::size_t peak_memory_bytes = 0;
  bool signalled = false;
  std::vector<std::string> feature_names, response_names;
  std::vector<std::string> command_line;
  std::string output;
};

/// The table for people.
std::string report_text(const RunReport& report);

/// The summary for programs; what is not finite becomes null.
std::string report_json(const RunReport& report);

/// The engine or mode that computed most fits ("none" if nothing was computed).
std::string main_engine(const RunSummary& summary);
std::string main_mode(const RunSummary& summary);

}  // namespace thresher::command

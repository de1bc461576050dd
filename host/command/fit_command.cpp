#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "command/commands.hpp"
#include "command/exit_code.hpp"
#include "command/fit_inputs.hpp"
#include "command/interrupt.hpp"
#include "command/progress_line.hpp"
#include "command/report.hpp"
#include "command/stopwatch.hpp"
#include "command/summary_sink.hpp"
#include "thresher/fit.hpp"
#include "thresher/model_file.hpp"

namespace thresher::command {
namespace {

/// Of this program: ru_maxrss alone would also count what started it.
std::size_t peak_memory_bytes() {
  constexpr std::size_t kKibi = 1024;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::size_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * kKibi;
  }
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * kKibi;
}

bool any_fit_ended_well(const RunSummary& summary) {
  return summary.status_count[static_cast<std::size_t>(Status::kConverged)] > 0 ||
         summary.status_count[static_cast<std::size_t>(Status::kPrecisionLimit)] > 0;
}

}  // namespace

RunReport fit_to_file(const FitArguments& arguments, const FitInputs& in, Observer* observer) {
  RunReport report;
  report.output = arguments.output;
  ModelFileWriter writer(arguments.output);
  writer.set_names(in.feature_names, in.response_names);
  SummarySink sink(writer, arguments.predictions);

  const std::clock_t cpu_before = std::clock();
  const Stopwatch solve_watch;
  report.stats = arguments.cross_validate
                     ? cross_validate(in.data, in.options, in.cv, sink, observer)
                     : fit_path(in.data, in.options, sink, observer);
  report.seconds.solve = solve_watch.seconds() - sink.write_seconds();
  report.seconds.solve_cpu = static_cast<double>(std::clock() - cpu_before) / CLOCKS_PER_SEC;
  sink.finish();
  report.signalled = interrupted();
  report.summary = sink.summary();
  if (report.signalled && !any_fit_ended_well(report.summary)) return report;

  const Stopwatch finish_watch;
  writer.finish();
  sink.commit_predictions();
  report.seconds.write = finish_watch.seconds() + sink.write_seconds();
  report.peak_memory_bytes = peak_memory_bytes();
  return report;
}

int run_fit(const FitArguments& arguments, const std::vector<std::string>& command_line) {
  if (!arguments.plan) {
    check_outputs({arguments.output, arguments.predictions, arguments.json},
                  {arguments.X, arguments.Y, arguments.lambda_grid, arguments.weights,
                   arguments.l1_factors, arguments.l2_factors, arguments.fixed_l2,
                   arguments.fold_id, arguments.feature_names, arguments.response_names});
  }

  const Stopwatch read_watch;
  FitInputs in = read_fit_inputs(arguments);
  const double read_seconds = read_watch.seconds();
  if (!arguments.quiet) {
    for (const std::string& warning : in.warnings) {
      std::fprintf(stderr, "thresher: warning: %s\n", warning.c_str());
    }
  }
  in.cv.predictions = !arguments.predictions.empty();

  if (arguments.plan) {
    const Plan plan = arguments.cross_validate ? plan_cross_validation(in.data, in.options, in.cv)
                                               : plan_path(in.data, in.options);
    const std::string text = plan.text();
    std::fputs(text.c_str(), stdout);
    if (!text.ends_with('\n')) std::fputc('\n', stdout);
    return kExitGood;
  }

  watch_for_interrupts();
  ProgressLine progress(!arguments.quiet && isatty(STDERR_FILENO) == 1);
  RunReport report = fit_to_file(arguments, in, &progress);
  report.seconds.read = read_seconds;
  progress.erase();
  if (report.signalled && !any_fit_ended_well(report.summary)) {
    std::fputs("thresher: interrupted before the first response was finished; nothing written\n",
               stderr);
    return kExitInterrupted;
  }

  report.feature_names = std::move(in.feature_names);
  report.response_names = std::move(in.response_names);
  report.command_line = command_line;
  if (!arguments.json.empty()) write_text_file(arguments.json, report_json(report));
  if (!arguments.quiet) std::fputs(report_text(report).c_str(), stdout);

  if (report.signalled) return kExitInterrupted;
  if (report.stats.n_not_converged > 0 || report.stats.interrupted) {
    std::fprintf(stderr, "thresher: %lld of %lld fits did not converge%s\n",
                 static_cast<long long>(report.stats.n_not_converged),
                 static_cast<long long>(report.stats.n_fits),
                 report.stats.interrupted ? " (out of time)" : "");
    return kExitNotConverged;
  }
  return kExitGood;
}

}  // namespace thresher::command

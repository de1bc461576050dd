// `thresher path` or `thresher cv` again and again in one process, as other solvers are timed:
// options of the command, of which --json is needed. Reads the data, answers "ready"; then, for
// every line on stdin, fits, writes model and summary anew and answers "done".

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <variant>
#include <vector>

#include "command/commands.hpp"

namespace thresher::command {
namespace {

void answer(const char* word) {
  std::puts(word);
  std::fflush(stdout);
}

void run(int argc, const char* const* argv) {
  const Arguments parsed = parse_arguments(argc, argv);
  const FitArguments& arguments = std::get<FitArguments>(parsed);
  const FitInputs in = read_fit_inputs(arguments);
  answer("ready");
  for (std::string line; std::getline(std::cin, line);) {
    RunReport report = fit_to_file(arguments, in, nullptr);
    report.command_line.assign(argv, argv + argc);
    write_text_file(arguments.json, report_json(report));
    answer("done");
  }
}

}  // namespace
}  // namespace thresher::command

int main(int argc, char** argv) {
  try {
    thresher::command::run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "repeated_fit: %s\n", error.what());
    return 1;
  }
}

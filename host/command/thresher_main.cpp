#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "command/arguments.hpp"
#include "command/build_info.hpp"
#include "command/commands.hpp"
#include "command/exit_code.hpp"
#include "thresher/error.hpp"

namespace thresher::command {

int run_info(const InfoArguments& arguments) {
  const BuildInfo info = build_info();
  const DeviceInfo device = device_info();
  const std::string text =
      arguments.json ? build_info_json(info, device) : build_info_text(info, device);
  std::fputs(text.c_str(), stdout);
  return kExitGood;
}

namespace {

struct Run {
  const std::vector<std::string>& command_line;

  int operator()(const FitArguments& arguments) const { return run_fit(arguments, command_line); }
  int operator()(const PredictArguments& arguments) const { return run_predict(arguments); }
  int operator()(const CoefArguments& arguments) const { return run_coef(arguments); }
  int operator()(const SimulateArguments& arguments) const { return run_simulate(arguments); }
  int operator()(const InfoArguments& arguments) const { return run_info(arguments); }
  int operator()(const TextArguments& arguments) const {
    std::fputs(arguments.text.c_str(), stdout);
    return kExitGood;
  }
};

int report_failure(const char* message, int code) {
  std::fprintf(stderr, "thresher: %s\n", message);
  return code;
}

int run(int argc, const char* const* argv) {
  try {
    const std::vector<std::string> command_line(argv, argv + argc);
    const int code = std::visit(Run{command_line}, parse_arguments(argc, argv));
    // A table that did not reach its file must not look like success.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return report_failure("stdout must be writable, got an error", kExitFailed);
    }
    return code;
  } catch (const Error& error) {
    return report_failure(error.what(),
                          error.code() == Errc::kInvalidArgument ? kExitBadInput : kExitFailed);
  } catch (const std::bad_alloc&) {
    return report_failure("out of memory (--max-memory limits what a fit may add)", kExitFailed);
  } catch (const std::exception& error) {
    return report_failure(error.what(), kExitFailed);
  }
}

}  // namespace
}  // namespace thresher::command

int main(int argc, char** argv) { return thresher::command::run(argc, argv); }

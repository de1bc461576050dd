#pragma once

#include <string>
#include <vector>

#include "command/arguments.hpp"
#include "command/fit_inputs.hpp"
#include "command/report.hpp"
#include "thresher/observer.hpp"

namespace thresher::command {

// One function per verb; each returns the exit code (exit_code.hpp) and prints to stdout what its
// user reads.
// Throws   Error, std::bad_alloc

int run_fit(const FitArguments& arguments, const std::vector<std::string>& command_line);
/// What run_fit does between reading and reporting: solves, and writes the model and, if they are
/// asked for, the predictions; nothing if it is interrupted before a fit has ended well. `observer`
/// may be null.
RunReport fit_to_file(const FitArguments& arguments, const FitInputs& in, Observer* observer);

int run_predict(const PredictArguments& arguments);
int run_coef(const CoefArguments& arguments);
int run_simulate(const SimulateArguments& arguments);
int run_info(const InfoArguments& arguments);

/// Throws what opening each of `outputs` for writing would throw, and leaves nothing behind: a
/// missing folder should be heard of before the work, not after it. Refuses an output that is one
/// of `inputs` or another output. Empty names are passed over.
/// Throws   Error{kFile}, Error{kInvalidArgument}
void check_outputs(const std::vector<std::string>& outputs, const std::vector<std::string>& inputs);

void write_text_file(const std::string& path, const std::string& text);

}  // namespace thresher::command

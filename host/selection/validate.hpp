#pragma once

#include <string>
#include <vector>

#include "thresher/fit.hpp"

namespace thresher {

/// Checks everything that can be checked without a pass over X (Columns checks its values).
/// Throws   Error{kInvalidArgument}, messages starting with `function`.
void validate(const std::string& function, const Data& data, const Options& options);

/// The folds in force: those given, checked, or make_folds.
std::vector<Index> checked_folds(const std::string& function, const Data& data,
                                 const CvOptions& cv);

}  // namespace thresher

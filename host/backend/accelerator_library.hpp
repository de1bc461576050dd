#pragma once

#include <memory>
#include <string>

#include "backend/accelerator.hpp"

namespace thresher {

/// The device library this process would open: the file that the environment variable
/// THRESHER_CUDA_LIBRARY names, else libthresher_cuda.so.MAJOR.MINOR beside this library or program
/// or where an install or a build leaves it, else the bare name, for the loader to search.
std::string accelerator_library_path();

/// Opens that library and the device behind it. Null if either is not there; why_not then says
/// why, a clause such as "no CUDA device is present". Keeps no state: every call looks again.
std::shared_ptr<Accelerator> open_accelerator(std::string& why_not);

}  // namespace thresher

#pragma once

#include <memory>
#include <string>

#include "backend/accelerator.hpp"
#include "selection/cost_model.hpp"

namespace thresher {

/// Where a call runs, and why there.
struct DeviceChoice {
  std::shared_ptr<Accelerator> accelerator;  ///< null: the CPU
  std::string name;                          ///< of the device
  std::string note;                          ///< why not a device
};

/// Opens a device if the options want one or, with device auto, if an engine of the call can use
/// one and the work pays for it.
/// Throws   Error{kDevice} `function: device must be cuda, got none: why` if it is asked for and
///          not there.
DeviceChoice choose_device(const std::string& function, const Options& options,
                           double core_seconds);

}  // namespace thresher

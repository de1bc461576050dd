#include "selection/device_choice.hpp"

#include "backend/accelerator_library.hpp"
#include "thresher/error.hpp"

namespace thresher {

DeviceChoice choose_device(const std::string& function, const Options& options,
                           double core_seconds) {
  DeviceChoice choice;
  if (options.device == Device::kCpu) return choice;
  const bool asked = options.device == Device::kCuda;
  if (options.engine == Engine::kReference) {
    choice.note = "the reference engine runs on the CPU alone";
    return choice;
  }
  if (!asked && core_seconds < kDevicePaysSeconds) {
    choice.note = "the work is too small for a device to pay";
    return choice;
  }
  choice.accelerator = open_accelerator(choice.note);
  try {
    if (choice.accelerator) choice.name = choice.accelerator->info().name;
  } catch (const Error& error) {
    choice.accelerator.reset();
    choice.note = error.what();
  }
  if (asked && !choice.accelerator) {
    throw Error(Errc::kDevice, function + ": device must be cuda, got none: " + choice.note);
  }
  return choice;
}

}  // namespace thresher

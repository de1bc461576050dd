#pragma once

#include <cstddef>
#include <string>

namespace thresher::command {

/// Where this build computes and with what.
struct BuildInfo {
  std::string version, headers_version, compiler, build_type;
  std::string blas;             ///< name, version and the kernel set it chose for this processor
  std::string instruction_set;  ///< of our own inner loops, chosen for this processor
  int threads_available = 0;    ///< processors this process may run on
};

/// The GPU of this machine, if there is one and the device library that drives it.
struct DeviceInfo {
  std::string device;         ///< "cuda" or "cpu"
  std::string name, version;  ///< of the device, empty for the CPU
  std::size_t total_bytes = 0, free_bytes = 0;
  std::string why_not;            ///< one clause, empty for cuda
  std::string library;            ///< the file that was tried
  std::size_t library_bytes = 0;  ///< 0: not found
};

BuildInfo build_info();
/// Opens the device, which takes tenths of a second.
DeviceInfo device_info();

std::string build_info_text(const BuildInfo& info, const DeviceInfo& device);
std::string build_info_json(const BuildInfo& info, const DeviceInfo& device);

}  // namespace thresher::command

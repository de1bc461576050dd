#include "command/build_info.hpp"

#include <sched.h>

#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>

#include <nlohmann/json.hpp>

#include "backend/accelerator_library.hpp"
#include "backend/simd.hpp"
#include "command/text_table.hpp"
#include "thresher/error.hpp"
#include "thresher/status.hpp"
#include "thresher/version.hpp"

#ifdef THRESHER_OPENBLAS
extern "C" {
char* openblas_get_config(void);
char* openblas_get_corename(void);
}
#endif

namespace thresher::command {
namespace {

std::string blas_name() {
#ifdef THRESHER_OPENBLAS
  // The configuration is a list of words that starts "OpenBLAS 0.3.21 ".
  const std::string config = openblas_get_config();
  const std::size_t end = config.find(' ', config.find(' ') + 1);
  return config.substr(0, end) + ", serial, kernels for " + openblas_get_corename();
#else
  return "none (plain loops)";
#endif
}

int threads_available() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

BuildInfo build_info() {
  BuildInfo info;
  info.version = version();
  info.headers_version = THRESHER_VERSION;
#ifdef __clang__
  info.compiler = "clang " __clang_version__;
#else
  info.compiler = "g++ " __VERSION__;
#endif
  info.build_type = THRESHER_BUILD_TYPE;
  info.blas = blas_name();
  info.instruction_set = simd().name;
  info.threads_available = threads_available();
  return info;
}

DeviceInfo device_info() {
  DeviceInfo info;
  info.device = name(Device::kCpu);
  info.library = accelerator_library_path();
  std::error_code missing;
  const auto bytes = std::filesystem::file_size(info.library, missing);
  if (!missing) info.library_bytes = bytes;
  try {
    const std::shared_ptr<Accelerator> accelerator = open_accelerator(info.why_not);
    if (!accelerator) return info;
    const AcceleratorInfo found = accelerator->info();
    info.device = name(Device::kCuda);
    info.name = found.name;
    info.version = found.version;
    info.total_bytes = found.total_bytes;
    info.free_bytes = found.free_bytes;
  } catch (const Error& error) {
    info.why_not = error.what();
  }
  return info;
}

std::string build_info_text(const BuildInfo& info, const DeviceInfo& device) {
  std::string where = device.device;
  if (device.why_not.empty()) {
    where += ", " + device.name + " (" + bytes_text(static_cast<double>(device.free_bytes)) +
             " of " + bytes_text(static_cast<double>(device.total_bytes)) + " free, " +
             device.version + ")";
  } else {
    where += " (" + device.why_not + ")";
  }
  std::string library;
  if (device.library_bytes > 0) {
    library = "device library   " + device.library + " (" +
              bytes_text(static_cast<double>(device.library_bytes)) + ")\n";
  }
  return "thresher " + info.version + "\ncompiler         " + info.compiler + ", " +
         info.build_type + "\nblas             " + info.blas + "\ninstruction set  " +
         info.instruction_set + "\nthreads          " + std::to_string(info.threads_available) +
         "\ndevice           " + where + "\n" + library;
}

std::string build_info_json(const BuildInfo& info, const DeviceInfo& device) {
  const nlohmann::ordered_json json = {{"version", info.version},
                                       {"headers_version", info.headers_version},
                                       {"compiler", info.compiler},
                                       {"build_type", info.build_type},
                                       {"blas", info.blas},
                                       {"instruction_set", info.instruction_set},
                                       {"threads_available", info.threads_available},
                                       {"device", device.device},
                                       {"device_name", device.name},
                                       {"device_version", device.version},
                                       {"device_total_bytes", device.total_bytes},
                                       {"device_free_bytes", device.free_bytes},
                                       {"device_why_not", device.why_not},
                                       {"device_library", device.library},
                                       {"device_library_bytes", device.library_bytes}};
  return json.dump(2) + "\n";
}

}  // namespace thresher::command

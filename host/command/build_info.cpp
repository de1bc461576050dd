#include "command/build_info.hpp"

#include <sched.h>

#include <thread>

#include <nlohmann/json.hpp>

#include "backend/simd.hpp"
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

std::string_view why_no_gpu() { return "this build has no CUDA backend"; }

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
  info.device = "cpu";
  info.why_no_gpu = why_no_gpu();
  return info;
}

std::string build_info_text(const BuildInfo& info) {
  return "thresher " + info.version + "\ncompiler         " + info.compiler + ", " +
         info.build_type + "\nblas             " + info.blas + "\ninstruction set  " +
         info.instruction_set + "\nthreads          " + std::to_string(info.threads_available) +
         "\ndevice           " + info.device + " (" + info.why_no_gpu + ")\n";
}

std::string build_info_json(const BuildInfo& info) {
  const nlohmann::ordered_json json = {{"version", info.version},
                                       {"headers_version", info.headers_version},
                                       {"compiler", info.compiler},
                                       {"build_type", info.build_type},
                                       {"blas", info.blas},
                                       {"instruction_set", info.instruction_set},
                                       {"threads_available", info.threads_available},
                                       {"device", info.device},
                                       {"why_no_gpu", info.why_no_gpu}};
  return json.dump(2) + "\n";
}

}  // namespace thresher::command

#pragma once

#include <string>
#include <string_view>

namespace thresher::command {

/// Where this build computes and with what.
struct BuildInfo {
  std::string version, headers_version, compiler, build_type;
  std::string blas;             ///< name, version and the kernel set it chose for this processor
  std::string instruction_set;  ///< of our own inner loops, chosen for this processor
  int threads_available = 0;    ///< processors this process may run on
  std::string device, why_no_gpu;
};

BuildInfo build_info();

/// One sentence.
std::string_view why_no_gpu();

std::string build_info_text(const BuildInfo& info);
std::string build_info_json(const BuildInfo& info);

}  // namespace thresher::command

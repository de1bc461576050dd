#include "cuda_check.hpp"

#include <string>
#include <string_view>

#include "thresher/error.hpp"

namespace thresher::cuda {
namespace {

[[noreturn]] void fail(Errc code, const char* call, std::string_view status,
                       std::string_view meaning, const std::source_location& where) {
  std::string_view file = where.file_name();
  file.remove_prefix(file.rfind('/') + 1);
  throw Error(code, std::string(call) + ": " + std::string(status) + ": " + std::string(meaning) +
                        " (" + std::string(file) + ":" + std::to_string(where.line()) + ")");
}

}  // namespace

void check(cudaError_t status, const char* call, std::source_location where) {
  if (status == cudaSuccess) return;
  // Errors that do not stick are also remembered for cudaGetLastError: they have been reported now.
  (void)cudaGetLastError();
  fail(status == cudaErrorMemoryAllocation ? Errc::kOutOfMemory : Errc::kDevice, call,
       cudaGetErrorName(status), cudaGetErrorString(status), where);
}

std::string name_of_allocation(const char* call, std::size_t bytes) {
  return std::string(call) + " of " + std::to_string(bytes) + " bytes";
}

void check(cublasStatus_t status, const char* call, std::source_location where) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? Errc::kOutOfMemory : Errc::kDevice, call,
       cublasGetStatusName(status), cublasGetStatusString(status), where);
}

void check(cusolverStatus_t status, const char* call, std::source_location where) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  fail(status == CUSOLVER_STATUS_ALLOC_FAILED ? Errc::kOutOfMemory : Errc::kDevice, call,
       "cuSOLVER status " + std::to_string(static_cast<int>(status)), "see cusolver_common.h",
       where);
}

}  // namespace thresher::cuda

#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>
#include <source_location>
#include <string>

namespace thresher::cuda {

/// Throws Error naming `call`, the library's message and the caller's line unless status is
/// success. A failed allocation becomes kOutOfMemory, everything else kDevice. Not for destructors:
/// see note_failure.
void check(cudaError_t status, const char* call,
           std::source_location where = std::source_location::current());
void check(cublasStatus_t status, const char* call,
           std::source_location where = std::source_location::current());
void check(cusolverStatus_t status, const char* call,
           std::source_location where = std::source_location::current());

/// "cudaMalloc of 4096 bytes", for check().
std::string name_of_allocation(const char* call, std::size_t bytes);

/// For destructors, which cannot throw: a release that fails after a failed run says nothing new,
/// and the failure itself comes back from the next checked call (CUDA errors of this kind stick).
inline void note_failure(cudaError_t) noexcept {}

}  // namespace thresher::cuda

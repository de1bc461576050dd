#include "cuda_lane.hpp"

#include <algorithm>
#include <vector>

#include "cuda_check.hpp"

namespace thresher::cuda {
namespace {

// Untuned: enough to hide the latency of a copy behind the filling of the other buffer.
constexpr Index kStagingBytes = Index{4} << 20;
// Device memory for the columns of one verb: enough for GEMM at its best rate on any shape.
constexpr std::size_t kMostColumnBytes = std::size_t{1} << 30;
constexpr std::size_t kColumnShare = 8;  // and at most this part of what is free

class SolverParams {
 public:
  SolverParams() { check(cusolverDnCreateParams(&params_), "cusolverDnCreateParams"); }
  ~SolverParams() { (void)cusolverDnDestroyParams(params_); }
  SolverParams(const SolverParams&) = delete;
  SolverParams& operator=(const SolverParams&) = delete;
  operator cusolverDnParams_t() const { return params_; }

 private:
  cusolverDnParams_t params_ = nullptr;
};

cublasOperation_t operation(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

std::size_t free_device_bytes() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

}  // namespace

Lane::Lane(const DeviceLimits& limits)
    : limits_(limits),
      blas_(stream_),
      solver_(stream_),
      staging_(stream_, kStagingBytes),
      free_bytes_(free_device_bytes()) {}

Index Lane::columns_at_a_time(Index doubles_per_column, Index count) const {
  const std::size_t bytes = std::min(kMostColumnBytes, free_bytes_ / kColumnShare);
  const Index fit =
      static_cast<Index>(bytes / sizeof(double)) / std::max<Index>(1, doubles_per_column);
  return std::max<Index>(1, std::min(fit, count));
}

void Lane::zero_columns(Index rows, Index cols, double* c, Index ldc) {
  for (Index j = 0; j < cols && rows > 0; ++j) {
    check(cudaMemsetAsync(c + j * ldc, 0, checked_bytes<double>(rows), stream_), "cudaMemsetAsync");
  }
}

void Lane::gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha,
                const double* a, Index lda, const double* b, Index ldb, double beta, double* c,
                Index ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (beta == 0.0) zero_columns(m, n, c, ldc);
    return;
  }
  check(cublasDgemm_64(blas_, operation(trans_a), operation(trans_b), m, n, k, &alpha, a,
                       std::max<Index>(1, lda), b, std::max<Index>(1, ldb), &beta, c, ldc),
        "cublasDgemm");
}

void Lane::gram_lower(bool trans_a, Index n, Index k, const double* a, double* c) {
  if (k == 0) return zero_columns(n, n, c, n);
  if (n == 0) return;
  const double one = 1.0, zero = 0.0;
  check(cublasDsyrk_64(blas_, CUBLAS_FILL_MODE_LOWER, operation(trans_a), n, k, &one, a,
                       std::max<Index>(1, trans_a ? k : n), &zero, c, n),
        "cublasDsyrk");
}

bool Lane::symmetric_eigen(Index n, double* a, double* w) {
  if (n == 0) return true;
  const SolverParams params;
  std::size_t device_bytes = 0, host_bytes = 0;
  check(cusolverDnXsyevd_bufferSize(solver_, params, CUSOLVER_EIG_MODE_VECTOR,
                                    CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, a, n, CUDA_R_64F, w,
                                    CUDA_R_64F, &device_bytes, &host_bytes),
        "cusolverDnXsyevd_bufferSize");
  DeviceArray<unsigned char> device_work(static_cast<Index>(device_bytes));
  std::vector<unsigned char> host_work(host_bytes);
  DeviceArray<int> info(1);
  check(cusolverDnXsyevd(solver_, params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
                         CUDA_R_64F, a, n, CUDA_R_64F, w, CUDA_R_64F, device_work.data(),
                         device_bytes, host_work.data(), host_bytes, info.data()),
        "cusolverDnXsyevd");
  int failed = 0;
  download(info.data(), 1, &failed);
  return failed == 0;
}

}  // namespace thresher::cuda

#pragma once

#include <cstddef>
#include <mutex>

#include "cuda_context.hpp"
#include "device_memory.hpp"
#include "staged_copies.hpp"

namespace thresher::cuda {

/// One stream with its libraries and staging buffers, for verbs that take and return host arrays
/// and may be called from any thread. A verb holds a Turn from its first line to its last.
class Lane {
 public:
  /// The device must be current for the calling thread.
  explicit Lane(const DeviceLimits& limits);

  cudaStream_t stream() const { return stream_; }
  /// Bytes of device memory that were free when the lane was made.
  std::size_t free_bytes() const { return free_bytes_; }

  /// Columns to take at a time, of `count`, if each needs that many doubles on the device: bounded
  /// memory whatever the count. At least 1.
  Index columns_at_a_time(Index doubles_per_column, Index count) const;

  /// `from` may change again on return, while the copy may still be under way.
  template <class T>
  void upload(const T* from, Index size, T* to) {
    staging_.upload(from, size, to);
  }
  /// On return the values are there, and all work enqueued before is done.
  template <class T>
  void download(const T* from, Index size, T* to) {
    staging_.download(from, size, to);
  }

  /// C (m, n) = alpha op(A) op(B) + beta C on device memory, as blas::gemm. 2 m n k flops.
  void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha, const double* a,
            Index lda, const double* b, Index ldb, double beta, double* c, Index ldc);

  /// Lower triangle of C (n, n) = A A' for A (n, k), or A'A for A (k, n). n^2 k flops.
  void gram_lower(bool trans_a, Index n, Index k, const double* a, double* c);

  /// Eigendecomposition of the symmetric A (n, n) in device memory, lower triangle given: A becomes
  /// the eigenvectors, w (device) the eigenvalues, ascending. False if it did not converge. About
  /// 9 n^3 flops, a third of them in matrix-vector products.
  bool symmetric_eigen(Index n, double* a, double* w);

 private:
  friend class Turn;

  /// What a product over nothing leaves; cuBLAS is not asked for it.
  void zero_columns(Index rows, Index cols, double* c, Index ldc);

  DeviceLimits limits_;
  std::mutex mutex_;
  Stream stream_;
  Blas blas_;
  Solver solver_;
  StagedCopies staging_;
  std::size_t free_bytes_ = 0;
};

/// The right to use a lane, with its device made current for this thread.
class Turn {
 public:
  explicit Turn(Lane& lane) : lock_(lane.mutex_) { use_device(lane.limits_); }

 private:
  std::lock_guard<std::mutex> lock_;
};

}  // namespace thresher::cuda

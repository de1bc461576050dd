#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// A stream of its own.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // a handle with an owner
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

/// Waits at its end, so that copies under way no longer touch host memory. The last member of what
/// owns page-locked memory: the first to go, also when a constructor throws.
class Drain {
 public:
  explicit Drain(const Stream& stream) : stream_(stream) {}
  ~Drain();
  Drain(const Drain&) = delete;
  Drain& operator=(const Drain&) = delete;

 private:
  const Stream& stream_;
};

/// A mark in a stream, without timing.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) const;
  void wait() const;                          ///< the host waits
  void hold_back(cudaStream_t stream) const;  ///< the stream waits

 private:
  cudaEvent_t event_ = nullptr;
};

/// cuBLAS on one stream, results deterministic run to run (its workspace is its own).
class Blas {
 public:
  explicit Blas(cudaStream_t stream);
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;
  operator cublasHandle_t() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

/// cuSOLVER on one stream.
class Solver {
 public:
  explicit Solver(cudaStream_t stream);
  ~Solver();
  Solver(const Solver&) = delete;
  Solver& operator=(const Solver&) = delete;
  operator cusolverDnHandle_t() const { return handle_; }

 private:
  cusolverDnHandle_t handle_ = nullptr;
};

/// What a device can do, as far as kernels ask.
struct DeviceLimits {
  int device = 0;
  int multiprocessors = 1;
  std::size_t shared_bytes = 48 << 10;  ///< most dynamic shared memory of a block

  /// Blocks that share the work of each of `count` problems, at most `most`: a few for every
  /// multiprocessor in all.
  Index workers(Index count, Index most) const;
};

/// Throws Error{kDevice} in a child of the process that has used the device: it inherits a CUDA
/// context that does not work there. Comes before the first call that would say so in CUDA's words.
void refuse_after_fork();

/// Makes `limits.device` current for the calling thread; every public entry calls it first, since
/// CUDA's current device belongs to the thread. Throws Error{kDevice} after fork.
void use_device(const DeviceLimits& limits);

}  // namespace thresher::cuda

#include "cuda_context.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "cuda_check.hpp"
#include "thresher/error.hpp"

namespace thresher::cuda {
namespace {

std::atomic<pid_t> first_user{0};

}  // namespace

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
Stream::~Stream() {
  if (stream_ != nullptr) note_failure(cudaStreamDestroy(stream_));
}
void Stream::wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

Event::Event() {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}
Event::~Event() {
  if (event_ != nullptr) note_failure(cudaEventDestroy(event_));
}
void Event::record(cudaStream_t stream) const {
  check(cudaEventRecord(event_, stream), "cudaEventRecord");
}
void Event::wait() const { check(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
void Event::hold_back(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}

Blas::Blas(cudaStream_t stream) {
  check(cublasCreate(&handle_), "cublasCreate");
  try {
    check(cublasSetStream(handle_, stream), "cublasSetStream");
  } catch (...) {
    (void)cublasDestroy(handle_);
    throw;
  }
}
Blas::~Blas() {
  if (handle_ != nullptr) (void)cublasDestroy(handle_);
}

Solver::Solver(cudaStream_t stream) {
  check(cusolverDnCreate(&handle_), "cusolverDnCreate");
  try {
    check(cusolverDnSetStream(handle_, stream), "cusolverDnSetStream");
  } catch (...) {
    (void)cusolverDnDestroy(handle_);
    throw;
  }
}
Solver::~Solver() {
  if (handle_ != nullptr) (void)cusolverDnDestroy(handle_);
}

Drain::~Drain() { note_failure(cudaStreamSynchronize(stream_)); }

void refuse_after_fork() {
  const pid_t owner = first_user, self = getpid();
  if (owner != 0 && owner != self) {
    throw Error(Errc::kDevice,
                "cuda: the device must be used by the process that opened it, got process " +
                    std::to_string(self) + " after process " + std::to_string(owner) +
                    " (start workers before the first call, or by spawn)");
  }
}

Index DeviceLimits::workers(Index count, Index most) const {
  const Index wanted = 4 * multiprocessors / std::max<Index>(1, count);
  return std::clamp<Index>(wanted, 1, std::max<Index>(1, most));
}

void use_device(const DeviceLimits& limits) {
  pid_t nobody = 0;
  first_user.compare_exchange_strong(nobody, getpid());
  refuse_after_fork();
  check(cudaSetDevice(limits.device), "cudaSetDevice");
}

}  // namespace thresher::cuda

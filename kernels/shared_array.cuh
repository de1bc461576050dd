#pragma once

// Shared memory is declared through these two alone: the emulator under tests/cuda_on_cpu keeps it
// per block, so this is the one place that must know which compiler is at work.

#include <cuda_runtime.h>

namespace thresher::cuda {

#ifdef THRESHER_CUDA_ON_CPU
#define THRESHER_SHARED_ARRAY(T, name, n) \
  T(&name)[n] = ::thresher::emulator::static_shared<T, n>([] {})
template <class T>
T* dynamic_shared() {
  return ::thresher::emulator::dynamic_shared<T>();
}
#else
/// `name`: n elements of T shared by the block, not initialised.
#define THRESHER_SHARED_ARRAY(T, name, n) __shared__ T name[n]
/// The launch's dynamic shared memory, aligned for double.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char thresher_dynamic_shared[];
  return reinterpret_cast<T*>(thresher_dynamic_shared);
}
#endif

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "cuda_check.hpp"
#include "thresher/views.hpp"

namespace thresher::cuda {

/// Shape of a launch.
struct Grid {
  dim3 blocks;
  unsigned threads;              ///< per block, one-dimensional
  std::size_t shared_bytes = 0;  ///< dynamic shared memory; above 48 KiB allow_shared comes first
};

/// The only way this project starts a kernel, so that no launch goes unchecked. An empty grid is
/// no work, not an error. In a THRESHER_SYNC_LAUNCHES build it also waits, so that a fault inside
/// the kernel is reported against the kernel's own name.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const Grid& grid, cudaStream_t stream,
            const Args&... args) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(grid.threads);
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, args...), name);
#ifdef THRESHER_SYNC_LAUNCHES
  check(cudaStreamSynchronize(stream), name);
#endif
}

/// Lets `kernel` use up to `bytes` of dynamic shared memory.
template <class... Params>
void allow_shared(const char* name, void (*kernel)(Params...), std::size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        name);
}

constexpr Index kMostGridX = 2147483647;  // limits of the hardware
constexpr Index kMostGridY = 65535;

/// Threads of a block. The emulator pays for every thread, and two warps show what eight would.
constexpr unsigned block_threads(unsigned on_device) {
#ifdef THRESHER_CUDA_ON_CPU
  return on_device < 64 ? on_device : 64;
#else
  return on_device;
#endif
}

/// Blocks of `size` that cover n.
constexpr Index blocks_for(Index n, Index size) { return (n + size - 1) / size; }

/// n as gridDim.x or .y, cut at the hardware's limit: kernels stride over what is left.
constexpr unsigned grid_x(Index n) {
  return static_cast<unsigned>(n < kMostGridX ? n : kMostGridX);
}
constexpr unsigned grid_y(Index n) {
  return static_cast<unsigned>(n < kMostGridY ? n : kMostGridY);
}

}  // namespace thresher::cuda

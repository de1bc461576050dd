// Found before the toolkit's header of the same name: the toolkit's own declarations of the host
// API, and the device language in plain C++.
#pragma once
#ifdef __CUDACC__
#error "nvcc must not see the emulator's headers"
#endif
#define THRESHER_CUDA_ON_CPU 1

// The toolkit defines these only where they are not defined yet; <cublas_v2.h> may have been there
// first.
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __managed__
#undef __grid_constant__
#undef __shared__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __shared__ static  // for the toolkit's headers; ours declare shared memory otherwise

// Replaced by a typed template: the untyped ones cannot know the arguments' sizes.
#define cudaLaunchKernelEx thresher_emulator_unused_cudaLaunchKernelEx
#define cudaLaunchKernel thresher_emulator_unused_cudaLaunchKernel
#include_next <cuda_runtime.h>
#undef cudaLaunchKernelEx
#undef cudaLaunchKernel
#undef __launch_bounds__
#define __launch_bounds__(...)

#include "emulator_device.hpp"

#pragma once

/// In front of what both the host and the kernels call.
#ifdef __CUDACC__
#define THRESHER_HOST_DEVICE __host__ __device__
#else
#define THRESHER_HOST_DEVICE
#endif

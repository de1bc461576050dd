#pragma once

#include "block_sums.cuh"
#include "thresher/views.hpp"

namespace thresher::cuda {

/// x'z in every lane; the whole warp calls it.
__device__ inline double warp_product(Index n, const double* x, const double* z) {
  double sum = 0.0;
  for (Index i = threadIdx.x % kWarpSize; i < n; i += kWarpSize) sum += x[i] * z[i];
  return warp_sum(sum);
}

}  // namespace thresher::cuda

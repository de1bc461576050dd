#pragma once

// Sums, maxima and ranks over a block in one fixed order, so that a launch gives the same bits
// every time. Blocks have whole warps, and every thread of the block calls them. scratch is
// THRESHER_SHARED_ARRAY(T, scratch, kMostWarps); it is free again when they return.

#include <cuda_runtime.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMostWarps = 32;  // of a block
constexpr unsigned kAllLanes = 0xffffffffu;

/// Whole warps that cover n, `most` threads at most: small columns keep no idle warps.
constexpr unsigned threads_for(Index n, unsigned most) {
  if (n >= static_cast<Index>(most)) return most;
  return n <= 0 ? kWarpSize : static_cast<unsigned>((n + kWarpSize - 1) / kWarpSize) * kWarpSize;
}

/// The sum over the warp, in every lane.
template <class T>
__device__ inline T warp_sum(T v) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    v += __shfl_xor_sync(kAllLanes, v, offset);
  }
  return v;
}

/// The larger one; a NaN wins.
template <class T>
__device__ inline T larger(T a, T b) {
  return a > b || a != a ? a : b;
}

/// The largest value of the warp, in every lane; a NaN wins.
template <class T>
__device__ inline T warp_max(T v) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    v = larger(v, __shfl_xor_sync(kAllLanes, v, offset));
  }
  return v;
}

/// The sum over the block, in every thread: lanes by halves, then warps ascending.
template <class T>
__device__ inline T block_sum(T v, T* scratch) {
  v = warp_sum(v);
  if (threadIdx.x % kWarpSize == 0) scratch[threadIdx.x / kWarpSize] = v;
  __syncthreads();
  T sum = scratch[0];
  for (unsigned warp = 1; warp < blockDim.x / kWarpSize; ++warp) sum += scratch[warp];
  __syncthreads();
  return sum;
}

/// The largest value of the block, in every thread; a NaN wins.
template <class T>
__device__ inline T block_max(T v, T* scratch) {
  v = warp_max(v);
  if (threadIdx.x % kWarpSize == 0) scratch[threadIdx.x / kWarpSize] = v;
  __syncthreads();
  T most = scratch[0];
  for (unsigned warp = 1; warp < blockDim.x / kWarpSize; ++warp) most = larger(most, scratch[warp]);
  __syncthreads();
  return most;
}

/// How many threads before this one hold a true `flag`, and how many in all. `counts` has
/// kMostWarps entries and is free again on return.
struct Ranked {
  int before;
  int count;
};
__device__ inline Ranked rank_flags(bool flag, int* counts) {
  const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const unsigned bits = __ballot_sync(kAllLanes, flag);
  if (lane == 0) counts[warp] = __popc(bits);
  __syncthreads();
  Ranked out{__popc(bits & ((1u << lane) - 1u)), 0};
  for (unsigned k = 0; k < blockDim.x / kWarpSize; ++k) {
    if (k < warp) out.before += counts[k];
    out.count += counts[k];
  }
  __syncthreads();
  return out;
}

}  // namespace thresher::cuda

#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// Error of one addition in a product of half-precision matrices, relative: tensor cores align and
/// truncate (Fasi et al. 2021). Assumed; benchmarks/half_sum_probe.cpp measures a card against it.
constexpr double kHalfSumError = 0x1p-22;

/// X in half precision for the certification product, with what it loses.
struct HalfColumns {
  Index n = 0, p = 0;
  Index padded = 0;              // rows of `half`: n rounded up, zeros below
  const double* X = nullptr;     // (n, p)
  __half* half = nullptr;        // (padded, p)  out
  double* norm = nullptr;        // (p)  out: |xhat_j|, rounded up
  double* half_error = nullptr;  // (p)  out: |xhat_j - half_j|, rounded up
  double* half_norm = nullptr;   // (p)  out: |half_j|, rounded up
};

/// Rounds columns [first, first + count). half = null: only the norms of X.
/// Traffic: reads 8, writes 2 bytes per entry of X.
void round_columns(const HalfColumns& columns, Index first, Index count, cudaStream_t stream);

/// A sum of squares to a norm that is surely no smaller than the true one.
__host__ __device__ inline double norm_rounded_up(double squares) {
  return sqrt(squares) * (1.0 + 1e-9);
}

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime_api.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// Operands of complete_gram. Device memory, column-major without gaps.
struct CompleteGram {
  double* G;            ///< (k, k) in: lower triangle, out: both
  const double* delta;  ///< (k) added to the diagonal, or null
  Index k;
};

/// Mirrors the lower triangle that a rank-k update leaves, and adds a diagonal.
///
/// Traffic  16 bytes per entry above the diagonal. The writes go along rows and are not coalesced:
///          k^2 / 2 of them beside the k^3 operations of the eigensolver that follows.
/// Repeat   The same bits every time: one thread per entry.
void complete_gram(const CompleteGram& step, cudaStream_t stream);

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime_api.h>

#include "backend/spectrum_backend.hpp"

namespace thresher::cuda {

/// Operands of shrink_spectrum. Device memory, column-major without gaps.
struct ShrinkSpectrum {
  const double* values;   ///< (k) s >= 0
  double cutoff;          ///< at lambda = 0 directions with s <= cutoff are left out
  const double* Z;        ///< (k, any) rotated responses
  const Index* response;  ///< (count) column of Z
  const double* lambda;   ///< (count) >= 0
  double* T;              ///< (k, count) out
  ShrunkSums* sums;       ///< (count) out
  Index k;
  Index count;
};

/// Spectrum::shrink: t = z / (s + lambda) and the sums of its column.
///
/// Traffic  reads s and z, writes t: 24 bytes and 10 flops per entry. Memory-bound; s and the
///          columns of Z come from cache after their first use.
/// Repeat   The same bits every time: one block per column, sums in one fixed order.
void shrink_spectrum(const ShrinkSpectrum& step, cudaStream_t stream);

}  // namespace thresher::cuda

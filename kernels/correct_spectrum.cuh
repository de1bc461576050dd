#pragma once

#include <cuda_runtime_api.h>

#include "backend/spectrum_backend.hpp"

namespace thresher::cuda {

/// Operands of correct_spectrum. Device memory, column-major without gaps.
struct CorrectSpectrum {
  const double* values;    ///< (k) s >= 0
  double cutoff;           ///< at lambda = 0 directions with s <= cutoff are left out
  double top;              ///< at least the largest eigenvalue of A A'
  bool row_space;          ///< whether D comes from residuals (row space) or gradients
  const double* lambda;    ///< (count) >= 0
  double* D;               ///< (k, count) in: U' of those, out: the change of T
  double* T;               ///< (k, count) in, out
  RidgeMeasure* measures;  ///< (count) gap is written in row space or at lambda = 0
  Index k;
  Index count;
};

/// The part of Spectrum::refine in rotated coordinates: T += D / (s + lambda), in row space after
/// D -= lambda T, and the gaps that follow from D. With rho = U'(r - lambda U t) in row space:
///
///     lambda > 0  gap = 1/2 |rho|^2 min(1, top / lambda)     dual points lambda U t and r
///     lambda = 0  gap = 1/2 rho' (Hessian)^-1 rho            on the directions in use
///
/// Traffic  reads s, D and T, writes D and T: 40 bytes and 6 flops per entry. Memory-bound.
/// Repeat   The same bits every time: one block per column, sums in one fixed order.
void correct_spectrum(const CorrectSpectrum& step, cudaStream_t stream);

}  // namespace thresher::cuda

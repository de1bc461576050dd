#pragma once

#include <cuda_runtime_api.h>

#include "backend/spectrum_backend.hpp"

namespace thresher::cuda {

/// Operands of measure_ridge. Device memory, column-major without gaps.
struct MeasureRidge {
  const double* lambda;  ///< (count) >= 0
  const double* delta;   ///< (p), or null for all 0
  const double* R;       ///< (m, count) y - A beta
  const double* beta;    ///< (p, count)
  double* gradient;      ///< (p, count) in: A'R, out: A'R - (lambda + delta) beta; null: leave out
  RidgeMeasure* measures;  ///< (count) out
  Index m;
  Index p;
  Index count;
};

/// The part of Spectrum::refine that looks at residuals: |R|^2, the penalty and, with a gradient g
/// at lambda > 0, the gap sum g^2 / (2 (lambda + delta)); gap is 0 otherwise.
///
/// Traffic  8 bytes and 2 flops per entry of R; per entry of beta 8 bytes and 5 flops, with a
///          gradient 24 bytes and 11 flops. Memory-bound.
/// Repeat   The same bits every time: one block per column, sums in one fixed order.
void measure_ridge(const MeasureRidge& step, cudaStream_t stream);

}  // namespace thresher::cuda

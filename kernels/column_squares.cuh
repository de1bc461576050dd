#pragma once

#include <cuda_runtime_api.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// Operands of column_squares. Device memory, column-major without gaps.
struct ColumnSquares {
  const double* X;      ///< (rows, cols)
  const double* V;      ///< (rows, cols), or null for all 0
  const double* scale;  ///< (cols); not read where V is null
  double* out;          ///< (cols) sum_i (x_ic - v_ic scale_c)^2
  Index rows;
  Index cols;
};

/// Sums of squares by columns, of X or of X - V diag(scale).
///
/// Traffic  8 bytes and 2 flops per entry of X, with V 16 bytes and 4 flops. Memory-bound.
/// Repeat   The same bits every time: one block per column, sums in one fixed order.
void column_squares(const ColumnSquares& step, cudaStream_t stream);

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime_api.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// Operands of gather_columns. Device memory, column-major without gaps.
template <class T>
struct GatherColumns {
  const T* from;       ///< (rows, any)
  const Index* which;  ///< (cols) columns of `from`
  T* to;               ///< (rows, cols)
  Index rows;
  Index cols;
};

/// to[:, c] = from[:, which[c]].
///
/// Traffic  2 * sizeof(T) bytes per entry. Memory-bound.
/// Repeat   The same bits every time: one thread per entry.
template <class T>
void gather_columns(const GatherColumns<T>& step, cudaStream_t stream);

}  // namespace thresher::cuda

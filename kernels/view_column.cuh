#pragma once

#include <cuda_runtime.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// Column b of a column-major view (MatrixView's own members are host code).
template <class T>
__device__ inline T* view_column(const MatrixView<T>& m, Index b) {
  return m.data + b * m.col_stride;
}

}  // namespace thresher::cuda

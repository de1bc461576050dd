#pragma once

#include <cuda_runtime_api.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// sums[e] = partial[e, 0] + partial[e, 1] + ..., chunks ascending; 0 if there are none.
/// partial: (n_sums, n_chunks), column-major. All in device memory.
///
/// Traffic  8 bytes per partial sum.
/// Repeat   The same bits every time: one thread per sum.
void add_chunks(const double* partial, Index n_sums, Index n_chunks, double* sums,
                cudaStream_t stream);

}  // namespace thresher::cuda

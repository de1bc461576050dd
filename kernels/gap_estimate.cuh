#pragma once

#include <cuda_runtime_api.h>

#include "backend/proximal_backend.hpp"

namespace thresher::cuda {

/// ProximalBackend::estimate_gap. All operands, the spans too, are device memory.
///
/// Traffic  10 * sizeof(T) bytes per coefficient: reads grad, step_size, l1 and l2 for the dual
///          scale, then all six matrices for the sum. Memory-bound; needed once in ten iterations.
/// Repeat   The same bits every time: one block per slot.
template <class T>
void estimate_gap(const GapEstimate<T>& estimate, cudaStream_t stream);

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime_api.h>

#include "backend/proximal_backend.hpp"

namespace thresher::cuda {

/// ProximalBackend::curvature. All operands, the spans too, are device memory.
///
/// Traffic  4 * sizeof(T) bytes per entry: reads fitted_next, fitted, fitted_previous and weight.
///          Memory-bound.
/// Repeat   The same bits every time: one block per slot.
template <class T>
void curvature(const Curvature<T>& curvature, cudaStream_t stream);

}  // namespace thresher::cuda

#pragma once

#include <cuda_runtime_api.h>

#include "backend/proximal_backend.hpp"

namespace thresher::cuda {

/// ProximalBackend::correlate without its product: residual and half_loss. All operands, the spans
/// too, are device memory; grad is not touched.
///
/// Traffic  8 * sizeof(T) bytes per entry: reads fitted, fitted_previous, response and weight,
///          writes residual; then reads residual and weight and writes residual again, which mostly
///          hits the cache. Memory-bound.
/// Repeat   The same bits every time: one block per slot.
template <class T>
void residual_step(const Correlate<T>& correlate, cudaStream_t stream);

}  // namespace thresher::cuda

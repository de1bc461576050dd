#pragma once

#include <cuda_runtime_api.h>

#include "backend/proximal_backend.hpp"

namespace thresher::cuda {

/// Values of double that prox_step needs as scratch.
Index prox_step_scratch(Index n_selected, Index n_slots);

/// ProximalBackend::prox_step. All operands, the spans too, are device memory; squared_length
/// follows uphill: squared_length.data() == uphill.data() + n_slots.
///
/// Traffic  8 * sizeof(T) bytes per coefficient: reads coef, previous, grad, step_size, l1 and l2,
///          writes coef and previous. Memory-bound.
/// Repeat   The same bits every time: features in chunks of fixed size, chunks ascending.
template <class T>
void prox_step(const ProxStep<T>& step, double* scratch, cudaStream_t stream);

}  // namespace thresher::cuda

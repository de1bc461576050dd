#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// x_j' W r and x_j' W q, in double from the data, of every feature in the working sets of the
/// round (WorkingSetState::grad, grad_projected). Without projections one product serves both.
/// Only new: those that joined since the Gram matrix was extended.
/// Traffic: 8 n bytes per product. `workers` blocks share a slot.
void working_set_gradient(const WorkingSetState& state, const RoundSlot* round, Index count,
                          bool only_new, Index workers, cudaStream_t stream);

/// The same, read off a product in double with all features (Gram mode, no projections).
void gather_gradient(const WorkingSetState& state, const RoundSlot* round, Index count,
                     const Correlations<double>& correlations, cudaStream_t stream);

}  // namespace thresher::cuda

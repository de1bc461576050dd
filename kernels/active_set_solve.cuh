#pragma once

#include <cstddef>

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Solves every position of the round exactly on its working set at RoundSlot::lambda by the primal
/// active-set method of design section 6 with an explicit inverse, warm-started: the small job, one
/// block per position. Starts from coef and the exact grad there; products within the working set
/// come from its Gram matrix. Leaves coef, active and the inverse; of the report iterations,
/// n_dependent and exact.
///
/// The inverse lives in shared memory while it fits `shared_bytes`, else in global memory.
/// Work: a Newton step is 2 |A|^2 flops and 8 |A|^2 bytes, a change of the active set twice that, a
/// full step 2 |W| |A| flops and 8 |W| |A| bytes more.
void solve_active_sets(const WorkingSetState& state, const RoundSlot* round, Index count,
                       Index max_iterations, std::size_t shared_bytes, cudaStream_t stream);

}  // namespace thresher::cuda

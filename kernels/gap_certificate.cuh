#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// The duality gap of every position of the round over all features (design section 4), from the
/// exact products of its working set and of the features in its mask; sums and counts for the
/// report. Features of the mask beyond rounding join the working set. In double throughout.
/// Traffic: about 24 bytes per feature of the working set and an eighth of a byte per other one,
/// per evaluation of the gap; one evaluation nearly always, at most 62.
void certify_gap(const WorkingSetState& state, const RoundSlot* round, Index count,
                 cudaStream_t stream);

}  // namespace thresher::cuda

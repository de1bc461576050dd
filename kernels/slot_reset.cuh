#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Starting coefficients of newly loaded slots, hat units.
struct SlotStart {
  const Index* offset = nullptr;  // (count + 1): those of position k are offset[k] .. offset[k+1]
  const Index* feature = nullptr;
  const double* value = nullptr;
};

/// Makes the slots of the round empty and gives them their starting coefficients. In Gram mode the
/// working set is every feature, in order; excluded ones stay out of the active set for good.
/// Traffic: p + 13 capacity bytes per slot.
void reset_slots(const WorkingSetState& state, const RoundSlot* round, Index count,
                 const SlotStart& start, cudaStream_t stream);

}  // namespace thresher::cuda

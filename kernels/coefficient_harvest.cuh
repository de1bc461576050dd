#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Non-zero coefficients of every position, ascending by feature: position k's begin at offset[k].
/// offset[k] < 0: not wanted.
/// Traffic: 12 bytes per feature of the working set, 16 per non-zero coefficient.
struct CoefficientHarvest {
  const Index* offset = nullptr;  // (count)
  Index* feature = nullptr;       // out
  double* value = nullptr;        // out, hat units
};

void harvest_coefficients(const WorkingSetState& state, const RoundSlot* round, Index count,
                          const CoefficientHarvest& harvest, cudaStream_t stream);

}  // namespace thresher::cuda

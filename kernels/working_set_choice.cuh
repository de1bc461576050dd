#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Guesses the working sets of the round from the correlations of the last one: features without an
/// L1 term, those that pass the sequential strong rule at RoundSlot::lambda (Tibshirani et al.
/// 2012), and a budget of the next best. What is there stays while there is room.
/// Every pass reads sizeof(T) + 9 bytes per feature; there are at most eight.
template <class T>
void choose_working_set(const WorkingSetState& state, const RoundSlot* round, Index count,
                        const Correlations<T>& correlations, cudaStream_t stream);

}  // namespace thresher::cuda

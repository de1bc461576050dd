#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// For every feature outside the working sets of the round: proves |x_j' W q| <= a_j from the
/// correlations and their bound (design section 6, "certified low precision"),
///
///     |x_j' z - xh_j' zh| <= |x_j - xh_j| |z| + |xh_j| (|z - zh| + (n + 2) u_acc |zh|),
///
/// or computes the product in double. Leaves WorkingSetState::exact and mask: the features that are
/// not inactive. Products in double are taken as they are.
/// Traffic: sizeof(T) + 17 bytes per feature, 8 n more per feature that is not proven.
template <class T>
void prove_inactive(const WorkingSetState& state, const RoundSlot* round, Index count,
                    const Correlations<T>& correlations, cudaStream_t stream);

}  // namespace thresher::cuda

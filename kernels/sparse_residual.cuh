#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Residual of every slot in the round from its sparse coefficients, on all rows, with its weighted
/// forms and sums (WorkingSetState::residual, weighted, projected, sums); and w o q packed for the
/// certification product, one column per slot at RoundSlot::column:
///
///     half    (half_rows, columns)  w o q 2^-z_exponent, rounded; rows past n are 0
///     doubles (n, columns)          w o q
///
/// One of the two is null. Traffic per slot: 8 n bytes per non-zero coefficient and about 80 n
/// more.
void sparse_residual(const WorkingSetState& state, const RoundSlot* round, Index count,
                     __half* half, Index half_rows, double* doubles, cudaStream_t stream);

}  // namespace thresher::cuda

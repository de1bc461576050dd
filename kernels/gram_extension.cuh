#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// Completes the Gram matrix of every working set in the round: products of the features beyond
/// n_gram with all features of the set, columns weighted and centred.
/// Work: 2 n flops per product; a tile reads 2 * 32 columns for 32 * 32 products.
/// `workers` blocks share a slot's tiles.
void extend_gram(const WorkingSetState& state, const RoundSlot* round, Index count, Index workers,
                 cudaStream_t stream);

/// gram (p, p) = X'WX of one weighting: every column weighted and centred is written to `weighted`
/// (n, p), for a matrix product by the caller. Traffic: 16 bytes per entry of X.
void weigh_columns(const WorkingSetState& state, const RowsView& rows, double* weighted,
                   cudaStream_t stream);

}  // namespace thresher::cuda

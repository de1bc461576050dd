#pragma once

#include <cuda_runtime_api.h>

#include "thresher/views.hpp"

namespace thresher::cuda {

/// The direct columns of all slots (ProximalBackend::set_direct): slot b < n_slots owns entries
/// first[b] .. first[b + 1], later slots none. Device memory.
template <class T>
struct DirectColumns {
  const Index* first = nullptr;      ///< (n_slots + 1)
  const Index* position = nullptr;   ///< (entries) among the selected features
  const T* const* values = nullptr;  ///< (entries), each (n_samples)
  Index n_slots = 0;
};

// GEMM uses the shared columns; these put right what direct columns change in its results. Few
// columns are direct, so nothing here is tuned. All of them: the same bits every time, one block
// per slot.

/// shared = coef, with 0 where a column is direct.
///
/// Traffic  2 * sizeof(T) bytes per coefficient. Memory-bound.
template <class T>
void hide_direct(const DirectColumns<T>& direct, const MatrixView<const T>& coef,
                 const MatrixView<T>& shared, cudaStream_t stream);

/// fitted += direct columns times their coefficients, entries ascending.
///
/// Traffic  3 * sizeof(T) bytes per entry of a direct column. Memory-bound.
template <class T>
void add_direct(const DirectColumns<T>& direct, const MatrixView<const T>& coef,
                const MatrixView<T>& fitted, cudaStream_t stream);

/// grad = -(direct column)' residual where a column is direct, summed in double.
///
/// Traffic  2 * sizeof(T) bytes per entry of a direct column. Memory-bound.
template <class T>
void correlate_direct(const DirectColumns<T>& direct, const MatrixView<const T>& residual,
                      const MatrixView<T>& grad, cudaStream_t stream);

}  // namespace thresher::cuda

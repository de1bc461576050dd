#pragma once

// Changing a slot's working set; the whole block calls these.

#include <cuda_runtime.h>

#include "block_sums.cuh"
#include "working_set_state.hpp"

namespace thresher::cuda {

/// WorkingSetState::place.
enum Place : std::uint8_t {
  kOutside = 0,
  kActive = 1,
  kBlocked = 2,   ///< not to be tried again at this lambda
  kChosen = 3,    ///< about to enter
  kExcluded = 4,  ///< Gram mode: never to enter
};

/// Drops every feature of the working set that is not active. Products of those that stay will be
/// computed anew. Only for working sets of their own (not in Gram mode). Returns how many stay.
__device__ inline int keep_active_only(const WorkingSetState& state, Index slot) {
  int* feature = state.feature + slot * state.capacity;
  double* coef = state.coef + slot * state.capacity;
  std::uint8_t* place = state.place + slot * state.capacity;
  int* active = state.active + slot * state.active_capacity;
  double* kept_coef = state.scratch + slot * state.scratch_size;
  int* kept_feature = state.moved + slot * state.capacity;
  const int n_working = state.n_working[slot];
  const int n_active = state.n_active[slot];
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int k = thread; k < n_working; k += threads) {
    state.in_working[slot * state.p + feature[k]] = 0;
  }
  for (int k = thread; k < n_active; k += threads) {
    kept_coef[k] = coef[active[k]];
    kept_feature[k] = feature[active[k]];
  }
  __syncthreads();
  for (int k = thread; k < n_working; k += threads) {
    coef[k] = k < n_active ? kept_coef[k] : 0.0;
    place[k] = k < n_active ? kActive : kOutside;
  }
  for (int k = thread; k < n_active; k += threads) {
    feature[k] = kept_feature[k];
    active[k] = k;
    state.in_working[slot * state.p + kept_feature[k]] = 1;
  }
  if (thread == 0) {
    state.n_working[slot] = n_active;
    state.n_gram[slot] = 0;
  }
  __syncthreads();
  return n_active;
}

/// Appends feature j, which is not in the working set, at place k.
__device__ inline void put_feature(const WorkingSetState& state, Index slot, int k, Index j) {
  state.feature[slot * state.capacity + k] = static_cast<int>(j);
  state.coef[slot * state.capacity + k] = 0.0;
  state.place[slot * state.capacity + k] = kOutside;
  state.in_working[slot * state.p + j] = 1;
}

}  // namespace thresher::cuda

#include "prox_step.cuh"

#include "block_sums.cuh"
#include "chunk_sums.cuh"
#include "launch.cuh"
#include "prox.hpp"
#include "shared_array.cuh"
#include "view_column.cuh"

namespace thresher::cuda {
namespace {

// Both untuned: no GPU has run it yet.
constexpr unsigned kMostProxThreads = block_threads(256);
constexpr Index kChunk = 1024;  // features of a block

// Block (x, y) updates chunk x of slots y, y + gridDim.y, ... Neighbouring threads touch
// neighbouring features.
template <class T>
__global__ void __launch_bounds__(kMostProxThreads)
    prox_step_kernel(ProxStep<T> step, const T* momentum, double* partial) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  const Index n_slots = step.coef.cols;
  const Index first = blockIdx.x * kChunk + threadIdx.x;
  const Index last = min((blockIdx.x + 1) * kChunk, step.coef.rows);
  for (Index b = blockIdx.y; b < n_slots; b += gridDim.y) {
    T* coef = view_column(step.coef, b);
    T* previous = view_column(step.previous, b);
    const T* grad = view_column(step.grad, b);
    const T* step_size = view_column(step.step_size, b);
    const T* l1 = view_column(step.l1, b);
    const T* l2 = view_column(step.l2, b);
    double uphill = 0.0, squared_length = 0.0;
    for (Index j = first; j < last; j += blockDim.x) {
      const T size = step_size[j];
      if (size == T(0)) continue;
      const T now = coef[j];
      const T z = now + momentum[b] * (now - previous[j]);
      const T next = prox_elastic_net(z - size * grad[j], size, l1[j], l2[j]);
      const double move = static_cast<double>(next) - static_cast<double>(z);
      const double scaled = move / static_cast<double>(size);
      uphill -= scaled * (static_cast<double>(next) - static_cast<double>(now));
      squared_length += scaled * move;
      previous[j] = now;
      coef[j] = next;
    }
    uphill = block_sum(uphill, scratch);
    squared_length = block_sum(squared_length, scratch);
    if (threadIdx.x == 0) {
      double* out = partial + blockIdx.x * (2 * n_slots);
      out[b] = uphill;
      out[n_slots + b] = squared_length;
    }
  }
}

}  // namespace

Index prox_step_scratch(Index n_selected, Index n_slots) {
  return 2 * n_slots * blocks_for(n_selected, kChunk);
}

template <class T>
void prox_step(const ProxStep<T>& step, double* scratch, cudaStream_t stream) {
  const Index n_slots = step.coef.cols;
  const Index n_chunks = blocks_for(step.coef.rows, kChunk);
  launch("prox_step_kernel", prox_step_kernel<T>,
         {dim3(grid_x(n_chunks), grid_y(n_slots)), threads_for(step.coef.rows, kMostProxThreads)},
         stream, step, step.momentum.data(), scratch);
  add_chunks(scratch, 2 * n_slots, n_chunks, step.uphill.data(), stream);
}

template void prox_step(const ProxStep<float>&, double*, cudaStream_t);
template void prox_step(const ProxStep<double>&, double*, cudaStream_t);

}  // namespace thresher::cuda

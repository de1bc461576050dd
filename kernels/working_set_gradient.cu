#include "working_set_gradient.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "warp_products.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kGradientThreads = block_threads(256);  // untuned: no GPU has run this yet

// Block (worker, position); one warp per feature.
__global__ void __launch_bounds__(kGradientThreads)
    working_set_gradient_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                                bool only_new) {
  const unsigned lane = threadIdx.x % kWarpSize;
  const int first =
      static_cast<int>(blockIdx.x * (kGradientThreads / kWarpSize) + threadIdx.x / kWarpSize);
  const int step = static_cast<int>(gridDim.x * (kGradientThreads / kWarpSize));
  for (Index position = blockIdx.y; position < count; position += gridDim.y) {
    const Index slot = round[position].slot;
    const ProblemView& problem = state.problem[slot];
    const int* feature = state.feature + slot * state.capacity;
    const bool projections = state.grad_projected != state.grad;
    const int start = only_new ? state.n_gram[slot] : 0;
    for (int k = start + first; k < state.n_working[slot]; k += step) {
      const ColumnView x = column_view(state, problem.rows, feature[k]);
      const double g = warp_product(state.n, x.values, state.weighted + slot * state.n);
      if (lane == 0) state.grad[slot * state.capacity + k] = g;
      if (!projections) continue;
      const double gq =
          problem.rank == 0 ? g : warp_product(state.n, x.values, state.projected + slot * state.n);
      if (lane == 0) state.grad_projected[slot * state.capacity + k] = gq;
    }
  }
}

// Thread per feature of the working set.
__global__ void __launch_bounds__(kGradientThreads)
    gather_gradient_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                           Correlations<double> correlations) {
  for (Index position = blockIdx.y; position < count; position += gridDim.y) {
    const Index slot = round[position].slot;
    const int* feature = state.feature + slot * state.capacity;
    for (Index k = blockIdx.x * Index{kGradientThreads} + threadIdx.x; k < state.n_working[slot];
         k += gridDim.x * Index{kGradientThreads}) {
      state.grad[slot * state.capacity + k] =
          correlations.values[round[position].column * state.p + feature[k]];
    }
  }
}

}  // namespace

void working_set_gradient(const WorkingSetState& state, const RoundSlot* round, Index count,
                          bool only_new, Index workers, cudaStream_t stream) {
  launch("working_set_gradient_kernel", working_set_gradient_kernel,
         {dim3(grid_x(workers), grid_y(count)), kGradientThreads}, stream, state, round, count,
         only_new);
}

void gather_gradient(const WorkingSetState& state, const RoundSlot* round, Index count,
                     const Correlations<double>& correlations, cudaStream_t stream) {
  launch(
      "gather_gradient_kernel", gather_gradient_kernel,
      {dim3(grid_x(blocks_for(state.capacity, kGradientThreads)), grid_y(count)), kGradientThreads},
      stream, state, round, count, correlations);
}

}  // namespace thresher::cuda

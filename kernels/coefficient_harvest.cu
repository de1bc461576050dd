#include "coefficient_harvest.cuh"

#include "block_sums.cuh"
#include "launch.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kHarvestThreads = block_threads(256);  // untuned: no GPU has run this yet

// One block per position; a thread finds the rank of its coefficient among the active features by
// counting smaller ones (quadratic in the support, which is short and in the cache).
__global__ void __launch_bounds__(kHarvestThreads)
    harvest_coefficients_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                                CoefficientHarvest harvest) {
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const Index offset = harvest.offset[position];
    if (offset < 0) continue;
    const Index slot = round[position].slot;
    const int* feature = state.feature + slot * state.capacity;
    const double* coef = state.coef + slot * state.capacity;
    const int* active = state.active + slot * state.active_capacity;
    const int n_active = state.n_active[slot];
    for (int k = static_cast<int>(threadIdx.x); k < n_active;
         k += static_cast<int>(kHarvestThreads)) {
      const double value = coef[active[k]];
      if (value == 0.0) continue;
      const int own = feature[active[k]];
      Index rank = 0;
      for (int m = 0; m < n_active; ++m) {
        if (feature[active[m]] < own && coef[active[m]] != 0.0) ++rank;
      }
      harvest.feature[offset + rank] = own;
      harvest.value[offset + rank] = value;
    }
  }
}

}  // namespace

void harvest_coefficients(const WorkingSetState& state, const RoundSlot* round, Index count,
                          const CoefficientHarvest& harvest, cudaStream_t stream) {
  launch("harvest_coefficients_kernel", harvest_coefficients_kernel,
         {dim3(grid_x(count)), kHarvestThreads}, stream, state, round, count, harvest);
}

}  // namespace thresher::cuda

#include "slot_reset.cuh"

#include "launch.cuh"
#include "working_set_places.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kResetThreads = block_threads(256);  // untuned: no GPU has run this yet

// One block per position.
__global__ void __launch_bounds__(kResetThreads)
    reset_slots_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                       SlotStart start) {
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const Index slot = round[position].slot;
    const bool gram_mode = state.gram == nullptr;
    const Index n_start = start.offset[position + 1] - start.offset[position];
    for (Index j = threadIdx.x; j < state.p; j += kResetThreads) {
      state.in_working[slot * state.p + j] = gram_mode ? 1 : 0;
    }
    for (Index k = threadIdx.x; k < state.capacity; k += kResetThreads) {
      state.feature[slot * state.capacity + k] = gram_mode ? static_cast<int>(k) : 0;
      state.coef[slot * state.capacity + k] = 0.0;
      state.place[slot * state.capacity + k] =
          gram_mode && state.problem[slot].factors.excluded[k] != 0 ? kExcluded : kOutside;
    }
    __syncthreads();
    for (Index k = threadIdx.x; k < n_start; k += kResetThreads) {
      const Index j = start.feature[start.offset[position] + k];
      if (!gram_mode) put_feature(state, slot, static_cast<int>(k), j);
      state.coef[slot * state.capacity + (gram_mode ? j : k)] =
          start.value[start.offset[position] + k];
    }
    if (threadIdx.x == 0) {
      state.n_working[slot] = static_cast<int>(gram_mode ? state.p : n_start);
      state.n_gram[slot] = static_cast<int>(gram_mode ? state.p : 0);
      state.n_active[slot] = 0;
    }
    __syncthreads();
  }
}

}  // namespace

void reset_slots(const WorkingSetState& state, const RoundSlot* round, Index count,
                 const SlotStart& start, cudaStream_t stream) {
  launch("reset_slots_kernel", reset_slots_kernel, {dim3(grid_x(count)), kResetThreads}, stream,
         state, round, count, start);
}

}  // namespace thresher::cuda

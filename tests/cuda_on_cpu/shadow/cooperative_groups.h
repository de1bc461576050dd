// Found before the toolkit's header of the same name: blocks, tiles of a warp, the grid.
#pragma once
#include <cuda_runtime.h>

namespace cooperative_groups {

class thread_block {
 public:
  void sync(THRESHER_EMULATOR_SITE) const { __syncthreads(site); }
  unsigned thread_rank() const {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  unsigned size() const { return blockDim.x * blockDim.y * blockDim.z; }
  unsigned num_threads() const { return size(); }
};
inline thread_block this_thread_block() { return {}; }

template <unsigned kSize>
class thread_block_tile {
  static_assert(kSize >= 1 && kSize <= 32 && (kSize & (kSize - 1)) == 0);

 public:
  unsigned thread_rank() const { return ::thresher::emulator::lane_id() % kSize; }
  static constexpr unsigned size() { return kSize; }
  static constexpr unsigned num_threads() { return kSize; }
  unsigned meta_group_rank() const { return this_thread_block().thread_rank() / kSize; }
  unsigned meta_group_size() const { return (this_thread_block().size() + kSize - 1) / kSize; }
  void sync(THRESHER_EMULATOR_SITE) const { __syncwarp(mask(), site); }
  template <class T>
  T shfl(T value, unsigned source, THRESHER_EMULATOR_SITE) const {
    return __shfl_sync(mask(), value, static_cast<int>(source), kSize, site);
  }
  template <class T>
  T shfl_down(T value, unsigned offset, THRESHER_EMULATOR_SITE) const {
    return __shfl_down_sync(mask(), value, offset, kSize, site);
  }
  template <class T>
  T shfl_up(T value, unsigned offset, THRESHER_EMULATOR_SITE) const {
    return __shfl_up_sync(mask(), value, offset, kSize, site);
  }
  template <class T>
  T shfl_xor(T value, unsigned bits, THRESHER_EMULATOR_SITE) const {
    return __shfl_xor_sync(mask(), value, static_cast<int>(bits), kSize, site);
  }
  unsigned ballot(int predicate, THRESHER_EMULATOR_SITE) const {
    return __ballot_sync(mask(), predicate, site) >> first_lane();
  }
  int any(int predicate, THRESHER_EMULATOR_SITE) const {
    return __any_sync(mask(), predicate, site);
  }
  int all(int predicate, THRESHER_EMULATOR_SITE) const {
    return __all_sync(mask(), predicate, site);
  }

 private:
  static unsigned first_lane() { return ::thresher::emulator::lane_id() / kSize * kSize; }
  static unsigned mask() { return (0xffffffffu >> (32 - kSize)) << first_lane(); }
};

template <unsigned kSize>
thread_block_tile<kSize> tiled_partition(const thread_block&) {
  return {};
}

class grid_group {
 public:
  void sync() const { ::thresher::emulator::grid_barrier(); }
  bool is_valid() const { return ::thresher::emulator::grid_is_cooperative(); }
};
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups

#include "planted_faults.cuh"

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kLanes = 32;
constexpr unsigned kAll = 0xffffffffu;

__device__ float sum_of_warp(float v) {
  for (unsigned offset = kLanes / 2; offset > 0; offset /= 2) {
    v += __shfl_down_sync(kAll, v, offset);
  }
  return v;
}

template <Fault kFault>
__device__ float sum_of_block(float v, float* scratch) {
  const unsigned lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  v = sum_of_warp(v);
  if (lane == 0) scratch[warp] = v;
  if constexpr (kFault != Fault::kNoBarrierAfterWrite) __syncthreads();
  if (warp == 0) {
    const bool exists = kFault == Fault::kUninitialisedShared || lane < blockDim.x / kLanes;
    v = sum_of_warp(exists ? scratch[lane] : 0.0f);
    if (lane == 0) scratch[0] = v;
  }
  __syncthreads();
  const float sum = scratch[0];
  if constexpr (kFault != Fault::kNoBarrierBeforeReuse) __syncthreads();
  return sum;
}

// The column's sum is taken twice over, so that scratch is reused.
template <Fault kFault>
__global__ void column_sums_kernel(const float* x, Index n, float* sums) {
  THRESHER_SHARED_ARRAY(float, scratch, kLanes);
  const float* column = x + blockIdx.x * n;
  if (kFault == Fault::kExitBeforeBarrier && threadIdx.x >= kFaultThreads / 2) return;
  float partial = 0.0f;
  for (Index i = threadIdx.x; i < n; i += blockDim.x) partial += column[i];
  const float first = sum_of_block<kFault>(partial, scratch);
  const float second = sum_of_block<kFault>(partial + first / kFaultThreads, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = second - first;
}

template <Fault kFault>
__global__ void add_one_kernel(const float* x, float* y, Index n) {
  const Index i = blockIdx.x * Index{blockDim.x} + threadIdx.x;
  if (kFault == Fault::kSameLocation || kFault == Fault::kBetweenBlocks) {
    if (kFault == Fault::kSameLocation || threadIdx.x == 0) y[0] = x[0] + 1.0f;
    return;
  }
  if (kFault == Fault::kReadPastEnd && i == n) y[0] = x[n];
  if (kFault == Fault::kWritePastEnd && i == n) y[n] = 1.0f;
  if (kFault == Fault::kWriteBelowStart && i == 0) y[-1] = 1.0f;
  if (kFault == Fault::kTrap && i == n) __trap();
  if (i < n) y[i] = x[i] + 1.0f;
}

template <Fault kFault>
__global__ void exchange_kernel(const float* x, float* y) {
  THRESHER_SHARED_ARRAY(float, tile, kFaultThreads);
  const unsigned i = threadIdx.x, lane = i % kLanes;
  if (kFault == Fault::kBarrierInBothArms) {
    if (i % 2 == 0) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (kFault == Fault::kHalfWarpShuffle && lane < kLanes / 2) {
    y[i] = __shfl_xor_sync(kAll, x[i], 1);
    return;
  }
  if (kFault == Fault::kShuffleOutsideMask) {
    y[i] = __shfl_xor_sync(0xffffu, x[i], 1);
    return;
  }
  if (kFault == Fault::kNeighbourRace) {
    y[i] = x[i];
    y[i] = y[(i + 1) % kFaultThreads];
    return;
  }
  tile[i] = x[i];
  if (kFault != Fault::kLockStep) __syncwarp();
  y[i] = tile[i - lane + (kLanes - 1 - lane)];
  if (kFault == Fault::kSharedPastEnd && i == 0) y[0] = tile[blockDim.x];
}

__global__ void far_writes_kernel(bool narrow_index, float* y, Index ld) {
  const unsigned narrow = blockIdx.x * static_cast<unsigned>(ld);
  y[narrow_index ? narrow : blockIdx.x * ld] = static_cast<float>(blockIdx.x);
}

__global__ void shared_kernel(Index bytes, float* y) {
  char* shared = dynamic_shared<char>();
  for (Index i = threadIdx.x; i < bytes; i += blockDim.x) shared[i] = 1;
  __syncthreads();
  if (threadIdx.x == 0) *y = shared[bytes - 1];
}

__global__ void atomics_kernel(const float* x, Index n, unsigned long long* counts,
                               double* values) {
  const Index i = blockIdx.x * Index{blockDim.x} + threadIdx.x;
  const float v = i < n ? x[i] : 0.0f;
  if (v > 0.0f) {
    atomicAdd(&counts[0], 1ull);
    atomicAdd(&values[0], static_cast<double>(v));
  }
  const unsigned positive = __ballot_sync(kAll, v > 0.0f);
  if (threadIdx.x % kLanes == 0) {
    atomicAdd(&counts[1], static_cast<unsigned long long>(__popc(positive)));
  }
  atomicMax(&counts[2], static_cast<unsigned long long>(v < 0.0f ? -v : 0.0f));
}

__global__ void grid_sum_kernel(const float* x, float* partial, float* sums) {
  namespace cg = cooperative_groups;
  const auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  float v = x[blockIdx.x * kLanes + threadIdx.x];
  for (unsigned bits = tile.size() / 2; bits > 0; bits /= 2) v += tile.shfl_xor(v, bits);
  if (tile.thread_rank() == 0) {
    partial[blockIdx.x * tile.meta_group_size() + tile.meta_group_rank()] = v;
  }
  cg::this_grid().sync();
  if (threadIdx.x > 0) return;
  float sum = 0.0f;
  for (unsigned i = 0; i < gridDim.x * tile.meta_group_size(); ++i) sum += partial[i];
  sums[blockIdx.x] = sum;
}

template <Fault kFault>
__global__ void __launch_bounds__(kFaultThreads) clear_marks_kernel(std::uint8_t* marks, Index n) {
  const Index i = threadIdx.x;
  if (i >= n) return;
  const bool next_too = kFault == Fault::kNeighbourRace && i + 1 < n;
  if ((next_too && marks[i + 1] == 3) || marks[i] == 2) marks[i] = 0;
}

}  // namespace

void launch_column_sums(Fault fault, const float* x, Index n, Index n_columns, float* sums,
                        cudaStream_t stream) {
  const Grid grid{dim3(grid_x(n_columns)), kFaultThreads};
  const auto go = [&](auto kernel) { launch("column_sums", kernel, grid, stream, x, n, sums); };
  switch (fault) {
    case Fault::kNoBarrierAfterWrite:
      return go(column_sums_kernel<Fault::kNoBarrierAfterWrite>);
    case Fault::kNoBarrierBeforeReuse:
      return go(column_sums_kernel<Fault::kNoBarrierBeforeReuse>);
    case Fault::kUninitialisedShared:
      return go(column_sums_kernel<Fault::kUninitialisedShared>);
    case Fault::kExitBeforeBarrier:
      return go(column_sums_kernel<Fault::kExitBeforeBarrier>);
    default:
      return go(column_sums_kernel<Fault::kNone>);
  }
}

void launch_add_one(Fault fault, const float* x, float* y, Index n, cudaStream_t stream) {
  const Grid grid{dim3(grid_x(blocks_for(n + 1, kFaultThreads))), kFaultThreads};
  const auto go = [&](auto kernel) { launch("add_one", kernel, grid, stream, x, y, n); };
  switch (fault) {
    case Fault::kReadPastEnd:
      return go(add_one_kernel<Fault::kReadPastEnd>);
    case Fault::kWritePastEnd:
      return go(add_one_kernel<Fault::kWritePastEnd>);
    case Fault::kWriteBelowStart:
      return go(add_one_kernel<Fault::kWriteBelowStart>);
    case Fault::kSameLocation:
      return go(add_one_kernel<Fault::kSameLocation>);
    case Fault::kBetweenBlocks:
      return go(add_one_kernel<Fault::kBetweenBlocks>);
    case Fault::kTrap:
      return go(add_one_kernel<Fault::kTrap>);
    default:
      return go(add_one_kernel<Fault::kNone>);
  }
}

void launch_exchange(Fault fault, const float* x, float* y, cudaStream_t stream) {
  const Grid grid{dim3(1), kFaultThreads};
  const auto go = [&](auto kernel) { launch("exchange", kernel, grid, stream, x, y); };
  switch (fault) {
    case Fault::kBarrierInBothArms:
      return go(exchange_kernel<Fault::kBarrierInBothArms>);
    case Fault::kHalfWarpShuffle:
      return go(exchange_kernel<Fault::kHalfWarpShuffle>);
    case Fault::kShuffleOutsideMask:
      return go(exchange_kernel<Fault::kShuffleOutsideMask>);
    case Fault::kLockStep:
      return go(exchange_kernel<Fault::kLockStep>);
    case Fault::kNeighbourRace:
      return go(exchange_kernel<Fault::kNeighbourRace>);
    case Fault::kSharedPastEnd:
      return go(exchange_kernel<Fault::kSharedPastEnd>);
    default:
      return go(exchange_kernel<Fault::kNone>);
  }
}

void launch_clear_marks(Fault fault, std::uint8_t* marks, Index n, cudaStream_t stream) {
  const Grid grid{dim3(1), kFaultThreads};
  const auto go = [&](auto kernel) { launch("clear_marks", kernel, grid, stream, marks, n); };
  if (fault == Fault::kNeighbourRace) return go(clear_marks_kernel<Fault::kNeighbourRace>);
  go(clear_marks_kernel<Fault::kNone>);
}

void launch_far_writes(bool narrow_index, float* y, Index ld, Index n_columns,
                       cudaStream_t stream) {
  launch("far_writes", far_writes_kernel, {dim3(grid_x(n_columns)), 1}, stream, narrow_index, y,
         ld);
}

void launch_with_shared(bool ask, Index bytes, unsigned threads, float* y, cudaStream_t stream) {
  const auto size = static_cast<std::size_t>(bytes);
  if (ask) allow_shared("shared_kernel", shared_kernel, size);
  launch("shared_kernel", shared_kernel, {dim3(1), threads, size}, stream, bytes, y);
}

void launch_atomics(const float* x, Index n, unsigned long long* counts, double* values,
                    cudaStream_t stream) {
  launch("atomics", atomics_kernel, {dim3(grid_x(blocks_for(n, kFaultThreads))), kFaultThreads},
         stream, x, n, counts, values);
}

void launch_grid_sum(bool cooperative, const float* x, unsigned n_blocks, float* partial,
                     float* sums, cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(n_blocks);
  config.blockDim = dim3(kLanes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, grid_sum_kernel, x, partial, sums), "grid_sum");
}

}  // namespace thresher::cuda

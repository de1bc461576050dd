#include "gram_extension.cuh"

#include "launch.cuh"
#include "problem_terms.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr int kTile = 32;  // features on each side of a tile, and rows taken at a time
constexpr unsigned kExtensionThreads = block_threads(256);  // untuned: no GPU has run this yet
constexpr int kRowsOfThread = kTile * kTile / static_cast<int>(kExtensionThreads);

// A tile's columns for rows [first, first + kTile): part[column * (kTile + 1) + row]. A thread
// loads one row of every eighth column, so that neighbouring threads read neighbouring rows.
__device__ void load_tile(const WorkingSetState& state, const RowsView& rows, const int* feature,
                          int column_first, int column_end, Index row_first, double* part) {
  const int row = static_cast<int>(threadIdx.x) % kTile;
  const Index i = row_first + row;
  const double w = i < state.n ? rows.root_weight[i] : 0.0;
  for (int c = static_cast<int>(threadIdx.x) / kTile; c < kTile;
       c += static_cast<int>(kExtensionThreads) / kTile) {
    double value = 0.0;
    if (column_first + c < column_end && w > 0.0) {
      const ColumnView x = column_view(state, rows, feature[column_first + c]);
      value = w * (x.values[i] - x.mean);
    }
    part[c * (kTile + 1) + row] = value;
  }
}

// Block (worker, position): worker takes every gridDim.x-th tile of the slot.
__global__ void __launch_bounds__(kExtensionThreads)
    extend_gram_kernel(WorkingSetState state, const RoundSlot* round, Index count) {
  THRESHER_SHARED_ARRAY(double, left, kTile*(kTile + 1));
  THRESHER_SHARED_ARRAY(double, right, kTile*(kTile + 1));
  for (Index position = blockIdx.y; position < count; position += gridDim.y) {
    const Index slot = round[position].slot;
    const ProblemView& problem = state.problem[slot];
    const int* feature = state.feature + slot * state.capacity;
    double* gram = state.gram + slot * state.capacity * state.capacity;
    const int n_working = state.n_working[slot];
    const int n_old = state.n_gram[slot];
    const int tiles_down = (n_working + kTile - 1) / kTile;
    const int tiles_across = (n_working - n_old + kTile - 1) / kTile;
    for (int tile = static_cast<int>(blockIdx.x); tile < tiles_down * tiles_across;
         tile += static_cast<int>(gridDim.x)) {
      const int row_first = tile % tiles_down * kTile;
      const int column_first = n_old + tile / tiles_down * kTile;
      double sums[kRowsOfThread] = {};
      const int c = static_cast<int>(threadIdx.x) / kTile;  // + 8 k below: column of the tile
      const int r = static_cast<int>(threadIdx.x) % kTile;  // row of the tile
      for (Index i = 0; i < state.n; i += kTile) {
        load_tile(state, problem.rows, feature, row_first, n_working, i, left);
        load_tile(state, problem.rows, feature, column_first, n_working, i, right);
        __syncthreads();
        for (int k = 0; k < kTile; ++k) {
          const double x = left[r * (kTile + 1) + k];
          for (int m = 0; m < kRowsOfThread; ++m) {
            sums[m] += x * right[(c + m * (kTile / kRowsOfThread)) * (kTile + 1) + k];
          }
        }
        __syncthreads();
      }
      for (int m = 0; m < kRowsOfThread; ++m) {
        const int row = row_first + r;
        const int column = column_first + c + m * (kTile / kRowsOfThread);
        if (row >= n_working || column >= n_working) continue;
        gram[Index{column} * state.capacity + row] = sums[m];
        // The mirror image, unless a tile of its own computes it.
        if (row < n_old) gram[Index{row} * state.capacity + column] = sums[m];
      }
    }
  }
}

// One block per column.
__global__ void __launch_bounds__(kExtensionThreads)
    weigh_columns_kernel(WorkingSetState state, RowsView rows, double* weighted) {
  for (Index j = blockIdx.x; j < state.p; j += gridDim.x) {
    const ColumnView x = column_view(state, rows, j);
    for (Index i = threadIdx.x; i < state.n; i += kExtensionThreads) {
      const double w = rows.root_weight[i];
      weighted[j * state.n + i] = w > 0.0 ? w * (x.values[i] - x.mean) : 0.0;
    }
  }
}

}  // namespace

void extend_gram(const WorkingSetState& state, const RoundSlot* round, Index count, Index workers,
                 cudaStream_t stream) {
  launch("extend_gram_kernel", extend_gram_kernel,
         {dim3(grid_x(workers), grid_y(count)), kExtensionThreads}, stream, state, round, count);
}

void weigh_columns(const WorkingSetState& state, const RowsView& rows, double* weighted,
                   cudaStream_t stream) {
  launch("weigh_columns_kernel", weigh_columns_kernel, {dim3(grid_x(state.p)), kExtensionThreads},
         stream, state, rows, weighted);
}

}  // namespace thresher::cuda

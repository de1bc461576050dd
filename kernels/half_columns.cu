#include "half_columns.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kHalfThreads = block_threads(256);  // untuned: no GPU has run this yet

// One block per column; neighbouring threads read neighbouring rows.
__global__ void __launch_bounds__(kHalfThreads)
    round_columns_kernel(HalfColumns columns, Index first, Index count) {
  THRESHER_SHARED_ARRAY(double, sums, kMostWarps);
  for (Index k = blockIdx.x; k < count; k += gridDim.x) {
    const Index j = first + k;
    const double* x = columns.X + j * columns.n;
    double squares = 0.0, lost = 0.0, kept = 0.0;
    for (Index i = threadIdx.x; i < columns.padded; i += kHalfThreads) {
      const double value = i < columns.n ? x[i] : 0.0;
      squares += value * value;
      if (columns.half == nullptr) continue;
      const __half rounded = __float2half_rn(static_cast<float>(value));
      columns.half[j * columns.padded + i] = rounded;
      const double back = static_cast<double>(__half2float(rounded));
      lost += (value - back) * (value - back);
      kept += back * back;
    }
    squares = block_sum(squares, sums);
    lost = block_sum(lost, sums);
    kept = block_sum(kept, sums);
    if (threadIdx.x == 0) {
      columns.norm[j] = norm_rounded_up(squares);
      if (columns.half != nullptr) {
        columns.half_error[j] = norm_rounded_up(lost);
        columns.half_norm[j] = norm_rounded_up(kept);
      }
    }
  }
}

}  // namespace

void round_columns(const HalfColumns& columns, Index first, Index count, cudaStream_t stream) {
  launch("round_columns_kernel", round_columns_kernel, {dim3(grid_x(count)), kHalfThreads}, stream,
         columns, first, count);
}

}  // namespace thresher::cuda

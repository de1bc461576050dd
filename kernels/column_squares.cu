#include "column_squares.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kSquaresThreads = block_threads(256);  // untuned: no GPU has run it yet

// A block takes a column, its threads every kSquaresThreads-th entry.
__global__ void __launch_bounds__(kSquaresThreads) column_squares_kernel(ColumnSquares step) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  for (Index c = blockIdx.x; c < step.cols; c += gridDim.x) {
    const double* x = step.X + c * step.rows;
    double sum = 0.0;
    if (step.V == nullptr) {
      for (Index i = threadIdx.x; i < step.rows; i += kSquaresThreads) sum += x[i] * x[i];
    } else {
      const double* v = step.V + c * step.rows;
      const double scale = step.scale[c];
      for (Index i = threadIdx.x; i < step.rows; i += kSquaresThreads) {
        const double d = x[i] - v[i] * scale;
        sum += d * d;
      }
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) step.out[c] = sum;
  }
}

}  // namespace

void column_squares(const ColumnSquares& step, cudaStream_t stream) {
  launch("column_squares_kernel", column_squares_kernel, {dim3(grid_x(step.cols)), kSquaresThreads},
         stream, step);
}

}  // namespace thresher::cuda

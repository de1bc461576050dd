#include "curvature.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"
#include "view_column.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kMostCurvatureThreads = block_threads(512);  // untuned: no GPU has run it yet

// Block x serves slots x, x + gridDim.x, ...; its threads stride over the rows.
template <class T>
__global__ void __launch_bounds__(kMostCurvatureThreads)
    curvature_kernel(Curvature<T> curvature, const T* momentum, double* squared_change,
                     double* squared_size) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  const Index n = curvature.fitted_next.rows;
  for (Index b = blockIdx.x; b < curvature.fitted_next.cols; b += gridDim.x) {
    const T* next = view_column(curvature.fitted_next, b);
    const T* fitted = view_column(curvature.fitted, b);
    const T* previous = view_column(curvature.fitted_previous, b);
    const T* weight = view_column(curvature.weight, b);
    double sum = 0.0, square = 0.0, size = 0.0;
    for (Index i = threadIdx.x; i < n; i += blockDim.x) {
      const double w = static_cast<double>(weight[i]);
      const double to = static_cast<double>(next[i]);
      const double change =
          static_cast<double>(next[i] - (fitted[i] + momentum[b] * (fitted[i] - previous[i])));
      sum += w * change;
      square += w * change * change;
      size += w * to * to;
    }
    sum = block_sum(sum, scratch);
    square = block_sum(square, scratch);
    size = block_sum(size, scratch);
    if (threadIdx.x == 0) {
      // The weights sum to 1, so this is the weighted variance of the change.
      squared_change[b] = curvature.intercept ? square - sum * sum : square;
      squared_size[b] = size;
    }
  }
}

}  // namespace

template <class T>
void curvature(const Curvature<T>& curvature, cudaStream_t stream) {
  launch("curvature_kernel", curvature_kernel<T>,
         {dim3(grid_x(curvature.fitted_next.cols)),
          threads_for(curvature.fitted_next.rows, kMostCurvatureThreads)},
         stream, curvature, curvature.momentum.data(), curvature.squared_change.data(),
         curvature.squared_size.data());
}

template void curvature(const Curvature<float>&, cudaStream_t);
template void curvature(const Curvature<double>&, cudaStream_t);

}  // namespace thresher::cuda

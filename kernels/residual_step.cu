#include "residual_step.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"
#include "view_column.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kMostResidualThreads = block_threads(512);  // untuned: no GPU has run it yet

// Block x serves slots x, x + gridDim.x, ...; its threads stride over the rows, each over its own.
template <class T>
__global__ void __launch_bounds__(kMostResidualThreads)
    residual_step_kernel(Correlate<T> correlate, const T* momentum, double* half_loss) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  const Index n = correlate.fitted.rows;
  for (Index b = blockIdx.x; b < correlate.fitted.cols; b += gridDim.x) {
    const T* fitted = view_column(correlate.fitted, b);
    const T* previous = view_column(correlate.fitted_previous, b);
    const T* response = view_column(correlate.response, b);
    const T* weight = view_column(correlate.weight, b);
    T* residual = view_column(correlate.residual, b);
    double mean = 0.0;
    for (Index i = threadIdx.x; i < n; i += blockDim.x) {
      const T r = response[i] - (fitted[i] + momentum[b] * (fitted[i] - previous[i]));
      residual[i] = r;
      mean += static_cast<double>(weight[i]) * static_cast<double>(r);
    }
    mean = block_sum(mean, scratch);
    if (!correlate.intercept) mean = 0.0;
    double loss = 0.0;
    for (Index i = threadIdx.x; i < n; i += blockDim.x) {
      const T r = static_cast<T>(static_cast<double>(residual[i]) - mean);
      const T weighted = weight[i] * r;
      residual[i] = weighted;
      loss += static_cast<double>(weighted) * static_cast<double>(r);
    }
    loss = block_sum(loss, scratch);
    if (threadIdx.x == 0) half_loss[b] = 0.5 * loss;
  }
}

}  // namespace

template <class T>
void residual_step(const Correlate<T>& correlate, cudaStream_t stream) {
  launch("residual_step_kernel", residual_step_kernel<T>,
         {dim3(grid_x(correlate.fitted.cols)),
          threads_for(correlate.fitted.rows, kMostResidualThreads)},
         stream, correlate, correlate.momentum.data(), correlate.half_loss.data());
}

template void residual_step(const Correlate<float>&, cudaStream_t);
template void residual_step(const Correlate<double>&, cudaStream_t);

}  // namespace thresher::cuda

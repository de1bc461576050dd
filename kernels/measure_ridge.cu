#include "measure_ridge.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kMeasureThreads = block_threads(256);  // untuned: no GPU has run it yet

// A block takes a column, its threads every kMeasureThreads-th entry.
__global__ void __launch_bounds__(kMeasureThreads) measure_ridge_kernel(MeasureRidge step) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  for (Index c = blockIdx.x; c < step.count; c += gridDim.x) {
    const double lambda = step.lambda[c];
    const double* r = step.R + c * step.m;
    const double* beta = step.beta + c * step.p;
    double* gradient = step.gradient != nullptr ? step.gradient + c * step.p : nullptr;
    double residual = 0.0, penalty = 0.0, gap = 0.0;
    for (Index i = threadIdx.x; i < step.m; i += kMeasureThreads) residual += r[i] * r[i];
    for (Index j = threadIdx.x; j < step.p; j += kMeasureThreads) {
      const double e = lambda + (step.delta != nullptr ? step.delta[j] : 0.0);
      penalty += 0.5 * e * beta[j] * beta[j];
      if (gradient == nullptr) continue;
      const double g = gradient[j] - e * beta[j];
      gradient[j] = g;
      if (lambda > 0.0) gap += g * g / (2.0 * e);
    }
    residual = block_sum(residual, scratch);
    penalty = block_sum(penalty, scratch);
    gap = block_sum(gap, scratch);
    if (threadIdx.x == 0) {
      RidgeMeasure& out = step.measures[c];
      out.gap = gap;
      out.residual = residual;
      out.penalty = penalty;
    }
  }
}

}  // namespace

void measure_ridge(const MeasureRidge& step, cudaStream_t stream) {
  launch("measure_ridge_kernel", measure_ridge_kernel, {dim3(grid_x(step.count)), kMeasureThreads},
         stream, step);
}

}  // namespace thresher::cuda

#include "gap_estimate.cuh"

#include <cmath>

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"
#include "view_column.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kMostEstimateThreads = block_threads(512);  // untuned: no GPU has run it yet

/// What one penalised feature adds to the gap at dual scale s.
__device__ inline double gap_term(double s, double a, double e, double g, double z) {
  double term = a * fabs(z) + 0.5 * e * z * z - s * z * g;
  const double excess = s * fabs(g) - a;
  if (e > 0.0 && excess > 0.0) term += excess * excess / (2.0 * e);
  return term;
}

// Block x serves slots x, x + gridDim.x, ...; its threads stride over the features.
template <class T>
__global__ void __launch_bounds__(kMostEstimateThreads)
    estimate_gap_kernel(GapEstimate<T> estimate, const T* momentum, const double* lipschitz,
                        const double* half_loss, double* gap) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  const Index n_selected = estimate.coef.rows;
  for (Index b = blockIdx.x; b < estimate.coef.cols; b += gridDim.x) {
    const T* coef = view_column(estimate.coef, b);
    const T* previous = view_column(estimate.previous, b);
    const T* grad = view_column(estimate.grad, b);
    const T* step_size = view_column(estimate.step_size, b);
    const T* l1 = view_column(estimate.l1, b);
    const T* l2 = view_column(estimate.l2, b);

    // Two candidates for the dual scale s: the largest feasible one, and the largest at which no
    // feature with an L2 term pays c_j either. The block has a maximum, so both are negated.
    double scale = -1.0, scale_all = -1.0;
    for (Index j = threadIdx.x; j < n_selected; j += blockDim.x) {
      const double a = static_cast<double>(l1[j]);
      const double g = fabs(static_cast<double>(grad[j]));
      if (step_size[j] == T(0) || a == 0.0 || !(g > a)) continue;
      scale_all = fmax(scale_all, -(a / g));
      if (l2[j] == T(0)) scale = fmax(scale, -(a / g));
    }
    scale = -block_max(scale, scratch);
    scale_all = -block_max(scale_all, scratch);

    double sum = 0.0, sum_all = 0.0;
    for (Index j = threadIdx.x; j < n_selected; j += blockDim.x) {
      const double size = static_cast<double>(step_size[j]);
      if (size == 0.0) continue;
      const double a = static_cast<double>(l1[j]);
      const double e = static_cast<double>(l2[j]);
      const double g = -static_cast<double>(grad[j]);
      if (a == 0.0 && e == 0.0) {
        // Unpenalised: what a step along this column alone would gain.
        const double gain = 0.5 * g * g * size * lipschitz[b];
        sum += gain;
        sum_all += gain;
        continue;
      }
      const double c = static_cast<double>(coef[j]);
      const double z =
          c + static_cast<double>(momentum[b]) * (c - static_cast<double>(previous[j]));
      sum += gap_term(scale, a, e, g, z);
      sum_all += gap_term(scale_all, a, e, g, z);
    }
    sum = block_sum(sum, scratch);
    sum_all = block_sum(sum_all, scratch);
    if (threadIdx.x == 0) {
      sum += (1.0 - scale) * (1.0 - scale) * half_loss[b];
      sum_all += (1.0 - scale_all) * (1.0 - scale_all) * half_loss[b];
      gap[b] = -larger(-sum, -sum_all);  // a NaN is kept
    }
  }
}

}  // namespace

template <class T>
void estimate_gap(const GapEstimate<T>& estimate, cudaStream_t stream) {
  launch("estimate_gap_kernel", estimate_gap_kernel<T>,
         {dim3(grid_x(estimate.coef.cols)), threads_for(estimate.coef.rows, kMostEstimateThreads)},
         stream, estimate, estimate.momentum.data(), estimate.lipschitz.data(),
         estimate.half_loss.data(), estimate.gap.data());
}

template void estimate_gap(const GapEstimate<float>&, cudaStream_t);
template void estimate_gap(const GapEstimate<double>&, cudaStream_t);

}  // namespace thresher::cuda

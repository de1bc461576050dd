#include "shrink_spectrum.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kShrinkThreads = block_threads(256);  // untuned: no GPU has run it yet

// A block takes a column, its threads every kShrinkThreads-th entry.
__global__ void __launch_bounds__(kShrinkThreads) shrink_spectrum_kernel(ShrinkSpectrum step) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  for (Index c = blockIdx.x; c < step.count; c += gridDim.x) {
    const double* z = step.Z + step.response[c] * step.k;
    double* t = step.T + c * step.k;
    const double lambda = step.lambda[c];
    double tt = 0.0, stt = 0.0, zt = 0.0, zz = 0.0;
    for (Index i = threadIdx.x; i < step.k; i += kShrinkThreads) {
      const double s = step.values[i];
      const double value = lambda > 0.0 || s > step.cutoff ? z[i] / (s + lambda) : 0.0;
      t[i] = value;
      tt += value * value;
      stt += s * (value * value);
      zt += z[i] * value;
      zz += z[i] * z[i];
    }
    tt = block_sum(tt, scratch);
    stt = block_sum(stt, scratch);
    zt = block_sum(zt, scratch);
    zz = block_sum(zz, scratch);
    if (threadIdx.x == 0) {
      ShrunkSums& out = step.sums[c];
      out.tt = tt;
      out.stt = stt;
      out.zt = zt;
      out.zz = zz;
    }
  }
}

}  // namespace

void shrink_spectrum(const ShrinkSpectrum& step, cudaStream_t stream) {
  launch("shrink_spectrum_kernel", shrink_spectrum_kernel,
         {dim3(grid_x(step.count)), kShrinkThreads}, stream, step);
}

}  // namespace thresher::cuda

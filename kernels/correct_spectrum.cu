#include "correct_spectrum.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kCorrectThreads = block_threads(256);  // untuned: no GPU has run it yet

// A block takes a column, its threads every kCorrectThreads-th entry.
__global__ void __launch_bounds__(kCorrectThreads) correct_spectrum_kernel(CorrectSpectrum step) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  for (Index c = blockIdx.x; c < step.count; c += gridDim.x) {
    const double lambda = step.lambda[c];
    double* d = step.D + c * step.k;
    double* t = step.T + c * step.k;
    double squares = 0.0;
    for (Index i = threadIdx.x; i < step.k; i += kCorrectThreads) {
      const double s = step.values[i];
      double rho = d[i], change = 0.0;
      if (lambda > 0.0) {
        if (step.row_space) rho -= lambda * t[i];
        squares += rho * rho;
        change = rho / (s + lambda);
      } else if (s > step.cutoff) {
        squares += step.row_space ? rho * rho : rho * rho / s;
        change = rho / s;
      }
      d[i] = change;
      t[i] += change;
    }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) {
      if (!(lambda > 0.0)) {
        step.measures[c].gap = 0.5 * squares;
      } else if (step.row_space) {
        const double ratio = step.top / lambda;
        step.measures[c].gap = 0.5 * squares * (ratio < 1.0 ? ratio : 1.0);
      }
    }
  }
}

}  // namespace

void correct_spectrum(const CorrectSpectrum& step, cudaStream_t stream) {
  launch("correct_spectrum_kernel", correct_spectrum_kernel,
         {dim3(grid_x(step.count)), kCorrectThreads}, stream, step);
}

}  // namespace thresher::cuda

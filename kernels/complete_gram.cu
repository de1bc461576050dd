#include "complete_gram.cuh"

#include "launch.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kCompleteThreads = block_threads(256);  // untuned: no GPU has run it yet

// Thread (x, y) reads entry x of columns y, y + gridDim.y, ... from the diagonal down.
__global__ void __launch_bounds__(kCompleteThreads) complete_gram_kernel(CompleteGram step) {
  const Index i = static_cast<Index>(blockIdx.x) * kCompleteThreads + threadIdx.x;
  if (i >= step.k) return;
  for (Index j = blockIdx.y; j <= i; j += gridDim.y) {
    double& entry = step.G[j * step.k + i];
    if (i == j) {
      if (step.delta != nullptr) entry += step.delta[i];
    } else {
      step.G[i * step.k + j] = entry;
    }
  }
}

}  // namespace

void complete_gram(const CompleteGram& step, cudaStream_t stream) {
  launch("complete_gram_kernel", complete_gram_kernel,
         {dim3(grid_x(blocks_for(step.k, kCompleteThreads)), grid_y(step.k)), kCompleteThreads},
         stream, step);
}

}  // namespace thresher::cuda

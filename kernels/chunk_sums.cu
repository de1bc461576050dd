#include "chunk_sums.cuh"

#include "launch.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kSumThreads = block_threads(128);  // untuned: no GPU has run it yet

// Thread e adds the partial sums of sum e, sum e + threads of the grid, ...
__global__ void __launch_bounds__(kSumThreads)
    add_chunks_kernel(const double* partial, Index n_sums, Index n_chunks, double* sums) {
  const Index threads = static_cast<Index>(gridDim.x) * kSumThreads;
  for (Index e = static_cast<Index>(blockIdx.x) * kSumThreads + threadIdx.x; e < n_sums;
       e += threads) {
    double sum = 0.0;
    for (Index c = 0; c < n_chunks; ++c) sum += partial[c * n_sums + e];
    sums[e] = sum;
  }
}

}  // namespace

void add_chunks(const double* partial, Index n_sums, Index n_chunks, double* sums,
                cudaStream_t stream) {
  launch("add_chunks_kernel", add_chunks_kernel,
         {dim3(grid_x(blocks_for(n_sums, kSumThreads))), kSumThreads}, stream, partial, n_sums,
         n_chunks, sums);
}

}  // namespace thresher::cuda

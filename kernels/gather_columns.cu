#include "gather_columns.cuh"

#include "launch.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kGatherThreads = block_threads(256);  // untuned: no GPU has run it yet

// Thread (x, y) copies entry x of columns y, y + gridDim.y, ...
template <class T>
__global__ void __launch_bounds__(kGatherThreads) gather_columns_kernel(GatherColumns<T> step) {
  const Index i = static_cast<Index>(blockIdx.x) * kGatherThreads + threadIdx.x;
  if (i >= step.rows) return;
  for (Index c = blockIdx.y; c < step.cols; c += gridDim.y) {
    step.to[c * step.rows + i] = step.from[step.which[c] * step.rows + i];
  }
}

}  // namespace

template <class T>
void gather_columns(const GatherColumns<T>& step, cudaStream_t stream) {
  launch("gather_columns_kernel", gather_columns_kernel<T>,
         {dim3(grid_x(blocks_for(step.rows, kGatherThreads)), grid_y(step.cols)), kGatherThreads},
         stream, step);
}

template void gather_columns(const GatherColumns<float>&, cudaStream_t);
template void gather_columns(const GatherColumns<double>&, cudaStream_t);

}  // namespace thresher::cuda

#include "direct_columns.cuh"

#include <algorithm>

#include "block_sums.cuh"
#include "launch.cuh"
#include "shared_array.cuh"
#include "view_column.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kDirectThreads = block_threads(256);  // untuned, see the header

// In all kernels block x serves slots x, x + gridDim.x, ...; its threads stride over a column.

template <class T>
__global__ void __launch_bounds__(kDirectThreads)
    hide_direct_kernel(DirectColumns<T> direct, MatrixView<const T> coef, MatrixView<T> shared) {
  for (Index b = blockIdx.x; b < coef.cols; b += gridDim.x) {
    const T* from = view_column(coef, b);
    T* to = view_column(shared, b);
    for (Index j = threadIdx.x; j < coef.rows; j += kDirectThreads) to[j] = from[j];
    __syncthreads();
    if (b >= direct.n_slots) continue;
    for (Index k = direct.first[b] + threadIdx.x; k < direct.first[b + 1]; k += kDirectThreads) {
      to[direct.position[k]] = T(0);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kDirectThreads)
    add_direct_kernel(DirectColumns<T> direct, MatrixView<const T> coef, MatrixView<T> fitted,
                      Index n_slots) {
  for (Index b = blockIdx.x; b < n_slots; b += gridDim.x) {
    const T* slot_coef = view_column(coef, b);
    T* slot_fitted = view_column(fitted, b);
    for (Index k = direct.first[b]; k < direct.first[b + 1]; ++k) {
      const T* x = direct.values[k];
      const T value = slot_coef[direct.position[k]];
      for (Index i = threadIdx.x; i < fitted.rows; i += kDirectThreads) {
        slot_fitted[i] += x[i] * value;
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kDirectThreads)
    correlate_direct_kernel(DirectColumns<T> direct, MatrixView<const T> residual,
                            MatrixView<T> grad, Index n_slots) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  for (Index b = blockIdx.x; b < n_slots; b += gridDim.x) {
    const T* z = view_column(residual, b);
    for (Index k = direct.first[b]; k < direct.first[b + 1]; ++k) {
      const T* x = direct.values[k];
      double sum = 0.0;
      for (Index i = threadIdx.x; i < residual.rows; i += kDirectThreads) {
        sum += static_cast<double>(x[i]) * static_cast<double>(z[i]);
      }
      sum = block_sum(sum, scratch);
      if (threadIdx.x == 0) view_column(grad, b)[direct.position[k]] = static_cast<T>(-sum);
    }
  }
}

}  // namespace

template <class T>
void hide_direct(const DirectColumns<T>& direct, const MatrixView<const T>& coef,
                 const MatrixView<T>& shared, cudaStream_t stream) {
  launch("hide_direct_kernel", hide_direct_kernel<T>, {dim3(grid_x(coef.cols)), kDirectThreads},
         stream, direct, coef, shared);
}

template <class T>
void add_direct(const DirectColumns<T>& direct, const MatrixView<const T>& coef,
                const MatrixView<T>& fitted, cudaStream_t stream) {
  const Index n_slots = std::min(coef.cols, direct.n_slots);
  launch("add_direct_kernel", add_direct_kernel<T>, {dim3(grid_x(n_slots)), kDirectThreads}, stream,
         direct, coef, fitted, n_slots);
}

template <class T>
void correlate_direct(const DirectColumns<T>& direct, const MatrixView<const T>& residual,
                      const MatrixView<T>& grad, cudaStream_t stream) {
  const Index n_slots = std::min(residual.cols, direct.n_slots);
  launch("correlate_direct_kernel", correlate_direct_kernel<T>,
         {dim3(grid_x(n_slots)), kDirectThreads}, stream, direct, residual, grad, n_slots);
}

template void hide_direct(const DirectColumns<float>&, const MatrixView<const float>&,
                          const MatrixView<float>&, cudaStream_t);
template void hide_direct(const DirectColumns<double>&, const MatrixView<const double>&,
                          const MatrixView<double>&, cudaStream_t);
template void add_direct(const DirectColumns<float>&, const MatrixView<const float>&,
                         const MatrixView<float>&, cudaStream_t);
template void add_direct(const DirectColumns<double>&, const MatrixView<const double>&,
                         const MatrixView<double>&, cudaStream_t);
template void correlate_direct(const DirectColumns<float>&, const MatrixView<const float>&,
                               const MatrixView<float>&, cudaStream_t);
template void correlate_direct(const DirectColumns<double>&, const MatrixView<const double>&,
                               const MatrixView<double>&, cudaStream_t);

}  // namespace thresher::cuda

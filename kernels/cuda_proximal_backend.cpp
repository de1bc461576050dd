#include "cuda_proximal_backend.hpp"

#include <algorithm>
#include <utility>

#include "backend/proximal_shapes.hpp"
#include "curvature.cuh"
#include "gap_estimate.cuh"
#include "gather_columns.cuh"
#include "prox_step.cuh"
#include "residual_step.cuh"

namespace thresher::cuda {
namespace {

// Of each staging buffer, at most. Untuned: large enough that starting a transfer costs little
// beside it (160 us at 25 GB/s), small enough that page-locking it does too.
constexpr Index kMostStaged = Index{4} << 20;
constexpr Index kLeastStaged = Index{64} << 10;

Index staging_bytes(std::size_t matrix_bytes) {
  return std::clamp(static_cast<Index>(matrix_bytes), kLeastStaged, kMostStaged);
}

template <class T>
void reserve(DeviceArray<T>& array, Index size) {
  if (array.size() < size) array = DeviceArray<T>(size);
}

void gemm(cublasHandle_t handle, cublasOperation_t op, Index m, Index n, Index k, double alpha,
          const double* a, Index lda, const double* b, Index ldb, double* c, Index ldc) {
  const double beta = 0.0;
  check(cublasDgemm_64(handle, op, CUBLAS_OP_N, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc),
        "cublasDgemm_64");
}

void gemm(cublasHandle_t handle, cublasOperation_t op, Index m, Index n, Index k, float alpha,
          const float* a, Index lda, const float* b, Index ldb, float* c, Index ldc) {
  const float beta = 0.0f;
  check(cublasSgemm_64(handle, op, CUBLAS_OP_N, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc),
        "cublasSgemm_64");
}

// cuBLAS wants a leading dimension of at least 1 and of at least the rows.
template <class T>
Index leading(const MatrixView<T>& m) {
  return std::max<Index>({1, m.rows, m.cols > 1 ? m.col_stride : 0});
}

template <class T>
void fill_zero(const MatrixView<T>& m, cudaStream_t stream) {
  for (Index b = 0; b < m.cols && m.rows > 0; ++b) {
    check(cudaMemsetAsync(m.data + b * m.col_stride, 0, checked_bytes<T>(m.rows), stream),
          "cudaMemsetAsync");
  }
}

/// c = alpha * op(X) b with X of leading dimension ldx.
template <class T>
void multiply(cublasHandle_t handle, cudaStream_t stream, cublasOperation_t op, T alpha, const T* x,
              Index ldx, const MatrixView<const T>& b, const MatrixView<T>& c) {
  if (c.empty()) return;
  if (b.rows == 0) {
    fill_zero(c, stream);
    return;
  }
  gemm(handle, op, c.rows, c.cols, b.rows, alpha, x, std::max<Index>(1, ldx), b.data, leading(b),
       c.data, leading(c));
}

template <class T>
MatrixView<const T> read_only(const MatrixView<T>& m) {
  return {m.data, m.rows, m.cols, m.row_stride, m.col_stride};
}

}  // namespace

template <class T>
CudaProximalBackend<T>::CudaProximalBackend(const DeviceLimits& limits, const T* matrix,
                                            Index n_samples, Index n_features)
    : limits_(limits),
      n_samples_(n_samples),
      n_features_(n_features),
      n_selected_(n_features),
      blas_(stream_),
      staging_(stream_, staging_bytes(checked_bytes<T>(n_samples * n_features))),
      matrix_(n_samples * n_features) {
  staging_.upload(matrix, matrix_.size(), matrix_.data());
  selected_ = matrix_.data();
}

template <class T>
std::shared_ptr<T[]> CudaProximalBackend<T>::allocate(Index size) {
  use_device(limits_);
  const auto array = std::make_shared<DeviceArray<T>>(size);
  array->zero(stream_);
  return std::shared_ptr<T[]>(array, array->data());
}

template <class T>
void CudaProximalBackend<T>::upload(std::span<const T> from, T* to) {
  use_device(limits_);
  staging_.upload(from.data(), static_cast<Index>(from.size()), to);
}

template <class T>
void CudaProximalBackend<T>::download(const T* from, std::span<T> to) {
  use_device(limits_);
  copy_to_host(from, static_cast<Index>(to.size()), to.data(), stream_);
  stream_.wait();
}

template <class T>
void CudaProximalBackend<T>::copy(const T* from, Index size, T* to) {
  use_device(limits_);
  if (from != to) copy_on_device(from, size, to, stream_);
}

template <class T>
void CudaProximalBackend<T>::select_features(std::span<const Index> features) {
  use_device(limits_);
  direct_ = {};
  direct_values_.clear();
  n_selected_ = static_cast<Index>(features.size());
  if (n_selected_ == n_features_) {
    selected_ = matrix_.data();
    packed_ = DeviceArray<T>();
    return;
  }
  reserve(packed_, n_samples_ * n_selected_);
  DeviceArray<Index> which(n_selected_);
  staging_.upload(features.data(), n_selected_, which.data());
  gather_columns(
      GatherColumns<T>{matrix_.data(), which.data(), packed_.data(), n_samples_, n_selected_},
      stream_);
  stream_.wait();  // for `which`
  selected_ = packed_.data();
}

template <class T>
void CudaProximalBackend<T>::set_direct(std::vector<DirectColumn<T>> direct) {
  if (direct.empty()) {
    direct_ = {};
    return;
  }
  use_device(limits_);
  std::stable_sort(direct.begin(), direct.end(),
                   [](const auto& a, const auto& b) { return a.slot < b.slot; });
  const Index n_direct = static_cast<Index>(direct.size());
  const Index n_slots = direct.back().slot + 1;
  std::vector<Index> first(static_cast<std::size_t>(n_slots) + 1, 0), position;
  std::vector<const T*> pointers;
  for (const DirectColumn<T>& d : direct) {
    ++first[static_cast<std::size_t>(d.slot) + 1];
    position.push_back(d.position);
    DeviceArray<T>& values = direct_values_[d.values];
    if (values.size() == 0) {
      values = DeviceArray<T>(n_samples_);
      staging_.upload(d.values, n_samples_, values.data());
    }
    pointers.push_back(values.data());
  }
  for (std::size_t b = 1; b < first.size(); ++b) first[b] += first[b - 1];
  reserve(direct_first_, n_slots + 1);
  reserve(direct_position_, n_direct);
  reserve(direct_pointers_, n_direct);
  staging_.upload(first.data(), n_slots + 1, direct_first_.data());
  staging_.upload(position.data(), n_direct, direct_position_.data());
  staging_.upload(pointers.data(), n_direct, direct_pointers_.data());
  direct_ = {direct_first_.data(), direct_position_.data(), direct_pointers_.data(), n_slots};
}

template <class T>
std::span<const T> CudaProximalBackend<T>::place_momentum(std::span<const T> momentum) {
  const Index n_slots = static_cast<Index>(momentum.size());
  reserve(momentum_, n_slots);
  staging_.upload(momentum.data(), n_slots, momentum_.data());
  return {momentum_.data(), momentum.size()};
}

/// Room for `size` results on both sides.
template <class T>
std::span<double> CudaProximalBackend<T>::place_results(Index size) {
  reserve(results_, size);
  if (fetched_.size() < size) fetched_ = PinnedArray<double>(size);
  return {results_.data(), static_cast<std::size_t>(size)};
}

/// Starts the copy of `size` results; results_there_ is when it is done.
template <class T>
void CudaProximalBackend<T>::fetch_results(Index size) {
  copy_to_host(results_.data(), size, fetched_.data(), stream_);
  results_there_.record(stream_);
}

/// Waits for the last copy and deals its values out.
template <class T>
void CudaProximalBackend<T>::take_results(std::initializer_list<std::span<double>> to) {
  results_there_.wait();
  const double* from = fetched_.data();
  for (const std::span<double>& part : to) {
    std::copy_n(from, part.size(), part.begin());
    from += part.size();
  }
}

template <class T>
void CudaProximalBackend<T>::predict(const Predict<T>& predict) {
  check_shapes(predict, n_samples_, n_selected_);
  use_device(limits_);
  MatrixView<const T> coef = predict.coef;
  const bool direct = direct_.n_slots > 0 && !coef.empty();
  if (direct) {
    reserve(shared_coef_, coef.rows * coef.cols);
    const auto shared = MatrixView<T>::column_major(shared_coef_.data(), coef.rows, coef.cols);
    hide_direct(direct_, predict.coef, shared, stream_);
    coef = read_only(shared);
  }
  multiply(blas_, stream_, CUBLAS_OP_N, T(1), selected_, n_samples_, coef, predict.fitted);
  if (direct) add_direct(direct_, predict.coef, predict.fitted, stream_);
}

template <class T>
void CudaProximalBackend<T>::correlate(const Correlate<T>& correlate) {
  check_shapes(correlate, n_samples_, n_selected_);
  const Index n_slots = correlate.fitted.cols;
  if (n_slots == 0) return;
  use_device(limits_);
  Correlate<T> on_device = correlate;
  on_device.momentum = place_momentum(correlate.momentum);
  on_device.half_loss = place_results(n_slots);
  residual_step(on_device, stream_);
  fetch_results(n_slots);
  // The product runs on while the host has half_loss already.
  const MatrixView<const T> residual = read_only(correlate.residual);
  multiply(blas_, stream_, CUBLAS_OP_T, T(-1), selected_, n_samples_, residual, correlate.grad);
  if (direct_.n_slots > 0) correlate_direct(direct_, residual, correlate.grad, stream_);
  take_results({correlate.half_loss});
}

template <class T>
void CudaProximalBackend<T>::prox_step(const ProxStep<T>& step) {
  check_shapes(step);
  const Index n_slots = step.coef.cols;
  if (n_slots == 0) return;
  use_device(limits_);
  ProxStep<T> on_device = step;
  on_device.momentum = place_momentum(step.momentum);
  const std::span<double> results = place_results(2 * n_slots);
  on_device.uphill = results.first(step.uphill.size());
  on_device.squared_length = results.last(step.squared_length.size());
  reserve(scratch_, prox_step_scratch(step.coef.rows, n_slots));
  cuda::prox_step(on_device, scratch_.data(), stream_);
  fetch_results(2 * n_slots);
  take_results({step.uphill, step.squared_length});
}

template <class T>
void CudaProximalBackend<T>::curvature(const Curvature<T>& curvature) {
  check_shapes(curvature, n_samples_);
  const Index n_slots = curvature.fitted_next.cols;
  if (n_slots == 0) return;
  use_device(limits_);
  Curvature<T> on_device = curvature;
  on_device.momentum = place_momentum(curvature.momentum);
  const std::span<double> results = place_results(2 * n_slots);
  on_device.squared_change = results.first(curvature.squared_change.size());
  on_device.squared_size = results.last(curvature.squared_size.size());
  cuda::curvature(on_device, stream_);
  fetch_results(2 * n_slots);
  take_results({curvature.squared_change, curvature.squared_size});
}

template <class T>
void CudaProximalBackend<T>::estimate_gap(const GapEstimate<T>& estimate) {
  check_shapes(estimate);
  const Index n_slots = estimate.coef.cols;
  if (n_slots == 0) return;
  use_device(limits_);
  GapEstimate<T> on_device = estimate;
  on_device.momentum = place_momentum(estimate.momentum);
  reserve(per_slot_, 2 * n_slots);
  staging_.upload(estimate.lipschitz.data(), n_slots, per_slot_.data());
  staging_.upload(estimate.half_loss.data(), n_slots, per_slot_.data() + n_slots);
  on_device.lipschitz = {per_slot_.data(), estimate.lipschitz.size()};
  on_device.half_loss = {per_slot_.data() + n_slots, estimate.half_loss.size()};
  on_device.gap = place_results(n_slots);
  cuda::estimate_gap(on_device, stream_);
  fetch_results(n_slots);
  take_results({estimate.gap});
}

template class CudaProximalBackend<float>;
template class CudaProximalBackend<double>;

}  // namespace thresher::cuda

#include "backend/cpu_proximal_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "backend/blas.hpp"
#include "backend/proximal_shapes.hpp"
#include "backend/simd.hpp"
#include "prox.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

template <class T>
T* column(const MatrixView<T>& m, Index b) {
  return m.data + b * m.col_stride;
}

// Up to here a product for each slot beats GEMM, which repacks all of X_F for every call: at
// 2000 x 1000 selected and one slot the packing was 75 % of the time.
constexpr Index kFewSlots = 3;

/// fitted = X_F coef for one slot, zeros skipped.
void predict_one(Index n, Index n_selected, const double* x, const double* coef, double* fitted) {
  std::vector<const double*> columns;
  std::vector<double> values;
  for (Index j = 0; j < n_selected; ++j) {
    if (coef[j] == 0.0) continue;
    columns.push_back(x + j * n);
    values.push_back(coef[j]);
  }
  std::fill_n(fitted, n, 0.0);
  simd().axpys(n, static_cast<Index>(values.size()), values.data(), columns.data(), fitted);
}

void predict_one(Index n, Index n_selected, const float* x, const float* coef, float* fitted) {
  std::fill_n(fitted, n, 0.0f);
  for (Index j = 0; j < n_selected; ++j) {
    const float b = coef[j];
    if (b == 0.0f) continue;
    for (Index i = 0; i < n; ++i) fitted[i] += b * x[j * n + i];
  }
}

/// grad = -X_F' z for one slot.
void correlate_one(Index n, Index n_selected, const double* x, const double* z, double* grad) {
  blas::gemv(true, n, n_selected, -1.0, x, n, z, 0.0, grad);
}

void correlate_one(Index n, Index n_selected, const float* x, const float* z, float* grad) {
  // Sixteen partial sums, so that the compiler may keep them in vectors.
  constexpr Index kLanes = 16;
  for (Index j = 0; j < n_selected; ++j) {
    float sums[kLanes] = {};
    Index i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (Index k = 0; k < kLanes; ++k) sums[k] += x[j * n + i + k] * z[i + k];
    }
    float sum = 0.0f;
    for (; i < n; ++i) sum += x[j * n + i] * z[i];
    for (const float partial : sums) sum += partial;
    grad[j] = -sum;
  }
}

// BLAS wants a leading dimension of at least 1, also of an empty matrix.
template <class T>
Index leading(const MatrixView<T>& m) {
  return std::max<Index>(1, m.cols > 1 ? m.col_stride : m.rows);
}

}  // namespace

template <class T>
CpuProximalBackend<T>::CpuProximalBackend(const T* matrix, Index n_samples, Index n_features)
    : matrix_(matrix),
      n_samples_(n_samples),
      n_features_(n_features),
      selected_(matrix),
      n_selected_(n_features) {}

template <class T>
std::shared_ptr<T[]> CpuProximalBackend<T>::allocate(Index size) {
  try {
    return std::make_shared<T[]>(static_cast<std::size_t>(size));
  } catch (const std::bad_alloc&) {
    throw Error(Errc::kOutOfMemory, "proximal backend: " + std::to_string(size) + " values of " +
                                        std::to_string(sizeof(T)) + " bytes do not fit in memory");
  }
}

template <class T>
void CpuProximalBackend<T>::upload(std::span<const T> from, T* to) {
  std::copy(from.begin(), from.end(), to);
}

template <class T>
void CpuProximalBackend<T>::download(const T* from, std::span<T> to) {
  std::copy_n(from, to.size(), to.data());
}

template <class T>
void CpuProximalBackend<T>::copy(const T* from, Index size, T* to) {
  if (from != to) std::copy_n(from, size, to);
}

template <class T>
void CpuProximalBackend<T>::select_features(std::span<const Index> features) {
  direct_.clear();
  n_selected_ = static_cast<Index>(features.size());
  if (n_selected_ == n_features_) {
    selected_ = matrix_;
    packed_ = {};
    return;
  }
  packed_.resize(static_cast<std::size_t>(n_samples_) * features.size());
  T* to = packed_.data();
  for (const Index j : features) {
    std::copy_n(matrix_ + j * n_samples_, n_samples_, to);
    to += n_samples_;
  }
  selected_ = packed_.data();
}

template <class T>
void CpuProximalBackend<T>::set_direct(std::vector<DirectColumn<T>> direct) {
  direct_ = std::move(direct);
}

template <class T>
void CpuProximalBackend<T>::predict(const Predict<T>& predict) {
  const Index n_slots = predict.coef.cols;
  check_shapes(predict, n_samples_, n_selected_);
  if (n_selected_ == 0) {
    for (Index b = 0; b < n_slots; ++b) std::fill_n(column(predict.fitted, b), n_samples_, T(0));
    return;
  }

  MatrixView<const T> coef = predict.coef;
  if (!direct_.empty()) {
    shared_coef_.resize(static_cast<std::size_t>(n_selected_ * n_slots));
    for (Index b = 0; b < n_slots; ++b) {
      std::copy_n(column(coef, b), n_selected_, shared_coef_.data() + b * n_selected_);
    }
    for (const DirectColumn<T>& d : direct_) {
      if (d.slot < n_slots) shared_coef_.data()[d.slot * n_selected_ + d.position] = T(0);
    }
    coef = MatrixView<const T>::column_major(shared_coef_.data(), n_selected_, n_slots);
  }
  if (n_slots <= kFewSlots) {
    for (Index b = 0; b < n_slots; ++b) {
      predict_one(n_samples_, n_selected_, selected_, column(coef, b), column(predict.fitted, b));
    }
  } else {
    blas::gemm(false, false, n_samples_, n_slots, n_selected_, T(1), selected_, n_samples_,
               coef.data, leading(coef), T(0), predict.fitted.data, leading(predict.fitted));
  }
  for (const DirectColumn<T>& d : direct_) {
    if (d.slot >= n_slots) continue;
    const T b = predict.coef(d.position, d.slot);
    T* fitted = column(predict.fitted, d.slot);
    for (Index i = 0; i < n_samples_; ++i) fitted[i] += d.values[i] * b;
  }
}

template <class T>
void CpuProximalBackend<T>::correlate(const Correlate<T>& correlate) {
  const Index n_slots = correlate.fitted.cols;
  check_shapes(correlate, n_samples_, n_selected_);

  for (Index b = 0; b < n_slots; ++b) {
    const T* fitted = column(correlate.fitted, b);
    const T* previous = column(correlate.fitted_previous, b);
    const T* response = column(correlate.response, b);
    const T* weight = column(correlate.weight, b);
    T* residual = column(correlate.residual, b);
    const T momentum = correlate.momentum.data()[b];
    double mean = 0.0;
    for (Index i = 0; i < n_samples_; ++i) {
      residual[i] = response[i] - (fitted[i] + momentum * (fitted[i] - previous[i]));
      mean += static_cast<double>(weight[i]) * static_cast<double>(residual[i]);
    }
    if (!correlate.intercept) mean = 0.0;
    double loss = 0.0;
    for (Index i = 0; i < n_samples_; ++i) {
      const T r = static_cast<T>(static_cast<double>(residual[i]) - mean);
      residual[i] = weight[i] * r;
      loss += static_cast<double>(residual[i]) * static_cast<double>(r);
    }
    correlate.half_loss.data()[b] = 0.5 * loss;
  }
  if (n_slots == 0 || n_selected_ == 0) return;
  if (n_slots <= kFewSlots) {
    for (Index b = 0; b < n_slots; ++b) {
      correlate_one(n_samples_, n_selected_, selected_, column(correlate.residual, b),
                    column(correlate.grad, b));
    }
  } else {
    blas::gemm(true, false, n_selected_, n_slots, n_samples_, T(-1), selected_, n_samples_,
               static_cast<const T*>(correlate.residual.data), leading(correlate.residual), T(0),
               correlate.grad.data, leading(correlate.grad));
  }
  for (const DirectColumn<T>& d : direct_) {
    if (d.slot >= n_slots) continue;
    const T* residual = column(correlate.residual, d.slot);
    double sum = 0.0;
    for (Index i = 0; i < n_samples_; ++i) {
      sum += static_cast<double>(d.values[i]) * static_cast<double>(residual[i]);
    }
    correlate.grad(d.position, d.slot) = static_cast<T>(-sum);
  }
}

template <class T>
void CpuProximalBackend<T>::prox_step(const ProxStep<T>& step) {
  const Index n_selected = step.coef.rows;
  const Index n_slots = step.coef.cols;
  check_shapes(step);

  for (Index b = 0; b < n_slots; ++b) {
    T* coef = column(step.coef, b);
    T* previous = column(step.previous, b);
    const T* grad = column(step.grad, b);
    const T* step_size = column(step.step_size, b);
    const T* l1 = column(step.l1, b);
    const T* l2 = column(step.l2, b);
    const T momentum = step.momentum.data()[b];
    double uphill = 0.0, squared_length = 0.0;
    for (Index j = 0; j < n_selected; ++j) {
      if (step_size[j] == T(0)) continue;
      const T z = coef[j] + momentum * (coef[j] - previous[j]);
      const T next = prox_elastic_net(z - step_size[j] * grad[j], step_size[j], l1[j], l2[j]);
      const double move = static_cast<double>(next) - static_cast<double>(z);
      const double metric = 1.0 / static_cast<double>(step_size[j]);
      uphill -= move * metric * (static_cast<double>(next) - static_cast<double>(coef[j]));
      squared_length += move * metric * move;
      previous[j] = coef[j];
      coef[j] = next;
    }
    step.uphill.data()[b] = uphill;
    step.squared_length.data()[b] = squared_length;
  }
}

template <class T>
void CpuProximalBackend<T>::curvature(const Curvature<T>& curvature) {
  const Index n_slots = curvature.fitted_next.cols;
  check_shapes(curvature, n_samples_);

  for (Index b = 0; b < n_slots; ++b) {
    const T* next = column(curvature.fitted_next, b);
    const T* fitted = column(curvature.fitted, b);
    const T* previous = column(curvature.fitted_previous, b);
    const T* weight = column(curvature.weight, b);
    const T momentum = curvature.momentum.data()[b];
    double sum = 0.0, square = 0.0, size = 0.0;
    for (Index i = 0; i < n_samples_; ++i) {
      const double w = static_cast<double>(weight[i]);
      const double change =
          static_cast<double>(next[i] - (fitted[i] + momentum * (fitted[i] - previous[i])));
      sum += w * change;
      square += w * change * change;
      size += w * static_cast<double>(next[i]) * static_cast<double>(next[i]);
    }
    // The weights sum to 1, so this is the weighted variance of the change.
    if (curvature.intercept) square -= sum * sum;
    curvature.squared_change.data()[b] = square;
    curvature.squared_size.data()[b] = size;
  }
}

template <class T>
void CpuProximalBackend<T>::estimate_gap(const GapEstimate<T>& estimate) {
  const Index n_selected = estimate.coef.rows;
  const Index n_slots = estimate.coef.cols;
  check_shapes(estimate);

  for (Index b = 0; b < n_slots; ++b) {
    const T* coef = column(estimate.coef, b);
    const T* previous = column(estimate.previous, b);
    const T* grad = column(estimate.grad, b);
    const T* step_size = column(estimate.step_size, b);
    const T* l1 = column(estimate.l1, b);
    const T* l2 = column(estimate.l2, b);
    const double momentum = static_cast<double>(estimate.momentum.data()[b]);

    // Two candidates for the dual scale s: the largest feasible one, and the largest at which no
    // feature with an L2 term pays c_j either.
    double scale = 1.0, scale_all = 1.0;
    for (Index j = 0; j < n_selected; ++j) {
      const double a = static_cast<double>(l1[j]);
      const double g = std::fabs(static_cast<double>(grad[j]));
      if (step_size[j] == T(0) || a == 0.0 || !(g > a)) continue;
      scale_all = std::min(scale_all, a / g);
      if (l2[j] == T(0)) scale = std::min(scale, a / g);
    }
    double gap = std::numeric_limits<double>::infinity();
    for (const double s : {scale, scale_all}) {
      double sum = (1.0 - s) * (1.0 - s) * estimate.half_loss.data()[b];
      for (Index j = 0; j < n_selected; ++j) {
        if (step_size[j] == T(0)) continue;
        const double a = static_cast<double>(l1[j]);
        const double e = static_cast<double>(l2[j]);
        const double g = -static_cast<double>(grad[j]);
        const double c = static_cast<double>(coef[j]);
        const double z = c + momentum * (c - static_cast<double>(previous[j]));
        if (a == 0.0 && e == 0.0) {
          // Unpenalised: what a step along this column alone would gain.
          sum += 0.5 * g * g * static_cast<double>(step_size[j]) * estimate.lipschitz.data()[b];
          continue;
        }
        sum += a * std::fabs(z) + 0.5 * e * z * z - s * z * g;
        const double excess = s * std::fabs(g) - a;
        if (e > 0.0 && excess > 0.0) sum += excess * excess / (2.0 * e);
      }
      if (!(sum >= gap)) gap = sum;  // a NaN is kept
      if (scale == scale_all || std::isnan(sum)) break;
    }
    estimate.gap.data()[b] = gap;
  }
}

template class CpuProximalBackend<float>;
template class CpuProximalBackend<double>;

}  // namespace thresher

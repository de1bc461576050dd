#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/proximal_backend.hpp"

namespace thresher {

/// ProximalBackend on one core: products by the serial BLAS, everything else plain loops.
/// matrix: column-major (n_samples, n_features), borrowed; an own copy of the selected columns is
/// kept when they are fewer than all.
template <class T>
class CpuProximalBackend : public ProximalBackend<T> {
 public:
  CpuProximalBackend(const T* matrix, Index n_samples, Index n_features);

  std::shared_ptr<T[]> allocate(Index size) override;
  void upload(std::span<const T> from, T* to) override;
  void download(const T* from, std::span<T> to) override;
  void copy(const T* from, Index size, T* to) override;
  void select_features(std::span<const Index> features) override;
  void set_direct(std::vector<DirectColumn<T>> direct) override;
  void predict(const Predict<T>& predict) override;
  void correlate(const Correlate<T>& correlate) override;
  void prox_step(const ProxStep<T>& step) override;
  void curvature(const Curvature<T>& curvature) override;
  void estimate_gap(const GapEstimate<T>& estimate) override;

 private:
  const T* matrix_;
  Index n_samples_;
  Index n_features_;
  const T* selected_;  // (n_samples, n_selected)
  Index n_selected_;
  std::vector<T> packed_;
  std::vector<T> shared_coef_;  // coef without the entries of direct columns
  std::vector<DirectColumn<T>> direct_;
};

}  // namespace thresher

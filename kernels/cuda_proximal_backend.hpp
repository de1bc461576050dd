#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "backend/proximal_backend.hpp"
#include "cuda_context.hpp"
#include "device_memory.hpp"
#include "direct_columns.cuh"
#include "staged_copies.hpp"

namespace thresher::cuda {

/// ProximalBackend on one device: products by cuBLAS, everything else one kernel a verb, all in one
/// stream. Verbs whose spans come back wait for those, the others return at once.
template <class T>
class CudaProximalBackend final : public ProximalBackend<T> {
 public:
  /// matrix: column-major (n_samples, n_features), host memory, borrowed during the call.
  CudaProximalBackend(const DeviceLimits& limits, const T* matrix, Index n_samples,
                      Index n_features);

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
  std::span<const T> place_momentum(std::span<const T> momentum);
  std::span<double> place_results(Index size);
  void fetch_results(Index size);
  void take_results(std::initializer_list<std::span<double>> to);

  DeviceLimits limits_;
  Index n_samples_;
  Index n_features_;
  Index n_selected_;
  Stream stream_;
  Blas blas_;
  StagedCopies staging_;
  DeviceArray<T> matrix_;
  DeviceArray<T> packed_;        // the selected columns when they are fewer than all
  const T* selected_ = nullptr;  // (n_samples, n_selected)

  DeviceArray<T> momentum_;
  DeviceArray<double> per_slot_;  // lipschitz and half_loss of estimate_gap
  DeviceArray<double> scratch_;   // of prox_step
  DeviceArray<double> results_;   // the spans that a verb gives back, one after the other
  PinnedArray<double> fetched_;   // the same on the host
  Event results_there_;

  DirectColumns<T> direct_;  // n_slots = 0: none
  DeviceArray<Index> direct_first_, direct_position_;
  DeviceArray<const T*> direct_pointers_;
  std::map<const T*, DeviceArray<T>> direct_values_;  // by where they lie on the host
  DeviceArray<T> shared_coef_;                        // coef without the entries of direct columns

  Drain drain_{stream_};
};

}  // namespace thresher::cuda

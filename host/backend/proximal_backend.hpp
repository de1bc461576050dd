#pragma once

#include <memory>
#include <span>
#include <vector>

#include "thresher/views.hpp"

namespace thresher {

// Operands of the verbs below. Column b of every matrix and entry b of every span belong to slot b,
// one running problem. Matrices live in the memory of the backend that is called, spans on the
// host. n_selected counts the features of the last select_features.

/// Fitted values of every slot: fitted = X_F coef.
template <class T>
struct Predict {
  MatrixView<const T> coef;  // (n_selected, n_slots)
  MatrixView<T> fitted;      // (n_samples, n_slots)  out
};

/// Loss gradient at the extrapolated point z = coef + momentum * (coef - previous), whose fitted
/// values follow from those of coef and previous.
template <class T>
struct Correlate {
  MatrixView<const T> fitted;           // (n_samples, n_slots)  of coef
  MatrixView<const T> fitted_previous;  // (n_samples, n_slots)  of previous
  std::span<const T> momentum;          // (n_slots)
  MatrixView<const T> response;         // (n_samples, n_slots)
  MatrixView<const T> weight;           // (n_samples, n_slots)
  bool intercept = true;                // the residual's weighted mean is removed
  MatrixView<T> residual;               // (n_samples, n_slots)  out: weight o residual
  MatrixView<T> grad;                   // (n_selected, n_slots)  out: -X_F' (weight o residual)
  std::span<double> half_loss;          // (n_slots)  out: 1/2 sum_i w_i residual_i^2
};

/// One accelerated proximal-gradient update.
template <class T>
struct ProxStep {
  MatrixView<T> coef;                // (n_selected, n_slots)  in: iterate k, out: k + 1
  MatrixView<T> previous;            // (n_selected, n_slots)  in: iterate k - 1, out: k
  MatrixView<const T> grad;          // (n_selected, n_slots)  loss gradient at z
  MatrixView<const T> step_size;     // (n_selected, n_slots)  0 pins a coefficient
  MatrixView<const T> l1;            // (n_selected, n_slots)  a_j
  MatrixView<const T> l2;            // (n_selected, n_slots)  e_j
  std::span<const T> momentum;       // (n_slots)  in [0, 1)
  std::span<double> uphill;          // (n_slots)  out: <z - next, next - coef> in the step metric
  std::span<double> squared_length;  // (n_slots)  out: |next - z|^2 in the step metric
};

/// What a step from z to next does to the fitted values.
template <class T>
struct Curvature {
  MatrixView<const T> fitted_next;  // (n_samples, n_slots)
  MatrixView<const T> fitted;
  MatrixView<const T> fitted_previous;
  std::span<const T> momentum;
  MatrixView<const T> weight;
  bool intercept = true;
  std::span<double> squared_change;  // (n_slots)  out: |X (next - z)|_w^2
  std::span<double> squared_size;    // (n_slots)  out: |X next|_w^2, intercept or not
};

/// An estimate of the duality gap at z over the selected features (design section 4).
template <class T>
struct GapEstimate {
  MatrixView<const T> coef;
  MatrixView<const T> previous;
  std::span<const T> momentum;
  MatrixView<const T> grad;
  MatrixView<const T> step_size;
  MatrixView<const T> l1;
  MatrixView<const T> l2;
  std::span<const double> lipschitz;  // (n_slots)
  std::span<const double> half_loss;  // (n_slots)
  std::span<double> gap;              // (n_slots)  out
};

/// A column that one slot sees in its own way (RowWeighting::direct).
template <class T>
struct DirectColumn {
  Index slot = 0;
  Index position = 0;         // among the selected features
  const T* values = nullptr;  // (n_samples), host memory, the same until the next select_features
};

/// The work of the batched proximal gradient, cut at the solver's own steps, so that each step can
/// be one kernel. host/engines/proximal_gradient.cpp is written against this class alone.
///
/// Order    Verbs take effect one after the other. Host memory that was handed over may be changed
///          as soon as a verb returns (values of direct columns: see there); what a verb writes
///          into spans is there by then.
/// Repeat   Run to run, bit for bit, on one build and one machine.
/// Throws   Error{kInvalidArgument} if shapes disagree, Error{kOutOfMemory} from allocate. Values
///          are not checked: NaN goes through to the outputs.
template <class T>
class ProximalBackend {
 public:
  virtual ~ProximalBackend() = default;

  virtual std::shared_ptr<T[]> allocate(Index size) = 0;  ///< filled with zeros
  virtual void upload(std::span<const T> from, T* to) = 0;
  virtual void download(const T* from, std::span<T> to) = 0;
  virtual void copy(const T* from, Index size, T* to) = 0;  ///< within the backend's memory

  /// Restricts every product to these features, ascending. Forgets the direct columns.
  virtual void select_features(std::span<const Index> features) = 0;
  virtual void set_direct(std::vector<DirectColumn<T>> direct) = 0;

  virtual void predict(const Predict<T>& predict) = 0;
  virtual void correlate(const Correlate<T>& correlate) = 0;

  /// z = coef + momentum (coef - previous); next = prox(z - step_size * grad) as in
  /// kernels/prox.hpp; previous = coef; coef = next. Sums run in double, features ascending.
  ///
  /// Source   Beck & Teboulle (2009), SIAM J. Imaging Sci. 2(1), eqs. (4.1) to (4.3);
  ///          restart: O'Donoghue & Candes (2015), Found. Comput. Math. 15(3), section 3.2.
  virtual void prox_step(const ProxStep<T>& step) = 0;
  virtual void curvature(const Curvature<T>& curvature) = 0;
  virtual void estimate_gap(const GapEstimate<T>& estimate) = 0;
};

}  // namespace thresher

#pragma once

#include <string>

#include "backend/proximal_backend.hpp"
#include "thresher/error.hpp"

namespace thresher {

// Every backend checks its operands by these: Error{kInvalidArgument} names verb and operand.

inline std::string shape_text(Index rows, Index cols) {
  return "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
}

template <class T>
void check_matrix(const char* verb, const char* operand, const MatrixView<T>& m, Index rows,
                  Index cols) {
  if (m.rows != rows || m.cols != cols) {
    throw Error(Errc::kInvalidArgument, std::string(verb) + ": " + operand + " must have shape " +
                                            shape_text(rows, cols) + ", got " +
                                            shape_text(m.rows, m.cols));
  }
  if (m.row_stride != 1 || (cols > 1 && m.col_stride < rows)) {
    throw Error(Errc::kInvalidArgument, std::string(verb) + ": " + operand +
                                            " must be column-major, got row stride " +
                                            std::to_string(m.row_stride));
  }
}

template <class Span>
void check_size(const char* verb, const char* operand, const Span& span, Index size) {
  if (static_cast<Index>(span.size()) != size) {
    throw Error(Errc::kInvalidArgument, std::string(verb) + ": " + operand + " must have size " +
                                            std::to_string(size) + ", got " +
                                            std::to_string(span.size()));
  }
}

template <class T>
void check_shapes(const Predict<T>& predict, Index n_samples, Index n_selected) {
  const Index n_slots = predict.coef.cols;
  check_matrix("predict", "coef", predict.coef, n_selected, n_slots);
  check_matrix("predict", "fitted", predict.fitted, n_samples, n_slots);
}

template <class T>
void check_shapes(const Correlate<T>& correlate, Index n_samples, Index n_selected) {
  const Index n_slots = correlate.fitted.cols;
  check_matrix("correlate", "fitted", correlate.fitted, n_samples, n_slots);
  check_matrix("correlate", "fitted_previous", correlate.fitted_previous, n_samples, n_slots);
  check_matrix("correlate", "response", correlate.response, n_samples, n_slots);
  check_matrix("correlate", "weight", correlate.weight, n_samples, n_slots);
  check_matrix("correlate", "residual", correlate.residual, n_samples, n_slots);
  check_matrix("correlate", "grad", correlate.grad, n_selected, n_slots);
  check_size("correlate", "momentum", correlate.momentum, n_slots);
  check_size("correlate", "half_loss", correlate.half_loss, n_slots);
}

template <class T>
void check_shapes(const ProxStep<T>& step) {
  const Index n_selected = step.coef.rows;
  const Index n_slots = step.coef.cols;
  check_matrix("prox_step", "coef", step.coef, n_selected, n_slots);
  check_matrix("prox_step", "previous", step.previous, n_selected, n_slots);
  check_matrix("prox_step", "grad", step.grad, n_selected, n_slots);
  check_matrix("prox_step", "step_size", step.step_size, n_selected, n_slots);
  check_matrix("prox_step", "l1", step.l1, n_selected, n_slots);
  check_matrix("prox_step", "l2", step.l2, n_selected, n_slots);
  check_size("prox_step", "momentum", step.momentum, n_slots);
  check_size("prox_step", "uphill", step.uphill, n_slots);
  check_size("prox_step", "squared_length", step.squared_length, n_slots);
}

template <class T>
void check_shapes(const Curvature<T>& curvature, Index n_samples) {
  const Index n_slots = curvature.fitted_next.cols;
  check_matrix("curvature", "fitted_next", curvature.fitted_next, n_samples, n_slots);
  check_matrix("curvature", "fitted", curvature.fitted, n_samples, n_slots);
  check_matrix("curvature", "fitted_previous", curvature.fitted_previous, n_samples, n_slots);
  check_matrix("curvature", "weight", curvature.weight, n_samples, n_slots);
  check_size("curvature", "momentum", curvature.momentum, n_slots);
  check_size("curvature", "squared_change", curvature.squared_change, n_slots);
  check_size("curvature", "squared_size", curvature.squared_size, n_slots);
}

template <class T>
void check_shapes(const GapEstimate<T>& estimate) {
  const Index n_selected = estimate.coef.rows;
  const Index n_slots = estimate.coef.cols;
  check_matrix("estimate_gap", "coef", estimate.coef, n_selected, n_slots);
  check_matrix("estimate_gap", "previous", estimate.previous, n_selected, n_slots);
  check_matrix("estimate_gap", "grad", estimate.grad, n_selected, n_slots);
  check_matrix("estimate_gap", "step_size", estimate.step_size, n_selected, n_slots);
  check_matrix("estimate_gap", "l1", estimate.l1, n_selected, n_slots);
  check_matrix("estimate_gap", "l2", estimate.l2, n_selected, n_slots);
  check_size("estimate_gap", "momentum", estimate.momentum, n_slots);
  check_size("estimate_gap", "lipschitz", estimate.lipschitz, n_slots);
  check_size("estimate_gap", "half_loss", estimate.half_loss, n_slots);
  check_size("estimate_gap", "gap", estimate.gap, n_slots);
}

}  // namespace thresher

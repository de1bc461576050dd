#pragma once

#include <cuda_runtime.h>

#include "working_set_state.hpp"

namespace thresher::cuda {

/// a_j of the one objective; exactly 0 without an L1 term.
__device__ inline double l1_term(const ProblemView& problem, Index j, double lambda) {
  const double u = problem.factors.l1[j];
  return problem.l1_ratio == 0.0 || u == 0.0
             ? 0.0
             : problem.l1_ratio * u * ldexp(lambda, -problem.y_exponent);
}

/// e_j of the one objective.
__device__ inline double l2_term(const ProblemView& problem, Index j, double lambda) {
  const double ridge =
      problem.l1_ratio == 1.0 ? 0.0 : (1.0 - problem.l1_ratio) * lambda * problem.factors.l2[j];
  return ridge + problem.factors.fixed_l2[j];
}

/// xhat_j under a weighting: values minus `mean` are weighted-centred.
struct ColumnView {
  const double* values;  // (n)
  double mean;
};

/// Index of feature j among the direct columns, or -1.
__device__ inline Index direct_index(const RowsView& rows, Index j) {
  Index low = 0, high = rows.n_direct;
  while (low < high) {
    const Index middle = (low + high) / 2;
    if (rows.direct[middle] < j) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < rows.n_direct && rows.direct[low] == j ? low : -1;
}

__device__ inline ColumnView column_view(const WorkingSetState& state, const RowsView& rows,
                                         Index j) {
  if (rows.n_direct > 0) {
    const Index direct = direct_index(rows, j);
    if (direct >= 0) return {rows.direct_values + direct * state.n, 0.0};
  }
  return {state.X + j * state.n, rows.mean[j]};
}

/// Rounding of a product x_j' z beyond which |g_j| > a_j counts as a violation, for |x_j| = 1.
__device__ inline double product_noise(Index n, double z_norm) {
  return static_cast<double>(n) * 2.220446049250313e-16 * z_norm;
}

}  // namespace thresher::cuda

#pragma once

#include <cstdint>

#include "thresher/views.hpp"

namespace thresher::cuda {

// What the kernels of the working-set engine (design section 6) see: plain structs of device
// pointers, handed over by value. Everything is in hat units (setup/problem.hpp).

/// One RowWeighting.
struct RowsView {
  const double* weight = nullptr;       // (n)
  const double* root_weight = nullptr;  // (n) sqrt(weight)
  const double* mean = nullptr;         // (p) weighted mean of xhat_j; all 0 without an intercept
  // Columns centred for these weights directly from X, on all rows. Their mean counts as 0.
  const Index* direct = nullptr;          // (n_direct) ascending
  const double* direct_values = nullptr;  // (n, n_direct)
  Index n_direct = 0;
  const double* gram = nullptr;  // (p, p) X'WX in Gram mode, else null
};

/// One Penalties.
struct FactorsView {
  const double* l1 = nullptr;              // (p) u_j
  const double* l2 = nullptr;              // (p) v_j
  const double* fixed_l2 = nullptr;        // (p) d_j
  const std::uint8_t* excluded = nullptr;  // (p)
};

/// The problem in one slot.
struct ProblemView {
  RowsView rows;
  FactorsView factors;
  const double* basis = nullptr;  // (n, rank) W-orthonormal: the unpenalised columns
  Index rank = 0;
  double l1_ratio = 1.0;
  double y_mean = 0.0;
  double null_loss = 1.0;
  int y_exponent = 0;
  bool intercept = true;
};

/// What a round needs to know about one of its slots; entry k is position k of the round.
struct RoundSlot {
  Index slot = 0;
  Index column = 0;         // of the packed residuals and their correlations
  double lambda = 0.0;      // to be solved
  double lambda_now = 0.0;  // where the current point was solved; NaN at the start of a path
  Index n_support = 0;      // of the current point
  bool rebuild = false;     // the inverse is worn out: compute it afresh
};

/// Sums over one slot's residual.
struct SlotSums {
  double half_q;          // 1/2 sum w q^2
  double half_r_minus_q;  // 1/2 sum w (r - q)^2
  double loss;            // sum w r^2
  double held_out;        // sum of held-out weight times r^2
  double z_norm;          // |w o q|, rounded up
  double packed_norm;     // norm of the packed copy of w o q, rounded up
  double packed_error;    // norm of what packing lost, rounded up
  int z_exponent;         // packed copy = w o q * 2^-z_exponent, to rounding
  Index column;           // RoundSlot::column at that time
};

/// What comes back to the host from every round. Without padding: a copy of it would read bytes
/// that no kernel wrote.
struct SlotReport {
  double gap;  // relative
  double loss, held_out;
  Index n_violators;
  Index n_nonzero;
  Index iterations;
  Index n_dependent;
  Index exact;  // 0 or 1
};
static_assert(sizeof(SlotReport) == 3 * sizeof(double) + 5 * sizeof(Index));

/// All slots. A member "(rows) per slot" is a matrix with one column per slot.
struct WorkingSetState {
  Index n = 0, p = 0;
  Index capacity = 0;         // features a working set can hold
  Index active_capacity = 0;  // features that can be active
  Index n_words = 0;          // ceil(p / 32)

  const double* X = nullptr;     // (n, p) xhat
  const double* norm = nullptr;  // (p) |xhat_j|, rounded up

  const ProblemView* problem = nullptr;  // per slot
  double* response = nullptr;            // (n) per slot
  double* held_out_weight = nullptr;     // (n) per slot, 0 on rows that are not held out
  double* residual = nullptr;            // (n) per slot, r on all rows
  double* weighted = nullptr;            // (n) per slot, w o r
  double* projected = nullptr;           // (n) per slot, w o q; the same memory without projections

  int* feature = nullptr;              // (capacity) per slot: the working set
  int* n_working = nullptr;            // per slot
  int* n_gram = nullptr;               // per slot: how many of them have Gram products
  std::uint8_t* in_working = nullptr;  // (p) per slot
  double* coef = nullptr;              // (capacity) per slot, in the order of `feature`
  double* grad = nullptr;              // (capacity) per slot: x_j' W r, exact
  double* grad_projected = nullptr;    // (capacity) per slot: x_j' W q; the same without
  double* gram = nullptr;              // (capacity, capacity) per slot; null in Gram mode

  // The small exact solve.
  std::uint8_t* place = nullptr;     // (capacity) per slot: Place
  int* active = nullptr;             // (active_capacity) per slot: places in the working set
  int* sign = nullptr;               // (active_capacity) per slot: 0 without an L1 term
  double* frozen = nullptr;          // (active_capacity) per slot: the e_j inside `inverse`
  double* inverse = nullptr;         // (active_capacity, active_capacity) per slot
  int* n_active = nullptr;           // per slot
  double* scratch = nullptr;         // (scratch_size) per slot
  int* moved = nullptr;              // (capacity) per slot
  std::uint8_t* is_moved = nullptr;  // (capacity) per slot

  // The proof for inactive features.
  double* exact = nullptr;       // (p) per slot: x_j' W q where it had to be computed
  unsigned* mask = nullptr;      // (n_words) per slot: bit j set where |exact_j| > a_j
  SlotSums* sums = nullptr;      // per slot
  SlotReport* report = nullptr;  // per position of the round

  Index scratch_size = 0;  // 4 capacity + 6 active_capacity
};

/// X' z as the matrix product left it, by RoundSlot::column.
template <class T>
struct Correlations {
  const T* values = nullptr;  // (p, columns)
  // With half-precision inputs (else null): |x_j - xh_j| and |xh_j|, rounded up, and the relative
  // error of a sum, (n + 2) u_acc.
  const double* column_error = nullptr;  // (p)
  const double* column_norm = nullptr;   // (p)
  double sum_error = 0.0;
};

}  // namespace thresher::cuda

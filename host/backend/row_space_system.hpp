#pragma once

#include <span>
#include <vector>

#include "backend/packed_cholesky.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// K = I + X_A diag(e_A)^-1 X_A' of order n_rows, for active sets larger than the number of rows:
/// K^-1 takes the place of (X_A' X_A + diag e_A)^-1. The sum S = X_A diag(e0_A)^-1 X_A' is kept
/// while features come and go, for a fixed e0; where e = c e0, K = I + S / c.
class RowSpaceSystem {
 public:
  explicit RowSpaceSystem(Index n_rows) : n_(n_rows) {}

  void clear() { sum_.assign(static_cast<std::size_t>(n_ * n_), 0.0); }
  /// S += sign sum_k x_k x_k' / e0[k]; sign is 1 or -1.
  void add(std::span<const double* const> x, std::span<const double> e0, double sign);
  /// Factors K = I + scale S. Returns false if it is not positive definite.
  bool factor(double scale);
  /// Solves K t = b in place.
  void solve(double* b) const { factor_.solve(b, 0); }

 private:
  Index n_;
  std::vector<double> sum_;  // lower triangle, column-major
  std::vector<double> whole_, packed_;
  PackedCholesky factor_;
};

}  // namespace thresher

#pragma once

#include <span>
#include <vector>

#include "backend/aligned.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// Columns in single precision, kPanel of them side by side as in HalfPanels, for products at two
/// to three times the rate of double precision: exact to some 1e-9 |x| |y| (docs/decisions/0014).
class FloatColumns {
 public:
  explicit FloatColumns(Index n_rows) : n_rows_(n_rows) {}

  /// Puts columns x (n_rows) in these places.
  void put(std::span<const Index> places, const double* const* x);
  /// out[c * ld + k] = <x_k, x_(first + c)> of the columns in places[0 .. size), for those from
  /// `first` on.
  void cross(std::span<const Index> places, Index first, double* out, Index ld);

 private:
  // Rows added in float before the sum joins one in double; a panel's lie in the first cache.
  static constexpr Index kRows = 256;

  Index n_rows_;
  std::vector<AlignedFloats> panels_;
  // Scratch that is kept: the sides of a block of rows, interleaved; sums by panel and side.
  AlignedFloats sides_, part_;
  AlignedDoubles sums_;
};

}  // namespace thresher

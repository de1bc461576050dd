#pragma once

#include <span>
#include <vector>

#include "backend/aligned.hpp"
#include "backend/simd.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// Columns in single precision, kPanel of them side by side as in HalfPanels, for products at two
/// to three times the rate of double precision: exact to some 1e-9 |x| |y| (docs/decisions/0014).
class FloatColumns {
  // Rows added in float before the sum joins one in double; a panel's lie in the first cache.
  static constexpr Index kRows = 256;

 public:
  // Roundings of x, of what it is multiplied with, of the product and of sums, and one to spare.
  static constexpr double kCombined = 0x1p-24 * (kPanel / 4 * kMostTogether + 4);
  static constexpr double kCorrelated = 0x1p-24 * (kRows + 4);

  explicit FloatColumns(Index n_rows) : n_rows_(n_rows) {}

  /// Puts columns x (n_rows) in these places.
  void put(std::span<const Index> places, const double* const* x);
  /// out[c * ld + k] = <x_k, x_(first + c)> of the columns in places[0 .. size), for those from
  /// `first` on.
  void cross(std::span<const Index> places, Index first, double* out, Index ld);

  /// Places there are, used or not.
  Index n_places() const { return kPanel * static_cast<Index>(panels_.size()); }
  /// r += sum over all places of b[place] x, exact to kCombined |b[place]| |x| each.
  void combine(const double* b, double* r);
  /// out[place] = x' z for all places, exact to kCorrelated |x| |z|.
  void correlate(const double* z, double* out);

 private:
  Index n_rows_;
  std::vector<AlignedFloats> panels_;
  // Scratch that is kept: the sides of a block of rows, interleaved; sums by panel and side.
  AlignedFloats sides_, part_;
  AlignedDoubles sums_;
};

}  // namespace thresher

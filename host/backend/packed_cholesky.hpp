#pragma once

#include <span>
#include <vector>

#include "backend/aligned.hpp"
#include "backend/simd.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// Cholesky factor L of a symmetric positive definite matrix that grows and shrinks by single rows
/// and columns. Rows of L are contiguous and start on cache lines, in blocks of 16 rows of equal
/// length: appending is a forward substitution made of dot products and allocates a block at most;
/// removing shifts later rows.
class PackedCholesky {
 public:
  Index size() const { return size_; }
  void clear() { size_ = 0; }

  /// The new row for a column with inner products g[0 .. size()): l = L^-1 g, |l|^2 returned.
  double forward_row(const double* g, std::vector<double>& l) const;
  /// The same where l[0 .. known) is there already and l[known .. size()) holds what is left of g
  /// without it; returns the squares of the latter part.
  double forward_rest(std::vector<double>& l, Index known) const;
  /// L^-1 g in place for several columns g (size()), L read once.
  void forward_columns(std::span<double* const> columns) const;
  /// Appends the row (l, diagonal), diagonal > 0.
  void append(const std::vector<double>& l, double diagonal);
  /// Replaces L by the factor of a whole matrix, given as the upper triangle of a column-major
  /// (n, n) array, which is spoilt. Returns false, and leaves L empty, if it is not positive
  /// definite or a pivot is below `tiny` of its diagonal entry.
  bool factor(Index n, double* upper, double tiny);
  /// Removes rows and columns `positions`, ascending, in one sweep. O((size - position)^2) each.
  void remove(std::span<const Index> positions);

  /// Solves L L' x = b in place; b[0 .. first_nonzero) is known to be 0.
  void solve(double* b, Index first_nonzero) const;
  /// Solves L' x = b in place.
  void solve_transposed(double* b) const;

 private:
  static constexpr Index kRows = kTriangleRows;  // of a block

  /// From row i to the next of its block.
  static Index stride(Index i) { return kRows * (i / kRows + 1); }
  double* row(Index i) {
    return blocks_[static_cast<std::size_t>(i / kRows)].data() + i % kRows * stride(i);
  }
  const double* row(Index i) const { return const_cast<PackedCholesky*>(this)->row(i); }
  void make_room(Index n);
  /// b[start .. stop) to the solution of these rows of L, of which columns before `start` are left
  /// out; start is a multiple of kRows.
  void solve_rows(Index start, Index stop, double* b) const;

  Index size_ = 0;
  std::vector<AlignedDoubles> blocks_;
};

}  // namespace thresher

#pragma once

#include <string_view>
#include <vector>

#include "readers/matrix_file.hpp"
#include "readers/memory_guard.hpp"
#include "readers/text_lines.hpp"

namespace thresher {

struct SparseEntry {
  Index row = 0;
  Index col = 0;
  double value = 0.0;
};

/// The entries of a sparse file, kept until it has been read to its end and found sound: only then
/// is the dense matrix allocated.
class SparseEntries {
 public:
  explicit SparseEntries(const MemoryGuard& memory) : memory_(memory) {}

  /// Throws   Error{kOutOfMemory} beyond the limit.
  void add(const SparseEntry& entry);

  /// Fills `out` with rows x cols values, column-major, entries in the same place added up;
  /// `shift` is taken off every column.
  /// Throws   Error{kOutOfMemory} before it allocates beyond the limit.
  void make_dense(Index rows, Index cols, Index shift, MatrixFile& out) const;

 private:
  const MemoryGuard& memory_;
  std::vector<SparseEntry> entries_;
};

/// The number in `text`, nan and inf included; with `as_float` it must be within float's range.
/// Throws   Error{kInvalidArgument} at `column` of the present line, calling it `what`.
double require_number(const TextLines& lines, Index column, std::string_view what,
                      std::string_view text, bool as_float);

}  // namespace thresher

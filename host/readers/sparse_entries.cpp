#include "readers/sparse_entries.hpp"

#include <algorithm>
#include <cmath>

#include "readers/number_text.hpp"

namespace thresher {
namespace {

template <class T>
void scatter(const std::vector<SparseEntry>& entries, Index rows, Index cols, Index shift,
             std::vector<T>& out) {
  out.assign(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols), T(0));
  for (const SparseEntry& entry : entries) {
    T& place = out[static_cast<std::size_t>((entry.col - shift) * rows + entry.row)];
    place = static_cast<T>(place + entry.value);
  }
}

}  // namespace

void SparseEntries::add(const SparseEntry& entry) {
  if (entries_.size() == entries_.capacity()) {
    const std::size_t most = memory_.limit() / sizeof(SparseEntry);
    memory_.require((entries_.size() + 1) * sizeof(SparseEntry));
    entries_.reserve(std::min(most, std::max<std::size_t>(1024, 2 * entries_.size())));
  }
  entries_.push_back(entry);
}

void SparseEntries::make_dense(Index rows, Index cols, Index shift, MatrixFile& out) const {
  memory_.require_matrix(rows, cols, out.is_float ? sizeof(float) : sizeof(double),
                         entries_.size() * sizeof(SparseEntry));
  out.rows = rows;
  out.cols = cols;
  out.column_major = true;
  if (out.is_float) {
    scatter(entries_, rows, cols, shift, out.f32);
  } else {
    scatter(entries_, rows, cols, shift, out.f64);
  }
}

double require_number(const TextLines& lines, Index column, std::string_view what,
                      std::string_view text, bool as_float) {
  const NumberText number = parse_number(text);
  const bool is_number =
      number.kind == NumberKind::kNumber || number.kind == NumberKind::kNotANumber;
  const bool overflows =
      as_float && std::isfinite(number.value) && std::isinf(static_cast<float>(number.value));
  if (number.kind == NumberKind::kOutOfRange || (is_number && overflows)) {
    lines.refuse(column, std::string(what) + " must be within the range of " +
                             (overflows ? "float" : "double") + ", got " + in_quotes(text));
  }
  if (!is_number) {
    lines.refuse(column, std::string(what) + " must be a number, got " + in_quotes(text));
  }
  return number.value;
}

}  // namespace thresher

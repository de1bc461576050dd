#include <algorithm>
#include <limits>

#include "readers/matrix_readers.hpp"
#include "readers/number_text.hpp"
#include "readers/sparse_entries.hpp"
#include "readers/text_lines.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr Index kNone = -1;

// Reads the `index:value` token last given by `tokens`; `before` is the line's previous index.
SparseEntry parse_entry(const TextLines& lines, const LineTokens& tokens, std::string_view token,
                        Index row, Index before, bool as_float) {
  const std::size_t colon = token.find(':');
  if (colon == std::string_view::npos) {
    lines.refuse(tokens.column(), "entry must be index:value, got " + in_quotes(token));
  }
  const std::string_view name = token.substr(0, colon);
  if (name == "qid") {
    lines.refuse(tokens.column(), "qid must be absent (ranking data), got " + in_quotes(token));
  }
  SparseEntry entry{row, 0, 0.0};
  if (!parse_index(name, entry.col) || entry.col < 0) {
    lines.refuse(tokens.column(), "index must be an integer of at least 0, got " + in_quotes(name));
  }
  if (entry.col <= before) {
    lines.refuse(tokens.column(), "indices must ascend within a line, got " + in_quotes(name) +
                                      " after " + std::to_string(before));
  }
  entry.value = require_number(lines, tokens.column() + static_cast<Index>(colon) + 1, "value",
                               token.substr(colon + 1), as_float);
  return entry;
}

}  // namespace

MatrixFile read_svmlight(ByteSource& source, const ReadOptions& options) {
  const MemoryGuard memory(source.name(), options.max_bytes);
  SparseEntries entries(memory);
  MatrixFile out;
  out.is_float = options.as_float;
  Index least = std::numeric_limits<Index>::max();
  Index largest = kNone;

  TextLines lines(source);
  std::string_view line;
  while (lines.next(line)) {
    LineTokens tokens(line.substr(0, line.find('#')));
    std::string_view token = tokens.next();
    if (token.empty()) continue;
    const Index row = static_cast<Index>(out.labels.size());
    memory.require_matrix(row + 1, 1, sizeof(double));
    out.labels.push_back(require_number(lines, tokens.column(), "label", token, false));
    Index before = kNone;
    while (!(token = tokens.next()).empty()) {
      const SparseEntry entry = parse_entry(lines, tokens, token, row, before, options.as_float);
      entries.add(entry);
      before = entry.col;
      least = std::min(least, entry.col);
      largest = std::max(largest, entry.col);
    }
  }
  if (largest == kNone) {
    throw Error(Errc::kInvalidArgument,
                source.name() + ": file must have at least one row and one entry, got " +
                    std::to_string(out.labels.size()) + " rows without entries");
  }
  const Index base = least == 0 ? 0 : 1;
  // largest = 2^63 - 1 with base 0 would wrap; nothing near it can be made dense.
  const Index cols =
      base == 0 ? std::min(largest, std::numeric_limits<Index>::max() - 1) + 1 : largest;
  entries.make_dense(static_cast<Index>(out.labels.size()), cols, base, out);
  return out;
}

}  // namespace thresher

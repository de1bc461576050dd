#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "readers/matrix_readers.hpp"
#include "readers/number_text.hpp"
#include "readers/sparse_entries.hpp"
#include "readers/text_lines.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

class MatrixMarketReader {
 public:
  MatrixMarketReader(ByteSource& source, const ReadOptions& options)
      : source_(source),
        options_(options),
        memory_(source.name(), options.max_bytes),
        lines_(source) {}

  MatrixFile read() {
    read_banner();
    read_sizes();
    MatrixFile out;
    out.is_float = options_.as_float;
    SparseEntries entries(memory_);
    if (coordinate_) {
      read_coordinates(entries);
      expect_end();
      entries.make_dense(rows_, cols_, 0, out);
    } else {
      out.rows = rows_;
      out.cols = cols_;
      if (out.is_float) {
        read_array(out.f32);
      } else {
        read_array(out.f64);
      }
    }
    return out;
  }

 private:
  void read_banner() {
    std::string_view line;
    if (!lines_.next(line)) refuse_file("file must start with %%MatrixMarket, got an empty file");
    LineTokens tokens(line);
    if (lower(tokens.next()) != "%%matrixmarket") {
      lines_.refuse(1, "file must start with %%MatrixMarket, got " + in_quotes(line));
    }
    pick(tokens, "object", {"matrix"});
    coordinate_ = pick(tokens, "format", {"coordinate", "array"}) == "coordinate";
    const std::string field =
        pick(tokens, "field", {"real", "double", "integer", "unsigned-integer", "pattern"});
    pattern_ = field == "pattern";
    if (pattern_ && !coordinate_) {
      lines_.refuse(tokens.column(), "field must be a number type in array format, got 'pattern'");
    }
    symmetric_ = pick(tokens, "symmetry", {"general", "symmetric"}) == "symmetric";
    expect_line_end(tokens);
  }

  // The next word of the banner, which must be one of `known`.
  std::string pick(LineTokens& tokens, const char* what,
                   std::initializer_list<std::string_view> known) {
    const std::string_view token = tokens.next();
    std::string rule;
    for (const std::string_view word : known) {
      if (lower(token) == word) return std::string(word);
      rule += (rule.empty() ? "" : ", ") + std::string(word);
    }
    lines_.refuse(tokens.column(),
                  std::string(what) + " must be one of: " + rule + "; got " + in_quotes(token));
  }

  void read_sizes() {
    std::string_view line;
    if (!next_content(line)) refuse_file("file must have a line of sizes, got its end");
    LineTokens tokens(line);
    rows_ = take_integer(tokens, "number of rows", 1);
    cols_ = take_integer(tokens, "number of columns", 1);
    if (symmetric_ && rows_ != cols_) {
      lines_.refuse(1, "symmetric matrix must be square, got " + std::to_string(rows_) + " x " +
                           std::to_string(cols_));
    }
    // A symmetric file holds the lower triangle alone, n (n + 1) / 2 places.
    std::int64_t places = 0;
    std::int64_t doubled = 0;
    const bool fits = symmetric_ ? !__builtin_mul_overflow(rows_, cols_, &doubled) &&
                                       !__builtin_add_overflow(doubled, rows_, &doubled)
                                 : !__builtin_mul_overflow(rows_, cols_, &places);
    if (symmetric_) places = doubled / 2;
    if (!fits) {
      lines_.refuse(1, "rows times columns must fit 63 bits, got " + std::to_string(rows_) + " x " +
                           std::to_string(cols_));
    }
    count_ = places;
    if (coordinate_) {
      count_ = take_integer(tokens, "number of entries", 0);
      if (count_ > places) {
        lines_.refuse(tokens.column(), "number of entries must be at most " +
                                           std::to_string(places) + ", got " +
                                           std::to_string(count_));
      }
    }
    expect_line_end(tokens);
    // Shortest entries: "1 1\n" for a pattern, "1 1 1\n" with a value, "1\n" in an array.
    const std::uint64_t least = !coordinate_ ? 2 : pattern_ ? 4 : 6;
    const auto most = source_.largest_size();
    if (most && static_cast<std::uint64_t>(count_) > (*most + 1) / least) {
      lines_.refuse(1, "file must hold the " + std::to_string(count_) +
                           " entries it declares, got at most " + std::to_string(*most) + " bytes");
    }
    memory_.require_matrix(rows_, cols_, options_.as_float ? sizeof(float) : sizeof(double));
  }

  void read_coordinates(SparseEntries& entries) {
    std::string_view line;
    for (Index k = 0; k < count_; ++k) {
      if (!next_content(line)) refuse_count(k);
      LineTokens tokens(line);
      SparseEntry entry;
      entry.row = take_integer(tokens, "row", 1, rows_) - 1;
      entry.col = take_integer(tokens, "column", 1, cols_) - 1;
      if (symmetric_ && entry.col > entry.row) {
        lines_.refuse(tokens.column(),
                      "entry of a symmetric matrix must lie on or below the diagonal, got row " +
                          std::to_string(entry.row + 1) + ", column " +
                          std::to_string(entry.col + 1));
      }
      entry.value = pattern_ ? 1.0 : take_number(tokens);
      expect_line_end(tokens);
      entries.add(entry);
      if (symmetric_ && entry.row != entry.col) entries.add({entry.col, entry.row, entry.value});
    }
  }

  // Columns one below the other, from the diagonal down if symmetric. The values are collected
  // first, so that memory grows with the file and not with what it declares.
  template <class T>
  void read_array(std::vector<T>& out) {
    std::string_view line;
    if (source_.size()) out.reserve(static_cast<std::size_t>(count_));
    for (Index k = 0; k < count_; ++k) {
      if (!next_content(line)) refuse_count(k);
      LineTokens tokens(line);
      out.push_back(static_cast<T>(take_number(tokens)));
      expect_line_end(tokens);
    }
    expect_end();
    if (symmetric_) out = unfold(out);
  }

  template <class T>
  std::vector<T> unfold(const std::vector<T>& lower_triangle) const {
    memory_.require_matrix(rows_, cols_, sizeof(T), lower_triangle.size() * sizeof(T));
    const auto n = static_cast<std::size_t>(rows_);
    std::vector<T> full(n * n);
    std::size_t next = 0;
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = j; i < n; ++i) {
        full[j * n + i] = full[i * n + j] = lower_triangle[next++];
      }
    }
    return full;
  }

  bool next_content(std::string_view& line) {
    while (lines_.next(line)) {
      const std::string_view content = trim(line);
      if (!content.empty() && content[0] != '%') return true;
    }
    return false;
  }

  Index take_integer(LineTokens& tokens, const char* what, Index least, Index most = INT64_MAX) {
    const std::string_view token = tokens.next();
    Index value = 0;
    if (!parse_index(token, value) || value < least || value > most) {
      const std::string rule =
          most == INT64_MAX ? "an integer of at least " + std::to_string(least)
                            : "within " + std::to_string(least) + " .. " + std::to_string(most);
      lines_.refuse(tokens.column(),
                    std::string(what) + " must be " + rule + ", got " + in_quotes(token));
    }
    return value;
  }

  double take_number(LineTokens& tokens) {
    const std::string_view token = tokens.next();
    return require_number(lines_, tokens.column(), "value", token, options_.as_float);
  }

  void expect_line_end(LineTokens& tokens) {
    const std::string_view token = tokens.next();
    if (!token.empty()) {
      lines_.refuse(tokens.column(), "line must end here, got " + in_quotes(token));
    }
  }

  void expect_end() {
    std::string_view line;
    if (next_content(line)) {
      lines_.refuse(1, "file must end after its " + std::to_string(count_) + " entries, got " +
                           in_quotes(line));
    }
  }

  [[noreturn]] void refuse_count(Index got) const {
    refuse_file("file must hold the " + std::to_string(count_) + " entries it declares, got " +
                std::to_string(got));
  }

  [[noreturn]] void refuse_file(const std::string& message) const {
    throw Error(Errc::kInvalidArgument, source_.name() + ": " + message);
  }

  ByteSource& source_;
  const ReadOptions& options_;
  MemoryGuard memory_;
  TextLines lines_;
  bool coordinate_ = false;
  bool pattern_ = false;
  bool symmetric_ = false;
  Index rows_ = 0;
  Index cols_ = 0;
  Index count_ = 0;
};

}  // namespace

MatrixFile read_matrix_market(ByteSource& source, const ReadOptions& options) {
  return MatrixMarketReader(source, options).read();
}

}  // namespace thresher

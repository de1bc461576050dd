#pragma once

#include <string_view>
#include <vector>

#include "readers/byte_source.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// Gives a stream line by line, without LF or CR LF and without a byte order mark.
class TextLines {
 public:
  explicit TextLines(ByteSource& source);

  /// The next line, valid until the next call; false at the end.
  /// Throws   Error{kInvalidArgument} if a line is longer than 256 MiB.
  bool next(std::string_view& line);

  /// Number of the line last given, from 1.
  Index number() const { return number_; }

  /// Throws Error{kInvalidArgument} `function: path:line:column: message` for the line last given.
  [[noreturn]] void refuse(Index column, const std::string& message) const;

 private:
  bool refill();

  ByteSource& source_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool at_end_ = false;
  Index number_ = 0;
};

/// Takes a line apart at blanks and tabs.
class LineTokens {
 public:
  explicit LineTokens(std::string_view line) : line_(line) {}

  /// The next token, empty at the end of the line.
  std::string_view next();

  /// Byte position from 1 of the token last given (one past the line at its end).
  Index column() const { return static_cast<Index>(token_begin_) + 1; }

 private:
  std::string_view line_;
  std::size_t position_ = 0;
  std::size_t token_begin_ = 0;
};

}  // namespace thresher

#pragma once

#include <string_view>
#include <vector>

#include "readers/byte_source.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// One field of a CSV record, valid until the next is read.
struct CsvField {
  std::string_view text;  ///< without quotes, doubled quotes undone, blanks around it removed
  bool quoted = false;
  bool ends_record = false;
  Index line = 0;    ///< where the field begins, from 1
  Index column = 0;  ///< number of the field in its record, from 1
};

/// Splits a stream into CSV fields (RFC 4180, LF or CR LF, byte order mark skipped). Empty lines
/// before the first and after the last record are skipped.
class CsvFields {
 public:
  CsvFields(ByteSource& source, char separator);

  /// False at the end of the stream.
  /// Throws   Error{kInvalidArgument} with line and column: quote left open, quote inside a field,
  ///          text after a closing quote, NUL, a field longer than 1 MiB.
  bool next(CsvField& field);

  /// Bytes taken from the stream so far.
  std::uint64_t position() const { return taken_ - (end_ - begin_); }

  /// Throws Error{kInvalidArgument} `function: path:line:column: message`.
  [[noreturn]] void refuse(Index line, Index column, const std::string& message) const;

 private:
  bool next_raw(CsvField& field);
  void read_plain(CsvField& field);
  void read_quoted(CsvField& field);
  void end_field(CsvField& field, std::size_t stop);
  bool more(std::size_t& position);
  bool at(std::size_t& position, char c);

  ByteSource& source_;
  char separator_;
  bool stops_field_[256] = {};
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what is not used yet
  std::size_t end_ = 0;
  std::uint64_t taken_ = 0;
  std::string unescaped_;
  bool source_ended_ = false;
  bool seen_record_ = false;
  Index line_ = 1;
  Index column_ = 1;
  CsvField held_;  // the field after empty lines that turned out not to be the last ones
  bool has_held_ = false;
  Index empty_lines_ = 0;  // to be given before held_
  Index empty_line_ = 0;   // number of the first of them
};

}  // namespace thresher

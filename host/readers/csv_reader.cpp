#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "readers/csv_fields.hpp"
#include "readers/matrix_readers.hpp"
#include "readers/memory_guard.hpp"
#include "readers/number_text.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

struct StoredField {
  std::string text;
  bool quoted;
  Index line;
  Index column;
};

using Record = std::vector<StoredField>;

bool is_number(const StoredField& field) {
  const NumberKind kind = parse_number(field.text).kind;
  return kind == NumberKind::kNumber || kind == NumberKind::kOutOfRange;
}

bool is_text(const StoredField& field) {
  return parse_number(field.text).kind == NumberKind::kText;
}

// Whether the row begins with a name: text, or a number quoted where the next is not.
bool begins_with_name(const Record& row) {
  return row.size() > 1 && (is_text(row[0]) || (row[0].quoted && !row[1].quoted));
}

// Reads the first two records, which decide about header and row names, then streams the rest.
class CsvReader {
 public:
  CsvReader(ByteSource& source, char separator, const ReadOptions& options)
      : source_(source),
        options_(options),
        memory_(source.name(), options.max_bytes),
        fields_(source, separator) {}

  template <class T>
  void read(MatrixFile& out, std::vector<T>& values) {
    const Record first = read_record();
    if (first.empty()) refuse_file("file must have at least one row, got none");
    const std::uint64_t second_begin = fields_.position();
    const Record second = read_record();
    const std::uint64_t second_bytes = fields_.position() - second_begin;
    choose_layout(first, second);
    if (has_header_) {
      take_header(first, out);
      if (second.empty()) refuse_file("file must have a row of numbers, got only a header");
    }
    n_fields_ = static_cast<Index>(first.size()) + (header_is_short_ ? 1 : 0);
    out.cols = n_fields_ - (has_row_names_ ? 1 : 0);
    if (source_.size() && second_bytes > 0) {
      reserve_rows<T>(*source_.size() / second_bytes + 2, out, values);
    }

    if (!has_header_) replay(first, out, values);
    replay(second, out, values);
    CsvField field;
    while (fields_.next(field)) store(field, out, values);
  }

 private:
  Record read_record() {
    Record record;
    CsvField field;
    while (fields_.next(field)) {
      memory_.require((record.size() + 1) * sizeof(StoredField));
      record.push_back({std::string(field.text), field.quoted, field.line, field.column});
      if (field.ends_record) break;
    }
    return record;
  }

  void choose_layout(const Record& first, const Record& second) {
    // Numbers may be quoted as well; they are names where the next record's are not quoted.
    const auto is_name = [&](std::size_t j) {
      const bool quoted_alone = first[j].quoted && j < second.size() &&
                                second.size() == first.size() && !second[j].quoted;
      return is_text(first[j]) || (quoted_alone && !first[j].text.empty());
    };
    const std::size_t n = first.size();
    std::size_t name = n;  // the first name; field 0 may name a row
    std::size_t number = n;
    for (std::size_t j = n > 1 ? 1 : 0; j < n; ++j) {
      if (is_name(j)) {
        name = std::min(name, j);
      } else if (is_number(first[j])) {
        number = std::min(number, j);
      }
    }
    has_header_ = name < n || counts_columns(first);
    if (name < n && number < n) {
      const std::size_t j = std::max(name, number);
      fields_.refuse(first[j].line, first[j].column,
                     "first row must hold only names or only numbers, got " +
                         in_quotes(first[name].text) + " and " + in_quotes(first[number].text) +
                         " (quote a name that looks like a number)");
    }
    if (!has_header_) {
      has_row_names_ = begins_with_name(first);
      return;
    }
    header_is_short_ = second.size() == n + 1 && begins_with_name(second);
    has_row_names_ =
        header_is_short_ || (n > 1 && (first[0].text.empty() || begins_with_name(second)));
  }

  // pandas writes a frame without names as ",0,1,2".
  static bool counts_columns(const Record& first) {
    if (first.size() < 2 || !first[0].text.empty()) return false;
    for (std::size_t j = 1; j < first.size(); ++j) {
      if (first[j].text != std::to_string(j - 1)) return false;
    }
    return true;
  }

  void take_header(const Record& first, MatrixFile& out) const {
    for (std::size_t j = has_row_names_ && !header_is_short_ ? 1 : 0; j < first.size(); ++j) {
      out.column_names.push_back(first[j].text);
    }
  }

  // A guess from the length of one row; only what is written to becomes resident.
  template <class T>
  void reserve_rows(std::uint64_t n_rows, const MatrixFile& out, std::vector<T>& values) const {
    const auto bytes = matrix_bytes(static_cast<Index>(n_rows), out.cols, sizeof(T));
    if (bytes) values.reserve(std::min<std::uint64_t>(*bytes, memory_.limit()) / sizeof(T));
  }

  template <class T>
  void replay(const Record& record, MatrixFile& out, std::vector<T>& values) {
    for (std::size_t j = 0; j < record.size(); ++j) {
      const StoredField& stored = record[j];
      store(
          CsvField{stored.text, stored.quoted, j + 1 == record.size(), stored.line, stored.column},
          out, values);
    }
  }

  template <class T>
  void store(const CsvField& field, MatrixFile& out, std::vector<T>& values) {
    if (field.column == 1) begin_row(out, values);
    if (field.column > n_fields_ || (field.ends_record && field.column < n_fields_)) {
      refuse_ragged(field);
    }
    if (field.column == 1 && has_row_names_) {
      out.row_names.emplace_back(field.text);
    } else {
      values.push_back(number<T>(field));
    }
    if (field.ends_record) ++out.rows;
  }

  template <class T>
  void begin_row(const MatrixFile& out, std::vector<T>& values) {
    memory_.require_matrix(out.rows + 1, out.cols, sizeof(T));
    const auto cols = static_cast<std::size_t>(out.cols);
    if (values.capacity() - values.size() >= cols) return;
    const std::size_t most = memory_.limit() / sizeof(T);
    values.reserve(std::min(most, std::max(2 * values.size(), values.size() + cols)));
  }

  template <class T>
  T number(const CsvField& field) const {
    const NumberText number = parse_number(field.text);
    switch (number.kind) {
      case NumberKind::kNumber:
        break;
      case NumberKind::kNotANumber:
      case NumberKind::kMissing:
        if (options_.allow_missing) return static_cast<T>(number.value);
        fields_.refuse(field.line, field.column,
                       "field must be a number, got a missing value " + in_quotes(field.text));
      case NumberKind::kText:
        fields_.refuse(field.line, field.column,
                       "field must be a number, got " + in_quotes(field.text));
      case NumberKind::kOutOfRange:
        fields_.refuse(field.line, field.column,
                       "field must be within the range of double, got " + in_quotes(field.text));
    }
    const T value = static_cast<T>(number.value);
    if constexpr (std::is_same_v<T, float>) {
      if (std::isinf(value) && !std::isinf(number.value)) {
        fields_.refuse(field.line, field.column,
                       "field must be within the range of float, got " + in_quotes(field.text));
      }
    }
    return value;
  }

  // `field` is the last of a short row or the first too many of a long one.
  [[noreturn]] void refuse_ragged(const CsvField& field) {
    Index got = field.column;
    const Index line = field.line;
    CsvField rest = field;
    while (!rest.ends_record && fields_.next(rest)) got = rest.column;
    fields_.refuse(
        line, std::min(got, n_fields_) + 1,
        "row must have " + std::to_string(n_fields_) + " fields, got " + std::to_string(got));
  }

  [[noreturn]] void refuse_file(const std::string& message) const {
    throw Error(Errc::kInvalidArgument, source_.name() + ": " + message);
  }

  ByteSource& source_;
  const ReadOptions& options_;
  MemoryGuard memory_;
  CsvFields fields_;
  bool has_header_ = false;
  bool has_row_names_ = false;
  bool header_is_short_ = false;  // it has no field above the row names
  Index n_fields_ = 0;
};

}  // namespace

MatrixFile read_csv(ByteSource& source, char separator, const ReadOptions& options) {
  MatrixFile out;
  out.column_major = false;
  out.is_float = options.as_float;
  CsvReader reader(source, separator, options);
  if (out.is_float) {
    reader.read(out, out.f32);
  } else {
    reader.read(out, out.f64);
  }
  return out;
}

}  // namespace thresher

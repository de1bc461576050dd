#include "readers/csv_fields.hpp"

#include <algorithm>
#include <cstring>

#include "readers/number_text.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kFirstBuffer = std::size_t{1} << 16;  // untuned; grows with a longer field
constexpr std::size_t kLongestField = std::size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_empty_line(const CsvField& field) {
  return field.column == 1 && field.ends_record && !field.quoted && field.text.empty();
}

}  // namespace

CsvFields::CsvFields(ByteSource& source, char separator)
    : source_(source), separator_(separator), buffer_(kFirstBuffer) {
  for (const char c : {separator, '\n', '"', '\0'}) {
    stops_field_[static_cast<unsigned char>(c)] = true;
  }
  std::size_t position = 0;
  more(position);
  if (std::string_view(buffer_.data(), end_).starts_with(kByteOrderMark)) {
    begin_ = kByteOrderMark.size();
  }
}

bool CsvFields::next(CsvField& field) {
  if (!has_held_) {
    if (!next_raw(field)) return false;
    if (!is_empty_line(field)) {
      seen_record_ = true;
      return true;
    }
    empty_line_ = field.line;
    do {
      ++empty_lines_;
      if (!next_raw(held_)) return false;
    } while (is_empty_line(held_));
    has_held_ = true;
    if (!seen_record_) empty_lines_ = 0;
    seen_record_ = true;
  }
  if (empty_lines_ > 0) {
    --empty_lines_;
    field = CsvField{{}, false, true, empty_line_++, 1};
    return true;
  }
  has_held_ = false;
  field = held_;
  return true;
}

bool CsvFields::next_raw(CsvField& field) {
  std::size_t position = begin_;
  // A record that ends in a separator has an empty last field, also at the end of the stream.
  if (!more(position) && column_ == 1) return false;
  field = CsvField{{}, false, false, line_, column_};
  while (at(position, ' ') || (separator_ != '\t' && at(position, '\t'))) ++position;
  if (at(position, '"')) {
    begin_ = position;
    read_quoted(field);
  } else {
    read_plain(field);
  }
  return true;
}

// Whether there is a byte at `position`, reading on if need be. Reading on moves what is not used
// yet to the front of the buffer, and `position` with it.
bool CsvFields::more(std::size_t& position) {
  if (position < end_) return true;
  if (source_ended_) return false;
  if (end_ - begin_ >= kLongestField) {
    refuse(line_, column_,
           "field must be at most " + std::to_string(kLongestField) +
               " bytes long, got more (is a quote left open?)");
  }
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  position -= begin_;
  end_ -= begin_;
  begin_ = 0;
  if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
  const std::size_t got = source_.read(buffer_.data() + end_, buffer_.size() - end_);
  source_ended_ = got < buffer_.size() - end_;
  end_ += got;
  taken_ += got;
  return got > 0;
}

bool CsvFields::at(std::size_t& position, char c) {
  return more(position) && buffer_[position] == c;
}

void CsvFields::read_plain(CsvField& field) {
  std::size_t position = begin_;
  while (more(position) && !stops_field_[static_cast<unsigned char>(buffer_[position])]) {
    ++position;
  }
  const bool ended = position == end_;
  if (!ended && buffer_[position] == '\0') {
    refuse(field.line, field.column, "field must be text, got a NUL byte");
  }
  if (!ended && buffer_[position] == '"') {
    refuse(field.line, field.column,
           "field with a quote must be quoted as a whole, got " +
               in_quotes({buffer_.data() + begin_, position + 1 - begin_}));
  }
  std::size_t stop = position;
  if (stop > begin_ && buffer_[stop - 1] == '\r' && (ended || buffer_[position] == '\n')) --stop;
  field.text = trim({buffer_.data() + begin_, stop - begin_});
  end_field(field, position);
}

// begin_ is at the opening quote.
void CsvFields::read_quoted(CsvField& field) {
  std::size_t position = begin_ + 1;
  std::size_t length = 0;  // of the text, that is up to the closing quote
  bool has_doubled_quote = false;
  for (;;) {
    while (more(position) && buffer_[position] != '"') ++position;
    if (position == end_) {
      refuse(field.line, field.column, "quote must be closed, got the end of the file");
    }
    length = position - begin_ - 1;
    ++position;
    if (!at(position, '"')) break;
    has_doubled_quote = true;
    ++position;
  }
  while (at(position, ' ') || (separator_ != '\t' && at(position, '\t')) || at(position, '\r')) {
    ++position;
  }
  if (position < end_ && buffer_[position] != separator_ && buffer_[position] != '\n') {
    refuse(field.line, field.column,
           "closing quote must be followed by a separator, got " +
               in_quotes({buffer_.data() + position, 1}));
  }
  field.quoted = true;
  field.text = {buffer_.data() + begin_ + 1, length};
  if (field.text.find('\0') != std::string_view::npos) {
    refuse(field.line, field.column, "field must be text, got a NUL byte");
  }
  line_ += std::count(field.text.begin(), field.text.end(), '\n');
  if (has_doubled_quote) {
    unescaped_.clear();
    for (std::size_t i = 0; i < length; ++i) {
      unescaped_ += field.text[i];
      if (field.text[i] == '"') ++i;
    }
    field.text = unescaped_;
  }
  end_field(field, position);
}

void CsvFields::end_field(CsvField& field, std::size_t stop) {
  field.ends_record = stop == end_ || buffer_[stop] == '\n';
  begin_ = stop == end_ ? stop : stop + 1;
  if (field.ends_record) {
    ++line_;
    column_ = 1;
  } else {
    ++column_;
  }
}

void CsvFields::refuse(Index line, Index column, const std::string& message) const {
  throw Error(Errc::kInvalidArgument, source_.name() + ":" + std::to_string(line) + ":" +
                                          std::to_string(column) + ": " + message);
}

}  // namespace thresher

#include "readers/text_lines.hpp"

#include <cstring>

#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kFirstBuffer = std::size_t{1} << 16;  // untuned
constexpr std::size_t kLongestLine = std::size_t{1} << 28;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

TextLines::TextLines(ByteSource& source) : source_(source), buffer_(kFirstBuffer) {
  refill();
  if (std::string_view(buffer_.data(), end_).starts_with(kByteOrderMark)) {
    begin_ = kByteOrderMark.size();
  }
}

bool TextLines::refill() {
  if (at_end_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == buffer_.size()) {
    if (buffer_.size() >= kLongestLine) {
      ++number_;
      refuse(1, "line must be at most " + std::to_string(kLongestLine) + " bytes long, got more");
    }
    buffer_.resize(2 * buffer_.size());
  }
  const std::size_t got = source_.read(buffer_.data() + end_, buffer_.size() - end_);
  at_end_ = got < buffer_.size() - end_;
  end_ += got;
  return got > 0;
}

bool TextLines::next(std::string_view& line) {
  std::size_t searched = 0;
  for (;;) {
    const char* first = buffer_.data() + begin_;
    const std::size_t length = end_ - begin_;
    const void* newline =
        length > searched ? std::memchr(first + searched, '\n', length - searched) : nullptr;
    if (newline == nullptr) {
      searched = length;
      if (refill()) continue;
      if (begin_ == end_) return false;
    }
    first = buffer_.data() + begin_;
    const std::size_t size =
        newline == nullptr ? end_ - begin_
                           : static_cast<std::size_t>(static_cast<const char*>(newline) - first);
    line = std::string_view(first, size);
    begin_ += size + (newline == nullptr ? 0 : 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number_;
    return true;
  }
}

void TextLines::refuse(Index column, const std::string& message) const {
  throw Error(Errc::kInvalidArgument, source_.name() + ":" + std::to_string(number_) + ":" +
                                          std::to_string(column) + ": " + message);
}

std::string_view LineTokens::next() {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (position_ < line_.size() && is_blank(line_[position_])) ++position_;
  token_begin_ = position_;
  while (position_ < line_.size() && !is_blank(line_[position_])) ++position_;
  return line_.substr(token_begin_, position_ - token_begin_);
}

}  // namespace thresher

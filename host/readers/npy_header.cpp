#include "readers/npy_header.hpp"

#include <charconv>

#include "readers/number_text.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::uint64_t kLongestHeader = std::uint64_t{1} << 20;

// Reads the Python dictionary {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  HeaderParser(const ByteSource& source, std::string_view text, std::uint64_t first_byte)
      : source_(source), text_(text), first_byte_(first_byte) {}

  void parse(NpyHeader& header) {
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    expect('{');
    while (!take('}')) {
      skip_blanks();
      const std::size_t key_position = position_;
      const std::string key = parse_string();
      expect(':');
      if (key == "descr" && !has_descr) {
        skip_blanks();
        if (position_ < text_.size() && text_[position_] == '[') {
          refuse(position_, "descr must be a plain number type, got a structured one");
        }
        header.descr = parse_string();
        has_descr = true;
      } else if (key == "fortran_order" && !has_order) {
        header.fortran_order = parse_bool();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        header.shape = parse_shape();
        has_shape = true;
      } else {
        refuse(key_position, "header keys must be descr, fortran_order and shape, once each, got " +
                                 in_quotes(key));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (position_ != text_.size()) refuse(position_, "header must end after its '}', got more");
    if (!has_descr || !has_order || !has_shape) {
      refuse(0, "header must have descr, fortran_order and shape, got " + in_quotes(text_));
    }
  }

 private:
  void skip_blanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n' ||
                                        text_[position_] == '\t' || text_[position_] == '\r')) {
      ++position_;
    }
  }

  bool take(char c) {
    skip_blanks();
    if (position_ == text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }

  void expect(char c) {
    if (take(c)) return;
    refuse(position_, std::string("header must have '") + c + "' here, got " +
                          in_quotes(text_.substr(position_, 10)));
  }

  std::string parse_string() {
    skip_blanks();
    const char quote = position_ < text_.size() ? text_[position_] : '\0';
    const std::size_t end =
        quote == '\'' || quote == '"' ? text_.find(quote, position_ + 1) : std::string_view::npos;
    if (end == std::string_view::npos) {
      refuse(position_,
             "header must have a quoted word here, got " + in_quotes(text_.substr(position_, 10)));
    }
    std::string word(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return word;
  }

  bool parse_bool() {
    skip_blanks();
    const std::string_view rest = text_.substr(position_);
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (!rest.starts_with(word)) continue;
      position_ += word.size();
      return value;
    }
    refuse(position_,
           "fortran_order must be True or False, got " + in_quotes(text_.substr(position_, 10)));
  }

  std::vector<Index> parse_shape() {
    std::vector<Index> shape;
    expect('(');
    while (!take(')')) {
      skip_blanks();
      const char* first = text_.data() + position_;
      Index size = 0;
      const auto [stop, error] = std::from_chars(first, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) {
        refuse(position_, "shape must hold sizes of at least 0 that fit 63 bits, got " +
                              in_quotes(text_.substr(position_, 24)));
      }
      position_ += static_cast<std::size_t>(stop - first);
      shape.push_back(size);
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  [[noreturn]] void refuse(std::size_t position, const std::string& message) const {
    refuse_at_byte(source_, first_byte_ + position, message);
  }

  const ByteSource& source_;
  std::string_view text_;
  std::uint64_t first_byte_;
  std::size_t position_ = 0;
};

}  // namespace

void refuse_at_byte(const ByteSource& source, std::uint64_t byte, const std::string& message) {
  throw Error(Errc::kInvalidArgument,
              source.name() + ": byte " + std::to_string(byte) + ": " + message);
}

NpyHeader read_npy_header(ByteSource& source) {
  unsigned char start[12];
  if (source.read(start, 8) < 8 ||
      std::string_view(reinterpret_cast<const char*>(start), 6) != kMagic) {
    refuse_at_byte(source, 0, "file must start with the .npy mark and version, got something else");
  }
  const int version = start[6];
  if (version < 1 || version > 3 || start[7] != 0) {
    refuse_at_byte(source, 6,
                   ".npy version must be 1.0, 2.0 or 3.0, got " + std::to_string(version) + "." +
                       std::to_string(start[7]));
  }
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  if (source.read(start + 8, length_bytes) < length_bytes) {
    refuse_at_byte(source, 8, "file must go on with the header's length, got its end");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) {
    length |= static_cast<std::uint64_t>(start[8 + i]) << (8 * i);
  }
  const std::uint64_t begin = 8 + length_bytes;
  if (length > kLongestHeader) {
    refuse_at_byte(source, 8,
                   "header must be at most " + std::to_string(kLongestHeader) +
                       " bytes long, got " + std::to_string(length));
  }
  std::string text(length, ' ');
  const std::size_t got = source.read(text.data(), text.size());
  if (got < length) {
    refuse_at_byte(source, begin,
                   "header must be " + std::to_string(length) +
                       " bytes long, got the end of the file after " + std::to_string(got));
  }
  NpyHeader header;
  header.data_begin = begin + length;
  HeaderParser(source, text, begin).parse(header);
  return header;
}

}  // namespace thresher

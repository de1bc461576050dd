#include "readers/number_text.hpp"

#include <charconv>
#include <limits>

namespace thresher {
namespace {

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != lower[i]) return false;
  }
  return true;
}

NumberText parse_word(std::string_view word, bool negative) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  if (equals_ignoring_case(word, "nan")) return {NumberKind::kNotANumber, nan};
  if (equals_ignoring_case(word, "inf") || equals_ignoring_case(word, "infinity")) {
    return {NumberKind::kNumber, negative ? -inf : inf};
  }
  return {};
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

}  // namespace

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

NumberText parse_number(std::string_view text) {
  text = trim(text);
  if (text.empty() || text == "NA") {
    return {NumberKind::kMissing, std::numeric_limits<double>::quiet_NaN()};
  }
  const bool negative = text.front() == '-';
  std::string_view digits = text;
  if (negative || text.front() == '+') digits.remove_prefix(1);
  // from_chars itself knows words such as nan(1) and a second sign, which are refused here.
  if (digits.empty() || !((digits.front() >= '0' && digits.front() <= '9') || digits[0] == '.')) {
    return parse_word(digits, negative);
  }
  double value = 0.0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  if (stop != end) return {};
  if (error == std::errc::result_out_of_range) return {NumberKind::kOutOfRange, 0.0};
  if (error != std::errc()) return {};
  return {NumberKind::kNumber, negative ? -value : value};
}

bool parse_index(std::string_view text, Index& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 40;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace thresher

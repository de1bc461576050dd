#include "command/text_table.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace thresher::command {
namespace {

// Characters on the screen: UTF-8 continuation bytes take no room.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

}  // namespace

std::string format(const char* pattern, ...) {
  std::array<char, 512> buffer{};
  std::va_list arguments;
  va_start(arguments, pattern);
  const int length = std::vsnprintf(buffer.data(), buffer.size(), pattern, arguments);
  va_end(arguments);
  const auto used = static_cast<std::size_t>(std::max(length, 0));
  return std::string(buffer.data(), std::min(used, buffer.size() - 1));
}

std::string exact_text(double value) {
  std::array<char, 40> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), error == std::errc{} ? end : buffer.data());
}

std::string short_text(double value) { return std::isnan(value) ? "-" : format("%.4g", value); }

std::string bytes_text(double bytes) {
  const char* unit = "B";
  for (const char* larger : {"KB", "MB", "GB", "TB"}) {
    if (bytes < 1024.0) break;
    bytes /= 1024.0;
    unit = larger;
  }
  return format("%.3g %s", bytes, unit);
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string name_or_position(const std::vector<std::string>& names, const char* prefix,
                             Index position) {
  if (names.empty()) return prefix + std::to_string(position);
  return names[static_cast<std::size_t>(position)];
}

void TextTable::add_column(std::string heading, Align align) {
  rows_.front().push_back(std::move(heading));
  align_.push_back(align);
}

void TextTable::add_row(std::vector<std::string> cells) {
  cells.resize(align_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths(align_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(widths[c] - width(row[c]), ' ');
      if (c > 0) line += "  ";
      line += align_[c] == Align::kLeft ? row[c] + blanks : blanks + row[c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace thresher::command

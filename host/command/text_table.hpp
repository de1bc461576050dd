#pragma once

#include <string>
#include <vector>

#include "thresher/views.hpp"

namespace thresher::command {

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

/// Shortest text that reads back as the same double; "nan" and "inf" for what is not finite.
std::string exact_text(double value);

/// Four significant digits; "-" for NaN.
std::string short_text(double value);

std::string bytes_text(double bytes);

/// The field as CSV: quoted where it holds a comma, a quote or a line end.
std::string csv_field(const std::string& text);

/// `names[position]`, or `prefix` and the position where there are no names.
std::string name_or_position(const std::vector<std::string>& names, const char* prefix,
                             Index position);

/// Columns of text under headings, as wide as their longest cell; two blanks between them.
class TextTable {
 public:
  enum class Align { kLeft, kRight };

  void add_column(std::string heading, Align align = Align::kRight);
  void add_row(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<Align> align_;
  std::vector<std::vector<std::string>> rows_{1};  // the first holds the headings
};

}  // namespace thresher::command

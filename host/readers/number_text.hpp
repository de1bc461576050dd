#pragma once

#include <string>
#include <string_view>

#include "thresher/views.hpp"

namespace thresher {

/// What a piece of text is when it is read as a number. Never depends on the locale.
enum class NumberKind {
  kNumber,      ///< decimal, or [+-]inf, [+-]infinity
  kNotANumber,  ///< nan in any case
  kMissing,     ///< nothing, or NA
  kText,        ///< anything else, hexadecimal included
  kOutOfRange,  ///< a decimal that no double is near, such as 1e999 or 1e-999
};

struct NumberText {
  NumberKind kind = NumberKind::kText;
  double value = 0.0;  ///< NaN for kNotANumber and kMissing
};

/// Blanks around the number are allowed.
NumberText parse_number(std::string_view text);

/// True and `value` set if all of `text` is a decimal integer that fits.
bool parse_index(std::string_view text, Index& value);

/// Without blanks and tabs at both ends.
std::string_view trim(std::string_view text);

/// The text in quotes, for a message: control characters escaped, long text cut.
std::string in_quotes(std::string_view text);

}  // namespace thresher

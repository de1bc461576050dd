#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "readers/number_text.hpp"

namespace thresher {
namespace {

TEST(ParseNumber, ReadsDecimalsExactly) {
  EXPECT_EQ(parse_number("0.1").value, 0.1);
  EXPECT_EQ(parse_number("-1.5e3").value, -1500.0);
  EXPECT_EQ(parse_number("+2").value, 2.0);
  EXPECT_EQ(parse_number(".5").value, 0.5);
  EXPECT_EQ(parse_number("5.").value, 5.0);
  EXPECT_EQ(parse_number(" 7\t").value, 7.0);
  EXPECT_EQ(parse_number("1.7976931348623157e308").value, std::numeric_limits<double>::max());
  EXPECT_EQ(parse_number("4.9406564584124654e-324").value,
            std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(parse_number("2.2250738585072011e-308").value, 2.2250738585072011e-308);
  EXPECT_TRUE(std::signbit(parse_number("-0").value));
}

TEST(ParseNumber, KnowsTheWordsForNoNumber) {
  for (const char* text : {"nan", "NaN", "NAN", "-nan"}) {
    EXPECT_EQ(parse_number(text).kind, NumberKind::kNotANumber) << text;
  }
  for (const char* text : {"", "  ", "NA"}) {
    EXPECT_EQ(parse_number(text).kind, NumberKind::kMissing) << text;
    EXPECT_TRUE(std::isnan(parse_number(text).value)) << text;
  }
  EXPECT_EQ(parse_number("-Inf").value, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(parse_number("infinity").value, std::numeric_limits<double>::infinity());
}

TEST(ParseNumber, RefusesEverythingElse) {
  for (const char* text : {"abc", "1x", "0x10", "0x1p3", "1,5", "1 2", "--1", "+-1", "+", "-", ".",
                           "1e", "nan(1)", "na", "infinite", "1_000", "e5", "\xef\xbc\x91"}) {
    EXPECT_EQ(parse_number(text).kind, NumberKind::kText) << text;
  }
  EXPECT_EQ(parse_number("1e999").kind, NumberKind::kOutOfRange);
  EXPECT_EQ(parse_number("-1e999").kind, NumberKind::kOutOfRange);
  EXPECT_EQ(parse_number("1e-999").kind, NumberKind::kOutOfRange);
}

TEST(ParseIndex, TakesWholeIntegersThatFit) {
  Index value = 0;
  EXPECT_TRUE(parse_index("9223372036854775807", value));
  EXPECT_EQ(value, std::numeric_limits<Index>::max());
  for (const char* text : {"", "1.5", "9223372036854775808", "1x", " 1", "+1", "0x1"}) {
    EXPECT_FALSE(parse_index(text, value)) << text;
  }
}

TEST(InQuotes, EscapesAndCuts) {
  EXPECT_EQ(in_quotes(std::string_view("a\0b\n", 4)), "'a\\x00b\\x0a'");
  EXPECT_EQ(in_quotes(std::string(50, 'x')), "'" + std::string(40, 'x') + "...'");
}

}  // namespace
}  // namespace thresher

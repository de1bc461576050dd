#include <cmath>
#include <limits>

#include "reader_cases.hpp"

namespace thresher {
namespace {

using Names = std::vector<std::string>;
using Values = std::vector<double>;

MatrixFile read(const std::string& text, const ReadOptions& options = {}, char separator = ',') {
  MemorySource source("read_matrix: x.csv", text);
  return read_csv(source, separator, options);
}

void expect_refused(const std::string& text, const std::string& message,
                    const ReadOptions& options = {}) {
  SCOPED_TRACE(text.substr(0, 60));
  expect_error(Errc::kInvalidArgument, "read_matrix: x.csv" + message,
               [&] { read(text, options); });
}

void expect_table(const MatrixFile& got, Index cols, const Values& values, const Names& columns,
                  const Names& rows) {
  EXPECT_EQ(got.cols, cols);
  EXPECT_EQ(got.rows * got.cols, std::ssize(values));
  EXPECT_EQ(values_by_row(got), values);
  EXPECT_EQ(got.column_names, columns);
  EXPECT_EQ(got.row_names, rows);
}

TEST(CsvReader, ReadsPlainNumbers) {
  expect_table(read("1,2.5\n-3e2,+4\n"), 2, {1, 2.5, -300, 4}, {}, {});
  expect_table(read("1,2\r\n3,4"), 2, {1, 2, 3, 4}, {}, {});
  expect_table(read(" 1 ,\t2 \n"), 2, {1, 2}, {}, {});
  expect_table(read("\n\r\n1,2\n3,4\n\n\r\n"), 2, {1, 2, 3, 4}, {}, {});
  expect_table(read("7"), 1, {7}, {}, {});
  expect_table(read("\xef\xbb\xbf"
                    "1,2\n"),
               2, {1, 2}, {}, {});
  expect_table(read("1\t2\n3\t 4\n", {}, '\t'), 2, {1, 2, 3, 4}, {}, {});
  expect_table(read("\"1\",\"2\"\n\"3\",\"4\"\n"), 2, {1, 2, 3, 4}, {}, {});
}

TEST(CsvReader, FindsHeaderAndRowNames) {
  expect_table(read("a,b\n1,2\n"), 2, {1, 2}, {"a", "b"}, {});
  expect_table(read("y\n1\n2\n"), 1, {1, 2}, {"y"}, {});
  expect_table(read("s1,1,2\ns2,3,4\n"), 2, {1, 2, 3, 4}, {}, {"s1", "s2"});
  expect_table(read("id,a,b\ns1,1,2\ns2,3,4\n"), 2, {1, 2, 3, 4}, {"a", "b"}, {"s1", "s2"});
  expect_table(read("id,a\n1,2\n"), 2, {1, 2}, {"id", "a"}, {});
  expect_table(read("a,NA,b\n1,2,3\n"), 3, {1, 2, 3}, {"a", "NA", "b"}, {});
}

TEST(CsvReader, ReadsWhatRAndPandasWrite) {
  // write.csv, write.table with and without names of its own and header, DataFrame.to_csv.
  expect_table(read("\"\",\"a\",\"b\"\n\"1\",1,2\n\"2\",3,4\n"), 2, {1, 2, 3, 4}, {"a", "b"},
               {"1", "2"});
  expect_table(read("\"a\",\"b\"\n\"r1\",1,2\n\"r2\",3,4\n"), 2, {1, 2, 3, 4}, {"a", "b"},
               {"r1", "r2"});
  expect_table(read("\"a\"\n\"1\",5\n"), 1, {5}, {"a"}, {"1"});
  expect_table(read("\"1\",5\n\"2\",6\n"), 1, {5, 6}, {}, {"1", "2"});
  expect_table(read(",0,1\n0,5,6\n1,7,8\n"), 2, {5, 6, 7, 8}, {"0", "1"}, {"0", "1"});
  // Names that look like numbers are quoted where the numbers are not.
  expect_table(read("\"2010\",\"2011\"\n1,2\n"), 2, {1, 2}, {"2010", "2011"}, {});
}

TEST(CsvReader, ReadsQuotedNames) {
  expect_table(read("\"a,b\",\"say \"\"hi\"\"\", \"two\nlines\" \n1,2,3\n"), 3, {1, 2, 3},
               {"a,b", "say \"hi\"", "two\nlines"}, {});
  expect_table(read("\"\"\"\",b\r\n1,2\r\n"), 2, {1, 2}, {"\"", "b"}, {});
}

TEST(CsvReader, TakesMissingValuesOnlyWhereAllowed) {
  const ReadOptions allow{.allow_missing = true};
  const Values got = values_by_row(read("a,b\nNA,1\nNaN,\n2,nan\n", allow));
  ASSERT_EQ(got.size(), 6u);
  for (const std::size_t i : {0u, 2u, 3u, 5u}) EXPECT_TRUE(std::isnan(got[i])) << i;
  EXPECT_EQ(got[1], 1);
  EXPECT_EQ(got[4], 2);
  // An empty line in a table of one column is a missing value, unless it is among the last.
  EXPECT_EQ(read("y\n1\n\n3\n\n", allow).rows, 3);

  expect_refused("a,b\n1,NA\n", ":2:2: field must be a number, got a missing value 'NA'");
  expect_refused("a,b\n,1\n", ":2:1: field must be a number, got a missing value ''");
  expect_refused("1,2\n3,\n", ":2:2: field must be a number, got a missing value ''");
  expect_refused("1,2\n3,", ":2:2: field must be a number, got a missing value ''");
  expect_refused("y\n1\n\n3\n", ":3:1: field must be a number, got a missing value ''");
}

TEST(CsvReader, LetsInfinityPassForPenaltyFactors) {
  EXPECT_EQ(values_by_row(read("1\nInf\n-inf\n")),
            (Values{1, std::numeric_limits<double>::infinity(),
                    -std::numeric_limits<double>::infinity()}));
}

TEST(CsvReader, RefusesRaggedRows) {
  expect_refused("1,2,3\n4,5\n", ":2:3: row must have 3 fields, got 2");
  expect_refused("1,2\n3,4\n5,6,7,8\n", ":3:3: row must have 2 fields, got 4");
  expect_refused("a,b\n1,2\n\n3,4\n", ":3:2: row must have 2 fields, got 1");
  expect_refused("a,b\n1,2,3\n", ":2:3: row must have 2 fields, got 3");
  expect_refused("a,b\n1\n", ":2:2: row must have 2 fields, got 1");
  expect_refused("\"a\nb\",c\n1,2\n3\n", ":4:2: row must have 2 fields, got 1");
}

TEST(CsvReader, RefusesWhatIsNoNumber) {
  expect_refused("1,2\n3,x\n", ":2:2: field must be a number, got 'x'");
  expect_refused("1,2\n3,0x1F\n", ":2:2: field must be a number, got '0x1F'");
  expect_refused("1,2\n3,1e999\n", ":2:2: field must be within the range of double, got '1e999'");
  expect_refused("1\n1;5\n", ":2:1: field must be a number, got '1;5'");
  expect_refused("1,2\n3,1e39\n", ":2:2: field must be within the range of float, got '1e39'",
                 {.as_float = true});
  expect_refused("1,x,3\n4,5,6\n",
                 ":1:3: first row must hold only names or only numbers, got 'x' and '3' (quote a "
                 "name that looks like a number)");
  expect_refused(std::string("1,2\n3,4\0\n", 9), ":2:2: field must be text, got a NUL byte");
  expect_refused(std::string("1,2\n\"3\0\",4\n", 11), ":2:1: field must be text, got a NUL byte");
}

TEST(CsvReader, RefusesQuotesThatDoNotClose) {
  expect_refused("1,2\n3,\"4\n5,6\n", ":2:2: quote must be closed, got the end of the file");
  expect_refused("1,2\n3,\"4", ":2:2: quote must be closed, got the end of the file");
  expect_refused("1,2\n3,\"4\"x\n", ":2:2: closing quote must be followed by a separator, got 'x'");
  expect_refused("1,2\n3,4\"\n", ":2:2: field with a quote must be quoted as a whole, got '4\"'");
  expect_refused(
      "1,\"" + std::string(3'000'000, '5') + "\"\n",
      ":1:2: field must be at most 1048576 bytes long, got more (is a quote left open?)");
}

TEST(CsvReader, RefusesTablesWithoutRows) {
  expect_refused("", ": file must have at least one row, got none");
  expect_refused("\n\n", ": file must have at least one row, got none");
  expect_refused("a,b\n", ": file must have a row of numbers, got only a header");
}

TEST(CsvReader, KeepsToTheMemoryLimit) {
  const std::string text = "1,2\n3,4\n5,6\n";
  EXPECT_EQ(read(text, {.max_bytes = 400}).rows, 3);
  std::string longer;
  for (int i = 0; i < 26; ++i) longer += "1,2\n";
  expect_error(Errc::kOutOfMemory,
               "read_matrix: x.csv: memory needed must be at most 400 bytes, got 416",
               [&] { read(longer, {.max_bytes = 400}); });
}

// Fields fall on the ends of the reader's buffer, whichever its size.
TEST(CsvReader, ReadsTablesMuchLargerThanItsBuffer) {
  std::string text;
  Values want;
  for (int i = 0; i < 60'000; ++i) {
    for (int j = 0; j < 10; ++j) {
      const int value = i * 7 + j * 1001;
      want.push_back(value);
      const std::string digits = std::to_string(value);
      text += (j > 0 ? "," : "") + (j % 3 == 1 ? " \"" + digits + "\" " : digits);
    }
    text += i % 2 == 0 ? "\n" : "\r\n";
  }
  ASSERT_GT(text.size(), std::size_t{4} << 20);

  expect_table(read(text), 10, want, {}, {});
  MemorySource pipe("read_matrix: x.csv", text, /*size_known=*/false);
  expect_table(read_csv(pipe, ',', {}), 10, want, {}, {});
}

}  // namespace
}  // namespace thresher

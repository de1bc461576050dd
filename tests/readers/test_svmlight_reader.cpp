#include "reader_cases.hpp"

namespace thresher {
namespace {

MatrixFile read(const std::string& text, const ReadOptions& options = {}) {
  MemorySource source("read_matrix: x.svm", text);
  return read_svmlight(source, options);
}

void expect_refused(const std::string& text, const std::string& message) {
  expect_error(Errc::kInvalidArgument, "read_matrix: x.svm" + message, [&] { read(text); });
}

TEST(SvmlightReader, CountsIndicesFromOne) {
  const MatrixFile got = read("# header\n-1 1:0.5 3:2 # note 7:9\n\n+1.5\n2 2:-1e2\t4:4\r\n");

  EXPECT_EQ(got.rows, 3);
  EXPECT_EQ(got.cols, 4);
  EXPECT_EQ(got.labels, (std::vector<double>{-1, 1.5, 2}));
  EXPECT_EQ(values_by_row(got), (std::vector<double>{0.5, 0, 2, 0, 0, 0, 0, 0, 0, -100, 0, 4}));
}

TEST(SvmlightReader, CountsFromZeroIfAnIndexIsZero) {
  const MatrixFile got = read("1 1:5\n2 0:3", {.as_float = true});

  EXPECT_EQ(got.labels, (std::vector<double>{1, 2}));
  EXPECT_EQ(got.f32, (std::vector<float>{0, 3, 5, 0}));
}

TEST(SvmlightReader, RefusesBadTokensWithTheirPlace) {
  expect_refused("1 2:1 2:5\n", ":1:7: indices must ascend within a line, got '2' after 2");
  expect_refused("1 2:1\n1 3:1 1:5\n", ":2:7: indices must ascend within a line, got '1' after 3");
  expect_refused("1 -2:1\n", ":1:3: index must be an integer of at least 0, got '-2'");
  expect_refused("1 1.5:1\n", ":1:3: index must be an integer of at least 0, got '1.5'");
  expect_refused("1 99999999999999999999:1\n",
                 ":1:3: index must be an integer of at least 0, got '99999999999999999999'");
  expect_refused("1 :1\n", ":1:3: index must be an integer of at least 0, got ''");
  expect_refused("1 1\n", ":1:3: entry must be index:value, got '1'");
  expect_refused("1 10:abc\n", ":1:6: value must be a number, got 'abc'");
  expect_refused("1 1:\n", ":1:5: value must be a number, got ''");
  expect_refused("1 1:1e999\n", ":1:5: value must be within the range of double, got '1e999'");
  expect_refused("one 1:1\n", ":1:1: label must be a number, got 'one'");
  expect_refused("1,2 1:1\n", ":1:1: label must be a number, got '1,2'");
  expect_refused("1 qid:3 1:1\n", ":1:3: qid must be absent (ranking data), got 'qid:3'");
  expect_refused(std::string("1 1:1\0 2:3\n", 11), ":1:5: value must be a number, got '1\\x00'");
}

TEST(SvmlightReader, RefusesFilesWithoutEntries) {
  expect_refused("", ": file must have at least one row and one entry, got 0 rows without entries");
  expect_refused("1\n2\n",
                 ": file must have at least one row and one entry, got 2 rows without entries");
}

TEST(SvmlightReader, RefusesWhatCannotBeMadeDense) {
  expect_error(Errc::kOutOfMemory,
               "read_matrix: x.svm: memory needed must be at most 1000000 bytes, got 8000000024",
               [] { read("1 1000000000:1\n", {.max_bytes = 1'000'000}); });
  expect_refused("1 9223372036854775807:1\n2 1:1\n",
                 ": rows times columns must fit in memory, got 2 x 9223372036854775807");
  expect_refused("1 0:1 9223372036854775807:1\n",
                 ": rows times columns must fit in memory, got 1 x 9223372036854775807");
  // Without a limit the machine's memory is the limit; 8 TB are beyond it.
  EXPECT_THROW(read("1 1000000000000:1\n"), Error);
}

}  // namespace
}  // namespace thresher

#include "reader_cases.hpp"

namespace thresher {
namespace {

MatrixFile read(const std::string& text, const ReadOptions& options = {}) {
  MemorySource source("read_matrix: x.mtx", text);
  return read_matrix_market(source, options);
}

void expect_refused(const std::string& text, const std::string& message) {
  expect_error(Errc::kInvalidArgument, "read_matrix: x.mtx" + message, [&] { read(text); });
}

const std::string kCoordinate = "%%MatrixMarket matrix coordinate real general\n";

TEST(MatrixMarketReader, ReadsCoordinates) {
  const MatrixFile got =
      read(kCoordinate + "% comment\n\n2 3 3\n1 1 1.5\n 2 3 -2\n%\n1 2 4e0\r\n\n");

  EXPECT_EQ(got.rows, 2);
  EXPECT_EQ(got.cols, 3);
  EXPECT_EQ(values_by_row(got), (std::vector<double>{1.5, 4, 0, 0, 0, -2}));
}

TEST(MatrixMarketReader, ReadsEveryFieldAndSymmetry) {
  EXPECT_EQ(values_by_row(read("%%matrixmarket MATRIX Coordinate Pattern General\n2 2 1\n2 1\n")),
            (std::vector<double>{0, 0, 1, 0}));
  EXPECT_EQ(values_by_row(read("%%MatrixMarket matrix coordinate integer symmetric\n"
                               "2 2 2\n2 1 7\n2 2 3\n")),
            (std::vector<double>{0, 7, 7, 3}));
  EXPECT_EQ(values_by_row(read("%%MatrixMarket matrix array real general\n2 3\n1\n2\n3\n4\n5\n6")),
            (std::vector<double>{1, 3, 5, 2, 4, 6}));
  EXPECT_EQ(values_by_row(read("%%MatrixMarket matrix array real symmetric\n2 2\n1\n2\n3\n")),
            (std::vector<double>{1, 2, 2, 3}));
  EXPECT_EQ(read("%%MatrixMarket matrix array real general\n1 2\n1\n2\n", {.as_float = true}).f32,
            (std::vector<float>{1, 2}));
}

TEST(MatrixMarketReader, AddsRepeatedEntries) {
  EXPECT_EQ(values_by_row(read(kCoordinate + "1 2 2\n1 2 1\n1 2 0.5\n")),
            (std::vector<double>{0, 1.5}));
}

TEST(MatrixMarketReader, RefusesIndicesOutOfRange) {
  expect_refused(kCoordinate + "2 3 1\n3 1 1\n", ":3:1: row must be within 1 .. 2, got '3'");
  expect_refused(kCoordinate + "2 3 1\n1 4 1\n", ":3:3: column must be within 1 .. 3, got '4'");
  expect_refused(kCoordinate + "2 3 1\n0 1 1\n", ":3:1: row must be within 1 .. 2, got '0'");
  expect_refused(kCoordinate + "2 3 1\n-1 1 1\n", ":3:1: row must be within 1 .. 2, got '-1'");
  expect_refused("%%MatrixMarket matrix coordinate real symmetric\n2 2 1\n1 2 5\n",
                 ":3:3: entry of a symmetric matrix must lie on or below the diagonal, got row 1, "
                 "column 2");
}

TEST(MatrixMarketReader, RefusesCountsThatAreNotTheFiles) {
  expect_refused(kCoordinate + "2 3 2\n1 1 1.000000\n",
                 ": file must hold the 2 entries it declares, got 1");
  expect_refused(kCoordinate + "2 3 1\n1 1 1\n2 1 1\n",
                 ":4:1: file must end after its 1 entries, got '2 1 1'");
  expect_refused(kCoordinate + "2 3 7\n", ":2:5: number of entries must be at most 6, got 7");
  expect_refused("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n",
                 ": file must hold the 4 entries it declares, got 3");
  expect_refused("%%MatrixMarket matrix array real general\n1 2\n1\n2\n3\n",
                 ":5:1: file must end after its 2 entries, got '3'");
}

TEST(MatrixMarketReader, TakesNoMemoryForADeclaredSizeThatIsNotThere) {
  expect_refused(kCoordinate + "100000 100000 1000000000\n1 1 1\n",
                 ":2:1: file must hold the 1000000000 entries it declares, got at most 77 bytes");
  expect_refused("%%MatrixMarket matrix array real general\n100000 100000\n1\n",
                 ":2:1: file must hold the 10000000000 entries it declares, got at most 57 bytes");
  expect_refused(kCoordinate + "4294967296 4294967296 1\n1 1 1\n",
                 ":2:1: rows times columns must fit 63 bits, got 4294967296 x 4294967296");
  expect_error(Errc::kOutOfMemory,
               "read_matrix: x.mtx: memory needed must be at most 1000 bytes, got 80000",
               [] { read(kCoordinate + "100 100 1\n1 1 1\n", {.max_bytes = 1000}); });
  // 8 TB, beyond the machine's memory.
  EXPECT_THROW(read(kCoordinate + "1000000 1000000 1\n1 1 1\n"), Error);
}

TEST(MatrixMarketReader, RefusesBannersAndLinesItDoesNotKnow) {
  expect_refused("", ": file must start with %%MatrixMarket, got an empty file");
  expect_refused("1 1 1\n", ":1:1: file must start with %%MatrixMarket, got '1 1 1'");
  expect_refused("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 0\n",
                 ":1:34: field must be one of: real, double, integer, unsigned-integer, pattern; "
                 "got 'complex'");
  expect_refused("%%MatrixMarket matrix coordinate real hermitian\n",
                 ":1:39: symmetry must be one of: general, symmetric; got 'hermitian'");
  expect_refused("%%MatrixMarket vector coordinate real general\n",
                 ":1:16: object must be one of: matrix; got 'vector'");
  expect_refused("%%MatrixMarket matrix array pattern general\n1 1\n",
                 ":1:29: field must be a number type in array format, got 'pattern'");
  expect_refused(kCoordinate, ": file must have a line of sizes, got its end");
  expect_refused(kCoordinate + "0 3 0\n",
                 ":2:1: number of rows must be an integer of at least 1, got '0'");
  expect_refused(kCoordinate + "3 3\n",
                 ":2:4: number of entries must be an integer of at least 0, got ''");
  expect_refused(kCoordinate + "3 3 1 1\n", ":2:7: line must end here, got '1'");
  expect_refused(kCoordinate + "3 3 1\n1 1 x\n", ":3:5: value must be a number, got 'x'");
  expect_refused(kCoordinate + "3 3 1\n1 1   \n", ":3:7: value must be a number, got ''");
  expect_refused(kCoordinate + "3 3 1\n1 1 1e999\n",
                 ":3:5: value must be within the range of double, got '1e999'");
  expect_refused("%%MatrixMarket matrix coordinate real symmetric\n2 3 0\n",
                 ":2:1: symmetric matrix must be square, got 2 x 3");
}

}  // namespace
}  // namespace thresher

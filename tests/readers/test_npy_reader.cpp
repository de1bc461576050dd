#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "reader_cases.hpp"

namespace thresher {
namespace {

static_assert(std::endian::native == std::endian::little, "the literal files are little-endian");

constexpr double kInf = std::numeric_limits<double>::infinity();

MatrixFile read(const std::string& bytes, const ReadOptions& options = {}) {
  MemorySource source("read_matrix: x.npy", bytes);
  MatrixFile known = read_npy(source, options);
  // The same bytes through a pipe, where nothing is known about the size.
  MemorySource pipe("read_matrix: x.npy", bytes, /*size_known=*/false);
  const MatrixFile unknown = read_npy(pipe, options);
  EXPECT_EQ(bytes_of(known.f64), bytes_of(unknown.f64));
  EXPECT_EQ(bytes_of(known.f32), bytes_of(unknown.f32));
  return known;
}

void expect_refused(const std::string& bytes, const std::string& message,
                    const ReadOptions& options = {}) {
  expect_error(Errc::kInvalidArgument, "read_matrix: x.npy: " + message, [&] {
    MemorySource source("read_matrix: x.npy", bytes);
    read_npy(source, options);
  });
}

void expect_pipe_refused(const std::string& bytes, const std::string& message) {
  expect_error(Errc::kInvalidArgument, "read_matrix: x.npy: " + message, [&] {
    MemorySource source("read_matrix: x.npy", bytes, /*size_known=*/false);
    read_npy(source, {});
  });
}

const std::vector<double> kSix = {1, 2, 3, 4, 5, 6};

template <class T>
void expect_same_as_double(const std::string& code) {
  SCOPED_TRACE(code);
  const std::vector<T> items(kSix.begin(), kSix.end());
  for (const char* order : {"<", ">", "=", "|"}) {
    if ((*order == '|') != (sizeof(T) == 1)) continue;
    SCOPED_TRACE(order);
    const std::string data = *order == '>' ? swapped_bytes_of(items) : bytes_of(items);

    const MatrixFile by_row = read(npy_file(order + code, "(2, 3)", data));
    const MatrixFile by_column = read(npy_file(order + code, "(3, 2)", data, true));
    const MatrixFile as_float = read(npy_file(order + code, "(2, 3)", data), {.as_float = true});

    EXPECT_EQ(values_by_row(by_row), kSix);
    EXPECT_EQ(values_by_row(by_column), (std::vector<double>{1, 4, 2, 5, 3, 6}));
    EXPECT_EQ(by_row.is_float, (std::is_same_v<T, float>));
    EXPECT_TRUE(as_float.is_float);
    EXPECT_TRUE(as_float.f64.empty());
    EXPECT_EQ(values_by_row(as_float), kSix);
  }
}

TEST(NpyReader, GivesTheSameValuesForEveryTypeAndByteOrder) {
  expect_same_as_double<double>("f8");
  expect_same_as_double<float>("f4");
  expect_same_as_double<std::int8_t>("i1");
  expect_same_as_double<std::int16_t>("i2");
  expect_same_as_double<std::int32_t>("i4");
  expect_same_as_double<std::int64_t>("i8");
  expect_same_as_double<std::uint8_t>("u1");
  expect_same_as_double<std::uint16_t>("u2");
  expect_same_as_double<std::uint32_t>("u4");
  expect_same_as_double<std::uint64_t>("u8");
}

TEST(NpyReader, KeepsSignsAndExtremes) {
  EXPECT_EQ(values_by_row(read(npy_file("|i1", "(2,)", bytes_of<std::int8_t>({-128, 127})))),
            (std::vector<double>{-128, 127}));
  EXPECT_EQ(values_by_row(read(npy_file("|u1", "(2,)", bytes_of<std::uint8_t>({128, 255})))),
            (std::vector<double>{128, 255}));
  EXPECT_EQ(values_by_row(read(npy_file(">i4", "(1,)", std::string("\xff\xff\xff\xfe", 4)))),
            (std::vector<double>{-2}));
  EXPECT_EQ(values_by_row(read(npy_file("<u8", "(1,)", bytes_of<std::uint64_t>({UINT64_MAX})))),
            (std::vector<double>{0x1p64}));
  EXPECT_EQ(values_by_row(read(npy_file("|b1", "(3,)", std::string("\0\1\1", 3)))),
            (std::vector<double>{0, 1, 1}));
}

TEST(NpyReader, ReadsHalfPrecision) {
  // 1, -2, largest finite, least subnormal, least normal, 1/3, infinity, NaN.
  const std::vector<std::uint16_t> halves = {0x3c00, 0xc000, 0x7bff, 0x0001,
                                             0x0400, 0x3555, 0xfc00, 0x7e00};
  for (const bool big : {false, true}) {
    const auto got = values_by_row(read(
        npy_file(big ? ">f2" : "<f2", "(8,)", big ? swapped_bytes_of(halves) : bytes_of(halves))));
    EXPECT_EQ(std::vector<double>(got.begin(), got.end() - 1),
              (std::vector<double>{1, -2, 65504, 0x1p-24, 0x1p-14, 0.333251953125, -kInf}));
    EXPECT_TRUE(std::isnan(got.back()));
  }
}

TEST(NpyReader, LetsNaNAndInfinityPass) {
  const auto got = read(npy_file("<f8", "(2,)", bytes_of<double>({std::nan(""), -kInf})));
  EXPECT_TRUE(std::isnan(got.f64[0]));
  EXPECT_EQ(got.f64[1], -kInf);
  EXPECT_EQ(read(npy_file("<f8", "(1,)", bytes_of<double>({kInf})), {.as_float = true}).f32[0],
            std::numeric_limits<float>::infinity());
}

TEST(NpyReader, ReadsArraysOfManyChunks) {
  std::vector<std::int32_t> items(1'000'003);
  for (std::size_t i = 0; i < items.size(); ++i) items[i] = static_cast<std::int32_t>(i);

  const MatrixFile got = read(npy_file("<i4", "(1000003,)", bytes_of(items)));

  EXPECT_EQ(got.rows, 1'000'003);
  EXPECT_EQ(got.cols, 1);
  EXPECT_EQ(got.f64, std::vector<double>(items.begin(), items.end()));
}

TEST(NpyReader, ReadsVersionsTwoAndThree) {
  const std::string dictionary = "{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"<f8\"}";
  for (const char version : {'\x02', '\x03'}) {
    std::string bytes("\x93NUMPY", 6);
    bytes.push_back(version);
    bytes += '\0';
    bytes += bytes_of<std::uint32_t>({static_cast<std::uint32_t>(dictionary.size())});
    bytes += dictionary + bytes_of<double>({1, 2});
    EXPECT_EQ(values_by_row(read(bytes)), (std::vector<double>{1, 2}));
  }
}

TEST(NpyReader, RefusesTypesThatAreNoNumbers) {
  const std::string rule =
      "byte 0: dtype must be bool, an integer of 1 to 8 bytes or a float of 2, 4 or 8, got ";
  for (const char* descr : {"<c16", "<c8", "|S5", "<U5", "|O", "<M8[ns]", "|V8", "<f16", "<f3",
                            "|f8", "f8", "", "<", "!f8"}) {
    expect_refused(npy_file(descr, "(1,)", std::string(8, '\0')),
                   rule + "'" + std::string(descr) + "'");
  }
  expect_refused(npy_around("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
                            std::string(8, '\0')),
                 "byte 20: descr must be a plain number type, got a structured one");
}

TEST(NpyReader, RefusesASizeThatIsNotTheFiles) {
  const std::string data = bytes_of(kSix);
  expect_refused(npy_file("<f8", "(2, 4)", data),
                 "byte 70: data must be 2 x 4 items of 8 bytes, got 48 bytes");
  expect_refused(npy_file("<f8", "(2, 2)", data),
                 "byte 70: data must be 2 x 2 items of 8 bytes, got 48 bytes");
  expect_refused(npy_file("<f8", "(2, 3)", data.substr(1)),
                 "byte 70: data must be 2 x 3 items of 8 bytes, got 47 bytes");
  expect_pipe_refused(npy_file("<f8", "(2, 4)", data),
                      "byte 118: data must be 64 bytes long, got the end of the file after 48");
  expect_pipe_refused(npy_file("<f8", "(2, 2)", data),
                      "byte 102: file must end after its data, got more bytes");
}

// Were it allocated as declared, this test would end by memory.
TEST(NpyReader, TakesNoMemoryForADeclaredSizeThatIsNotThere) {
  const std::string shape = "(1000000, 1000000000)";
  const std::string wraps = "(4294967296, 4294967296)";
  const std::string data = bytes_of(kSix);
  expect_refused(npy_file("<f8", shape, data),
                 "byte 85: data must be 1000000 x 1000000000 items of 8 bytes, got 48 bytes");
  expect_refused(npy_file("<f8", wraps, data),
                 "byte 88: data must be 4294967296 x 4294967296 items of 8 bytes, got 48 bytes");
  expect_refused(npy_file("|b1", wraps, data),
                 "byte 88: data must be 4294967296 x 4294967296 items of 1 bytes, got 48 bytes");
  // 2 modulo 2^64, just as many as there are.
  expect_refused(npy_file("|u1", "(6148914691236517206, 3)", "ab"),
                 "byte 88: data must be 6148914691236517206 x 3 items of 1 bytes, got 2 bytes");
  // 1 GB declared behind a pipe: within the machine, so only growth with the data keeps it small.
  expect_pipe_refused(
      npy_file("<f8", "(125000000,)", data),
      "byte 124: data must be 1000000000 bytes long, got the end of the file after 48");
  // A gzip stream cannot expand more than 1032 times.
  const std::string compressed = gzip(npy_file("<f8", "(125000000,)", data));
  const auto most = std::to_string(1032 * compressed.size() - 76);
  expect_error(Errc::kInvalidArgument,
               "read_matrix: x.npy.gz: byte 76: data must be 125000000 x 1 items of 8 bytes, got "
               "at most " +
                   most + " bytes",
               [&] {
                 const auto source =
                     open_gzip(std::make_unique<MemorySource>("read_matrix: x.npy.gz", compressed));
                 read_npy(*source, {});
               });
}

TEST(NpyReader, KeepsToTheMemoryLimit) {
  const std::string bytes = npy_file("|i1", "(1000,)", std::string(1000, '\1'));
  expect_error(Errc::kOutOfMemory,
               "read_matrix: x.npy: memory needed must be at most 7999 bytes, got 8000", [&] {
                 MemorySource source("read_matrix: x.npy", bytes);
                 read_npy(source, {.max_bytes = 7999});
               });
  EXPECT_EQ(read(bytes, {.max_bytes = 8000}).rows, 1000);
}

TEST(NpyReader, RefusesShapesThatAreNoMatrix) {
  const std::string data(8, '\0');
  expect_refused(npy_file("<f8", "()", data), "byte 0: array must have 1 or 2 dimensions, got 0");
  expect_refused(npy_file("<f8", "(1, 1, 1)", data),
                 "byte 0: array must have 1 or 2 dimensions, got 3");
  expect_refused(npy_file("<f8", "(0, 5)", ""),
                 "byte 0: array must have at least one row and one column, got 0 x 5");
  expect_refused(npy_file("<f8", "(5, 0)", ""),
                 "byte 0: array must have at least one row and one column, got 5 x 0");
  expect_refused(
      npy_file("<f8", "(-1,)", data),
      "byte 61: shape must hold sizes of at least 0 that fit 63 bits, got '-1,), }\\x0a'");
  expect_refused(
      npy_file("<f8", "(9223372036854775808,)", data),
      "byte 61: shape must hold sizes of at least 0 that fit 63 bits, got '9223372036854775808,), "
      "}'");
}

TEST(NpyReader, RefusesHeadersThatAreNoHeader) {
  const std::string data(8, '\0');
  const std::string good = npy_file("<f8", "(1,)", data);
  expect_refused("", "byte 0: file must start with the .npy mark and version, got something else");
  expect_refused("a,b\n1,2\n",
                 "byte 0: file must start with the .npy mark and version, got something else");
  std::string version = good;
  version[6] = 4;
  expect_refused(version, "byte 6: .npy version must be 1.0, 2.0 or 3.0, got 4.0");
  expect_refused(good.substr(0, 9),
                 "byte 8: file must go on with the header's length, got its end");
  expect_refused(good.substr(0, 30),
                 "byte 10: header must be 58 bytes long, got the end of the file after 20");
  const std::string huge = std::string("\x93NUMPY\x02\x00", 8) + std::string(4, '\xff');
  expect_refused(huge, "byte 8: header must be at most 1048576 bytes long, got 4294967295");
  expect_refused(npy_around("{'descr': '<f8', 'shape': (1,), }", data),
                 "byte 10: header must have descr, fortran_order and shape, got "
                 "'{'descr': '<f8', 'shape': (1,), }'");
  expect_refused(npy_around("{'descr': '<f8', 'descr': '<f8'}", data),
                 "byte 27: header keys must be descr, fortran_order and shape, once each, got "
                 "'descr'");
  expect_refused(npy_around("{'descr': '<f8', 'fortran_order': 1}", data),
                 "byte 44: fortran_order must be True or False, got '1}'");
  for (const char* dictionary :
       {"", "{", "{}", "{'descr", "{'descr'", "{'descr':", "{'descr': '<f8'", "[1]",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), } x",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<f8' 'fortran_order': False, 'shape': (1,)}"}) {
    SCOPED_TRACE(dictionary);
    MemorySource source("x", std::string_view());
    EXPECT_THROW(read(npy_around(dictionary, data)), Error);
  }
}

TEST(NpyReader, RefusesADoubleThatNoFloatIsNear) {
  const std::string bytes = npy_file("<f8", "(3,)", bytes_of<double>({kInf, 1.0, 1e39}));
  expect_refused(bytes, "byte 84: value must be within the range of float, got more",
                 {.as_float = true});
}

}  // namespace
}  // namespace thresher

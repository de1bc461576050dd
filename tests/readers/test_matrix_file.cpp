#include "readers/matrix_file.hpp"

#include <clocale>
#include <cmath>
#include <locale>

#include "reader_cases.hpp"

namespace thresher {
namespace {

TEST(ReadMatrix, ChoosesTheFormatByTheEndOfTheName) {
  const TemporaryFolder folder;
  const std::string svm = "1 1:5 2:6\n2 1:7 2:8\n";
  const std::string mtx = "%%MatrixMarket matrix array real general\n2 2\n5\n7\n6\n8\n";
  const std::pair<const char*, std::string> files[] = {
      {"x.csv", "5,6\n7,8\n"},
      {"X.CSV", "5,6\n7,8\n"},
      {"x.tsv", "5\t6\n7\t8\n"},
      {"x.svm", svm},
      {"x.svmlight", svm},
      {"x.libsvm", svm},
      {"x.mtx", mtx},
      {"x.npy", npy_file("<i2", "(2, 2)", bytes_of<std::int16_t>({5, 6, 7, 8}))}};
  for (const auto& [name, content] : files) {
    SCOPED_TRACE(name);
    const std::vector<double> want = {5, 6, 7, 8};
    EXPECT_EQ(values_by_row(read_matrix(folder.write(name, content))), want);
    EXPECT_EQ(values_by_row(read_matrix(folder.write(std::string(name) + ".gz", gzip(content)))),
              want);
  }
}

TEST(ReadMatrix, RefusesNamesItDoesNotKnow) {
  expect_error(Errc::kInvalidArgument,
               "read_matrix: file name must end in .npy, .csv, .tsv, .svm, .svmlight, .libsvm or "
               ".mtx, with or without .gz, got 'data.xlsx'",
               [] { read_matrix("data.xlsx"); });
  EXPECT_THROW(read_matrix(".gz"), Error);
  EXPECT_THROW(read_matrix(""), Error);
}

TEST(ReadMatrix, NamesTheFileInEveryRefusal) {
  const TemporaryFolder folder;
  const std::string path = folder.write("x.csv", "1,2\n3,x\n");
  expect_error(Errc::kInvalidArgument,
               "read_matrix: " + path + ":2:2: field must be a number, got 'x'",
               [&] { read_matrix(path); });
  expect_error(
      Errc::kFile,
      "read_matrix: " + folder.path("absent.csv") + ": cannot be opened: No such file or directory",
      [&] { read_matrix(folder.path("absent.csv")); });
  EXPECT_THROW(read_matrix(folder.write("plain.csv.gz", "1,2\n")), Error);
}

struct CommaPoint : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
};

TEST(ReadMatrix, DoesNotDependOnTheLocale) {
  const TemporaryFolder folder;
  const std::string path = folder.write("x.csv", "1.5,2.5\n");
  const std::locale before =
      std::locale::global(std::locale(std::locale::classic(), new CommaPoint));
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8"}) {  // where they are installed
    if (std::setlocale(LC_ALL, name) != nullptr) break;
  }

  const auto got = values_by_row(read_matrix(path));

  std::locale::global(before);
  std::setlocale(LC_ALL, "C");
  EXPECT_EQ(got, (std::vector<double>{1.5, 2.5}));
}

TEST(ReadMatrix, ReadsARealDataSet) {
  const std::string folder = std::string(THRESHER_TEST_DATA) + "/diabetes/";
  const MatrixFile X = read_matrix(folder + "X.npy");
  const auto names = read_names(folder + "names.txt");

  EXPECT_EQ(X.rows, 442);
  EXPECT_EQ(X.cols, 10);
  EXPECT_EQ(element(X.view(), 0, 2), 32.1);
  EXPECT_EQ(element(X.view(), 441, 8), 4.5951);
  EXPECT_EQ(names.size(), 10u);
  EXPECT_EQ(names[2], "bmi");
}

TEST(ReadNames, TakesOneNamePerLine) {
  const TemporaryFolder folder;
  const std::vector<std::string> want = {"a b", "c,d", "\"e\""};
  EXPECT_EQ(read_names(folder.write("n", "a b\nc,d\r\n\"e\"\n")), want);
  EXPECT_EQ(read_names(folder.write("n",
                                    "\xef\xbb\xbf"
                                    "a b\nc,d\n\"e\"")),
            want);
  EXPECT_EQ(read_names(folder.write("n", "a b\nc,d\n\"e\"\n\n")), want);
  EXPECT_EQ(read_names(folder.write("n.gz", gzip("a b\nc,d\n\"e\"\n"))), want);
  EXPECT_TRUE(read_names(folder.write("n", "")).empty());
}

TEST(ReadNames, RefusesEmptyLinesAndNul) {
  const TemporaryFolder folder;
  const std::string path = folder.write("n", "a\n\nb\n");
  expect_error(Errc::kInvalidArgument,
               "read_names: " + path + ":2:1: line must hold a name, got an empty line",
               [&] { read_names(path); });
  folder.write("n", std::string_view("a\nb\0c\n", 6));
  expect_error(Errc::kInvalidArgument,
               "read_names: " + path + ":2:2: name must be text, got a NUL byte",
               [&] { read_names(path); });
}

TEST(WriteNpy, ComesBackBitForBitFromEveryLayout) {
  const TemporaryFolder folder;
  const std::string path = folder.path("out.npy");
  const double nan = std::nan("");
  const std::vector<double> data = {1, -0.0, 0.1, 1e-310, nan, 6, 7, 8, 9, 10, 11, 1e308};
  const MatrixView<const double> views[] = {
      MatrixView<const double>::row_major(data.data(), 3, 4),
      MatrixView<const double>::column_major(data.data(), 3, 4),
      {data.data() + 11, 3, 2, -4, -2},  // strided backwards
      {data.data(), 12, 1, 1, 12}};
  for (const auto& view : views) {
    write_npy(path, view);
    const MatrixFile got = read_matrix(path);

    ASSERT_EQ(got.rows, view.rows);
    ASSERT_EQ(got.cols, view.cols);
    EXPECT_FALSE(got.column_major);
    std::vector<double> want;
    for (Index i = 0; i < view.rows; ++i) {
      for (Index j = 0; j < view.cols; ++j) want.push_back(view(i, j));
    }
    EXPECT_EQ(bytes_of(got.f64), bytes_of(want));
  }
  EXPECT_EQ(folder.n_files(), 1u);
}

TEST(WriteNpy, AlignsItsDataAsNumpyDoes) {
  const TemporaryFolder folder;
  const std::string path = folder.path("out.npy");
  const std::vector<double> data(1000, 1.0);
  for (const Index rows : {1, 10, 1000}) {
    write_npy(path, MatrixView<const double>::row_major(data.data(), rows, 1000 / rows));
    EXPECT_EQ(std::filesystem::file_size(path), 128u + 8000u);
  }
}

TEST(WriteNpy, LeavesTheOldFileIfItCannotWrite) {
  const double one = 1.0;
  const MatrixView<const double> matrix = MatrixView<const double>::row_major(&one, 1, 1);
  EXPECT_THROW(write_npy("/nowhere/out.npy", matrix), Error);
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path("taken.npy"));
  EXPECT_THROW(write_npy(folder.path("taken.npy"), matrix), Error);
  EXPECT_EQ(folder.n_files(), 1u);
}

}  // namespace
}  // namespace thresher

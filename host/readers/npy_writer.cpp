#include <algorithm>
#include <bit>
#include <vector>

#include "model/atomic_file.hpp"
#include "readers/matrix_file.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kAlignment = 64;                                         // of the data
constexpr std::size_t kBufferItems = (std::size_t{1} << 20) / sizeof(double);  // untuned

std::string npy_header(Index rows, Index cols) {
  const char order = std::endian::native == std::endian::little ? '<' : '>';
  std::string dictionary = std::string("{'descr': '") + order +
                           "f8', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                           std::to_string(cols) + "), }";
  const std::size_t before = 10;  // mark, version, length
  dictionary.resize(
      (before + dictionary.size() + 1 + kAlignment - 1) / kAlignment * kAlignment - before, ' ');
  dictionary.back() = '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

}  // namespace

void write_npy(const std::string& path, MatrixView<const double> matrix) {
  if (matrix.rows < 0 || matrix.cols < 0) {
    throw Error(Errc::kInvalidArgument, "write_npy: sizes must be at least 0, got " +
                                            std::to_string(matrix.rows) + " x " +
                                            std::to_string(matrix.cols));
  }
  AtomicFile file(path);
  const std::string header = npy_header(matrix.rows, matrix.cols);
  file.write(header.data(), header.size());
  std::vector<double> buffer;
  buffer.reserve(kBufferItems);
  for (Index i = 0; i < matrix.rows; ++i) {
    for (Index j = 0; j < matrix.cols; ++j) {
      buffer.push_back(matrix(i, j));
      if (buffer.size() < kBufferItems) continue;
      file.write(buffer.data(), buffer.size() * sizeof(double));
      buffer.clear();
    }
  }
  file.write(buffer.data(), buffer.size() * sizeof(double));
  file.commit();
}

}  // namespace thresher

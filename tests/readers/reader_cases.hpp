#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <zlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "readers/byte_source.hpp"
#include "readers/matrix_readers.hpp"
#include "thresher/error.hpp"

namespace thresher {

/// Runs `call`, which must throw Error{code} with exactly this message.
template <class Call>
void expect_error(Errc code, const std::string& message, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "expected thresher::Error: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(std::string(error.what()), message);
  }
}

/// A folder that goes away with its content.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "thresher_readers_XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp failed";
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  std::string path(const std::string& name) const { return path_ / name; }

  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(path(name), std::ios::binary).write(content.data(), std::ssize(content));
    return path(name);
  }

  std::size_t n_files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

inline std::string gzip(std::string_view content) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out(deflateBound(&stream, content.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// The bytes of `values` as they lie in memory.
template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

/// The same with the bytes of each value reversed.
template <class T>
std::string swapped_bytes_of(const std::vector<T>& values) {
  std::string out;
  for (const T& value : values) {
    const std::string bytes = bytes_of(std::vector<T>{value});
    out.append(bytes.rbegin(), bytes.rend());
  }
  return out;
}

/// A version 1.0 .npy file around a header dictionary, which is taken as it is.
inline std::string npy_around(const std::string& dictionary, const std::string& data) {
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(dictionary.size() & 0xff);
  out += static_cast<char>(dictionary.size() >> 8);
  return out + dictionary + data;
}

inline std::string npy_file(const std::string& descr, const std::string& shape,
                            const std::string& data, bool fortran_order = false) {
  return npy_around("{'descr': '" + descr + "', 'fortran_order': " +
                        (fortran_order ? "True" : "False") + ", 'shape': " + shape + ", }\n",
                    data);
}

/// All values in row-major order, whatever order they are stored in.
inline std::vector<double> values_by_row(const MatrixFile& matrix) {
  std::vector<double> out;
  const AnyMatrix view = matrix.view();
  for (Index i = 0; i < matrix.rows; ++i) {
    for (Index j = 0; j < matrix.cols; ++j) out.push_back(element(view, i, j));
  }
  return out;
}

}  // namespace thresher

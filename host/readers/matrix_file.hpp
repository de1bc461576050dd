#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "thresher/views.hpp"

namespace thresher {

/// A table read from a file. Exactly one of `f64`, `f32` holds the values, in column-major order if
/// `column_major`, else row-major.
struct MatrixFile {
  Index rows = 0;
  Index cols = 0;
  bool column_major = true;
  bool is_float = false;
  std::vector<double> f64;
  std::vector<float> f32;
  std::vector<std::string> column_names;  ///< from a CSV header, else empty
  std::vector<std::string> row_names;     ///< from a CSV's first column, else empty
  std::vector<double> labels;             ///< svmlight: the responses, else empty

  AnyMatrix view() const;
};

/// How to read. NaN and infinity pass through where the format has them (the library refuses them
/// with row and column); in CSV an empty field, NA and NaN are NaN only if `allow_missing`.
struct ReadOptions {
  bool as_float = false;  ///< give f32 whatever the file holds
  bool allow_missing = false;
  std::size_t max_bytes = 0;  ///< refuse before allocating more; 0: the machine's memory
};

/// Reads .npy (C or Fortran order; bool, integers, f2, f4, f8, any byte order; 1-d becomes one
/// column), .csv and .tsv (header and row names found by themselves, see matrix_readers.hpp),
/// svmlight (.svm, .svmlight, .libsvm) and Matrix Market (.mtx); each may end in .gz. An f4 array
/// stays float, everything else becomes double. Integers beyond 2^53 are rounded.
/// Throws   Error{kFile} if it cannot be opened or read;
///          Error{kInvalidArgument} if it is malformed, naming file, line and column, or the byte:
///          a column counts fields in CSV and TSV, bytes in other text, both from 1;
///          Error{kOutOfMemory} beyond max_bytes.
MatrixFile read_matrix(const std::string& path, const ReadOptions& options = {});

/// One name per line (CR LF accepted, no empty lines but the last; may end in .gz).
std::vector<std::string> read_names(const std::string& path);

/// Writes a C-order .npy of doubles, atomically (old file stays until the new one is complete).
void write_npy(const std::string& path, MatrixView<const double> matrix);

}  // namespace thresher

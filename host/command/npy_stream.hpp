#pragma once

#include <span>
#include <string>

#include "model/atomic_file.hpp"
#include "thresher/views.hpp"

namespace thresher::command {

/// A .npy of doubles written piece by piece, so that the matrix is never held as a whole.
class NpyStream {
 public:
  enum class Order { kColumns, kRows };  ///< Fortran order, C order

  NpyStream(const std::string& path, Index rows, Index cols, Order order);

  /// The next values in the order of the file.
  void append(std::span<const double> values);
  /// Throws   std::logic_error unless rows * cols values were appended.
  void commit();

 private:
  AtomicFile file_;
  Index missing_;
};

}  // namespace thresher::command

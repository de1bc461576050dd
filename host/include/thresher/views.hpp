#pragma once

#include <cstdint>
#include <span>
#include <variant>

namespace thresher {

/// Every size and index. 64 bits, so that rows * columns cannot wrap in practice.
using Index = std::int64_t;

/// A borrowed matrix: element (i, j) lies at data[i * row_stride + j * col_stride]. Strides count
/// elements and may be negative. The owner keeps the memory alive and unchanged during a call.
template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index row_stride = 1;
  Index col_stride = 0;

  T& operator()(Index i, Index j) const { return data[i * row_stride + j * col_stride]; }
  bool empty() const { return rows == 0 || cols == 0; }

  static MatrixView column_major(T* data, Index rows, Index cols) {
    return {data, rows, cols, 1, rows};
  }
  static MatrixView row_major(T* data, Index rows, Index cols) {
    return {data, rows, cols, cols, 1};
  }
};

/// X or Y as given: double or float, any layout. Never copied as a whole, never written to.
using AnyMatrix = std::variant<MatrixView<const double>, MatrixView<const float>>;

inline Index rows(const AnyMatrix& m) {
  return std::visit([](const auto& v) { return v.rows; }, m);
}
inline Index cols(const AnyMatrix& m) {
  return std::visit([](const auto& v) { return v.cols; }, m);
}
inline double element(const AnyMatrix& m, Index i, Index j) {
  return std::visit([&](const auto& v) { return static_cast<double>(v(i, j)); }, m);
}
inline bool is_float(const AnyMatrix& m) { return m.index() == 1; }

}  // namespace thresher

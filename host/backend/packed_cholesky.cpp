#include "backend/packed_cholesky.hpp"

#include <algorithm>
#include <cmath>

#include "backend/blas.hpp"
#include "backend/simd.hpp"

namespace thresher {
namespace {
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
}  // namespace

void PackedCholesky::make_room(Index n) {
  while (kRows * static_cast<Index>(blocks_.size()) < n) {
    blocks_.emplace_back(at(kRows * kRows) * (blocks_.size() + 1));
  }
}

double PackedCholesky::forward_row(const double* g, std::vector<double>& l) const {
  l.assign(g, g + size_);
  return forward_rest(l, 0);
}

double PackedCholesky::forward_rest(std::vector<double>& l, Index known) const {
  const Simd& kernels = simd();
  double squares = 0.0;
  for (Index i = known; i < size_; ++i) {
    const double* r = row(i);
    const double value = (l[at(i)] - kernels.dot(i - known, r + known, l.data() + known)) / r[i];
    l[at(i)] = value;
    squares += value * value;
  }
  return squares;
}

void PackedCholesky::forward_columns(std::span<double* const> columns) const {
  constexpr Index kAtOnce = 2 * kRows;
  const Simd& kernels = simd();
  const auto count = static_cast<Index>(columns.size());
  // Of kAtOnce rows: what earlier rows contribute, then the solution; one row after the other.
  std::vector<double> part(at(kAtOnce * count));
  const double* rows[kAtOnce];
  const double* solved[kAtOnce];
  double minus[kAtOnce];
  for (Index first = 0; first < size_; first += kAtOnce) {
    const Index m = std::min(kAtOnce, size_ - first);
    for (Index i = 0; i < m; ++i) {
      rows[i] = row(first + i);
      solved[i] = part.data() + i * count;
    }
    cross_in_blocks(first, columns.data(), count, rows, m, part.data(), count);
    for (Index i = 0; i < m; ++i) {
      double* values = part.data() + i * count;
      for (Index c = 0; c < count; ++c) values[c] = columns[at(c)][first + i] - values[c];
      for (Index k = 0; k < i; ++k) minus[k] = -rows[i][first + k];
      kernels.axpys(count, i, minus, solved, values);
      const double diagonal = rows[i][first + i];
      for (Index c = 0; c < count; ++c) {
        values[c] /= diagonal;
        columns[at(c)][first + i] = values[c];
      }
    }
  }
}

void PackedCholesky::append(const std::vector<double>& l, double diagonal) {
  make_room(size_ + 1);
  double* r = row(size_);
  std::copy(l.begin(), l.begin() + size_, r);
  r[size_] = diagonal;
  ++size_;
}

bool PackedCholesky::factor(Index n, double* upper, double tiny) {
  size_ = 0;
  std::vector<double> diagonal(at(n));
  for (Index i = 0; i < n; ++i) diagonal[at(i)] = upper[i * n + i];
  if (!blas::cholesky_upper(n, upper, n)) return false;
  for (Index i = 0; i < n; ++i) {
    const double pivot = upper[i * n + i];
    if (!(pivot * pivot > tiny * diagonal[at(i)])) return false;
  }
  make_room(n);
  // Column i of U is row i of L.
  for (Index i = 0; i < n; ++i) std::copy(upper + i * n, upper + i * n + i + 1, row(i));
  size_ = n;
  return true;
}

void PackedCholesky::remove(Index position) {
  // Without row `position` the trailing block must become the factor of L33 L33' + v v', v being
  // column `position` below the diagonal: one rotation per remaining column, applied row by row.
  // Four rows at a time: their chains of rotations are independent.
  const Index n_trailing = size_ - position - 1;
  std::vector<double> cosine(at(n_trailing)), sine(at(n_trailing));
  const Index first = position + 1;
  for (Index i = first; i < size_;) {
    const Index count = std::min<Index>(4, size_ - i);
    double x[4];
    double* r[4];
    for (Index k = 0; k < count; ++k) {
      r[k] = row(i + k);
      x[k] = r[k][position];
    }
    const Index n_done = i - first;  // rotations known before this group of rows
    if (count == 4) {
      for (Index c = 0; c < n_done; ++c) {
        const double co = cosine[at(c)], si = sine[at(c)];
        for (int k = 0; k < 4; ++k) {
          const double t = r[k][first + c];
          r[k][first + c] = co * t + si * x[k];
          x[k] = co * x[k] - si * t;
        }
      }
    } else {
      for (Index c = 0; c < n_done; ++c) {
        for (Index k = 0; k < count; ++k) {
          const double t = r[k][first + c];
          r[k][first + c] = cosine[at(c)] * t + sine[at(c)] * x[k];
          x[k] = cosine[at(c)] * x[k] - sine[at(c)] * t;
        }
      }
    }
    for (Index k = 0; k < count; ++k) {
      for (Index c = n_done; c < n_done + k; ++c) {
        const double t = r[k][first + c];
        r[k][first + c] = cosine[at(c)] * t + sine[at(c)] * x[k];
        x[k] = cosine[at(c)] * x[k] - sine[at(c)] * t;
      }
      const Index c = n_done + k;
      const double diagonal = r[k][first + c];
      const double length = std::hypot(diagonal, x[k]);
      cosine[at(c)] = diagonal / length;
      sine[at(c)] = x[k] / length;
      r[k][first + c] = length;
    }
    i += count;
  }
  // Rows move up by one and lose entry `position`.
  for (Index i = first; i < size_; ++i) {
    const double* source = row(i);
    double* target = row(i - 1);
    std::copy(source, source + position, target);
    std::copy(source + position + 1, source + i + 1, target + position);
  }
  --size_;
}

void PackedCholesky::solve(double* b, Index first_nonzero) const {
  const Simd& kernels = simd();
  for (Index i = first_nonzero; i < size_; ++i) {
    const double* r = row(i);
    b[i] = (b[i] - kernels.dot(i - first_nonzero, r + first_nonzero, b + first_nonzero)) / r[i];
  }
  solve_transposed(b);
}

void PackedCholesky::solve_transposed(double* b) const {
  const Simd& kernels = simd();
  for (Index i = size_ - 1; i >= 0; --i) {
    const double* r = row(i);
    b[i] /= r[i];
    kernels.axpy(i, -b[i], r, b);
  }
}

}  // namespace thresher

#include "backend/packed_cholesky.hpp"

#include <algorithm>
#include <cmath>

#include "backend/blas.hpp"
#include "backend/simd.hpp"

namespace thresher {
namespace {
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Rotates columns 0 .. count - 1 of a row against x.
double rotate(Index count, const Rotation* rotations, double* row, double x) {
  for (Index c = 0; c < count; ++c) {
    const auto [cosine, sine] = rotations[c];
    const double t = row[c];
    row[c] = cosine * t + sine * x;
    x = cosine * x - sine * t;
  }
  return x;
}

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
  const auto count = static_cast<Index>(columns.size());
  std::vector<double> part(at(kAtOnce * count));  // of kAtOnce rows: what earlier rows contribute
  const double* rows[kAtOnce];
  for (Index first = 0; first < size_; first += kAtOnce) {
    const Index m = std::min(kAtOnce, size_ - first);
    for (Index i = 0; i < m; ++i) rows[i] = row(first + i);
    cross_in_blocks(first, rows, m, columns.data(), count, part.data(), kAtOnce);
    for (Index c = 0; c < count; ++c) {
      double* values = columns[at(c)] + first;
      for (Index i = 0; i < m; ++i) values[i] -= part[at(c * kAtOnce + i)];
      solve_rows(first, first + m, columns[at(c)]);
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

// Without row p the trailing block must become the factor of L33 L33' + v v', v being column p
// below the diagonal: one rotation per remaining column, applied row by row, for each p from the
// last to the first while the row is at hand.
void PackedCholesky::remove(std::span<const Index> positions) {
  const std::size_t n_gone = positions.size();
  const Index origin = positions.front();
  const Index width = size_ - origin;
  std::vector<Rotation> rotations(n_gone * at(width));
  // A few rows at a time: their chains of rotations are independent.
  double* r[kRotatedRows];
  double* starts[kRotatedRows];
  double x[kRotatedRows];
  std::size_t n_above = 1;  // removed rows above row i
  for (Index i = origin + 1; i < size_;) {
    if (n_above < n_gone && positions[n_above] == i) {
      ++n_above;
      ++i;
      continue;
    }
    const Index stop = n_above < n_gone ? positions[n_above] : size_;
    const Index count = std::min(kRotatedRows, stop - i);
    for (Index k = 0; k < count; ++k) r[k] = row(i + k);
    for (std::size_t m = n_above; m-- > 0;) {
      Rotation* own = rotations.data() + m * at(width);  // by column, from origin on
      for (Index k = 0; k < count; ++k) x[k] = r[k][positions[m]];
      for (std::size_t next = m; next < n_above; ++next) {
        const Index from = positions[next] + 1;
        const Index to = next + 1 < n_above ? positions[next + 1] : i;
        const Rotation* between = own + (from - origin);
        if (count == kRotatedRows) {
          for (Index k = 0; k < count; ++k) starts[k] = r[k] + from;
          simd().rotate(to - from, between, starts, x);
        } else {
          for (Index k = 0; k < count; ++k) x[k] = rotate(to - from, between, r[k] + from, x[k]);
        }
      }
      for (Index k = 0; k < count; ++k) {
        x[k] = rotate(k, own + (i - origin), r[k] + i, x[k]);
        const double diagonal = r[k][i + k];
        const double length = std::hypot(diagonal, x[k]);
        own[i + k - origin] = {diagonal / length, x[k] / length};
        r[k][i + k] = length;
      }
    }
    // Rows move up and lose the entries that are gone.
    for (Index k = 0; k < count; ++k) {
      double* target = row(i + k - static_cast<Index>(n_above));
      std::copy(r[k], r[k] + origin, target);
      target += origin;
      for (std::size_t m = 0; m < n_above; ++m) {
        const Index to = m + 1 < n_above ? positions[m + 1] : i + k + 1;
        target = std::copy(r[k] + positions[m] + 1, r[k] + to, target);
      }
    }
    i += count;
  }
  size_ -= static_cast<Index>(n_gone);
}

void PackedCholesky::solve_rows(Index start, Index stop, double* b) const {
  const Simd& kernels = simd();
  Index i = start;
  for (; i + kRows <= stop; i += kRows) {
    kernels.solve_forward(i - start, row(i) + start, stride(i), b + start);
  }
  for (; i < stop; ++i) {
    const double* r = row(i);
    b[i] = (b[i] - kernels.dot(i - start, r + start, b + start)) / r[i];
  }
}

void PackedCholesky::solve(double* b, Index first_nonzero) const {
  solve_rows(first_nonzero / kRows * kRows, size_, b);
  solve_transposed(b);
}

void PackedCholesky::solve_transposed(double* b) const {
  const Simd& kernels = simd();
  Index i = size_;
  for (; i % kRows != 0; --i) {
    const double* r = row(i - 1);
    b[i - 1] /= r[i - 1];
    kernels.axpy(i - 1, -b[i - 1], r, b);
  }
  for (; i > 0; i -= kRows) {
    const Index n = i - kRows;
    kernels.solve_backward(n, row(n), stride(n), b);
  }
}

}  // namespace thresher

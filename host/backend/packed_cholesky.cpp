#include "backend/packed_cholesky.hpp"

#include <algorithm>
#include <cmath>

#include "backend/blas.hpp"
#include "backend/simd.hpp"

namespace thresher {
namespace {
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Rows that share a reading of the right-hand side.
constexpr Index kTogether = 4;

struct Rotation {
  double cosine, sine;
};

/// Rotates columns from .. to - 1 of some rows against what x carries.
template <Index Rows>
void rotate(const Rotation* rotations, Index from, Index to, double* const* r, double* x) {
  for (Index c = from; c < to; ++c) {
    const auto [cosine, sine] = rotations[c - from];
    for (Index k = 0; k < Rows; ++k) {
      const double t = r[k][c];
      r[k][c] = cosine * t + sine * x[k];
      x[k] = cosine * x[k] - sine * t;
    }
  }
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

// Without row p the trailing block must become the factor of L33 L33' + v v', v being column p
// below the diagonal: one rotation per remaining column, applied row by row, for each p from the
// last to the first while the row is at hand.
void PackedCholesky::remove(std::span<const Index> positions) {
  const std::size_t n_gone = positions.size();
  const Index origin = positions.front();
  const Index width = size_ - origin;
  std::vector<Rotation> rotations(n_gone * at(width));
  // A few rows at a time: their chains of rotations are independent.
  constexpr Index kAtOnce = 8;
  double* r[kAtOnce];
  double x[kAtOnce];
  std::size_t n_above = 1;  // removed rows above row i
  for (Index i = origin + 1; i < size_;) {
    if (n_above < n_gone && positions[n_above] == i) {
      ++n_above;
      ++i;
      continue;
    }
    const Index stop = n_above < n_gone ? positions[n_above] : size_;
    const Index count = std::min(kAtOnce, stop - i);
    for (Index k = 0; k < count; ++k) r[k] = row(i + k);
    for (std::size_t m = n_above; m-- > 0;) {
      Rotation* own = rotations.data() + m * at(width);  // by column, from origin on
      for (Index k = 0; k < count; ++k) x[k] = r[k][positions[m]];
      for (std::size_t next = m; next < n_above; ++next) {
        const Index from = positions[next] + 1;
        const Index to = next + 1 < n_above ? positions[next + 1] : i;
        if (count == kAtOnce) {
          rotate<kAtOnce>(own + (from - origin), from, to, r, x);
        } else {
          for (Index k = 0; k < count; ++k)
            rotate<1>(own + (from - origin), from, to, r + k, x + k);
        }
      }
      for (Index k = 0; k < count; ++k) {
        rotate<1>(own + (i - origin), i, i + k, r + k, x + k);
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

void PackedCholesky::solve(double* b, Index first_nonzero) const {
  const Simd& kernels = simd();
  const double* r[kTogether];
  double sums[kTogether];
  for (Index i = first_nonzero; i < size_; i += kTogether) {
    const Index m = std::min(kTogether, size_ - i);
    for (Index k = 0; k < m; ++k) r[k] = row(i + k) + first_nonzero;
    kernels.dots(i - first_nonzero, r, m, b + first_nonzero, sums);
    for (Index k = 0; k < m; ++k) {
      const double* own = row(i + k) + i;
      double value = b[i + k] - sums[k];
      for (Index c = 0; c < k; ++c) value -= own[c] * b[i + c];
      b[i + k] = value / own[k];
    }
  }
  solve_transposed(b);
}

void PackedCholesky::solve_transposed(double* b) const {
  const Simd& kernels = simd();
  const double* r[kTogether];
  double minus[kTogether];
  for (Index stop = size_; stop > 0;) {
    const Index m = std::min(kTogether, stop);
    const Index i = stop - m;
    for (Index k = m - 1; k >= 0; --k) {
      r[k] = row(i + k);
      double& value = b[i + k];
      value /= r[k][i + k];
      minus[k] = -value;
      for (Index c = 0; c < k; ++c) b[i + c] -= value * r[k][i + c];
    }
    kernels.axpys(i, m, minus, r, b);
    stop = i;
  }
}

}  // namespace thresher

#include "backend/row_space_system.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/blas.hpp"

namespace thresher {
namespace {

constexpr Index kColumnsAtOnce = 256;
constexpr Index kTile = 32;  // both triangles of a tile pair stay in the cache

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

void RowSpaceSystem::add(std::span<const double* const> x, std::span<const double> e0,
                         double sign) {
  const auto count = static_cast<Index>(x.size());
  double scale[kColumnsAtOnce];
  for (Index first = 0; first < count; first += kColumnsAtOnce) {
    const Index m = std::min(kColumnsAtOnce, count - first);
    if (packed_.size() < at(m * n_)) packed_.resize(at(m * n_));
    for (Index c = 0; c < m; ++c) scale[c] = 1.0 / std::sqrt(e0[at(first + c)]);
    for (Index i = 0; i < n_; ++i) {
      double* row = packed_.data() + i * m;
      for (Index c = 0; c < m; ++c) row[c] = scale[c] * x[at(first + c)][i];
    }
    blas::syrk_lower(n_, m, sign, packed_.data(), m, 1.0, sum_.data(), n_);
  }
}

bool RowSpaceSystem::factor(double scale) {
  if (whole_.empty()) whole_.resize(at(n_ * n_));
  for (Index j0 = 0; j0 < n_; j0 += kTile) {
    for (Index i0 = j0; i0 < n_; i0 += kTile) {
      for (Index j = j0; j < std::min(n_, j0 + kTile); ++j) {
        for (Index i = std::max(i0, j); i < std::min(n_, i0 + kTile); ++i) {
          whole_[at(i * n_ + j)] = scale * sum_[at(j * n_ + i)];
        }
      }
    }
  }
  for (Index i = 0; i < n_; ++i) whole_[at(i * n_ + i)] += 1.0;
  return factor_.factor(n_, whole_.data(), std::numeric_limits<double>::epsilon());
}

}  // namespace thresher

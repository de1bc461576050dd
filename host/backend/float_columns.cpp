#include "backend/float_columns.hpp"

#include <algorithm>

#include "backend/simd.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

void FloatColumns::put(std::span<const Index> places, const double* const* x) {
  for (const Index place : places) {
    while (kPanel * static_cast<Index>(panels_.size()) <= place) {
      panels_.emplace_back().assign(at(kPanel * n_rows_), 0.0F);
    }
  }
  // Some rows of all columns at a time: neighbours share cache lines.
  constexpr Index kTogether = 64;
  for (Index row = 0; row < n_rows_; row += kTogether) {
    const Index rows = std::min(kTogether, n_rows_ - row);
    for (std::size_t c = 0; c < places.size(); ++c) {
      const double* source = x[c] + row;
      float* target = panels_[at(places[c] / kPanel)].data() + row * kPanel + places[c] % kPanel;
      for (Index i = 0; i < rows; ++i) target[i * kPanel] = static_cast<float>(source[i]);
    }
  }
}

void FloatColumns::cross(std::span<const Index> places, Index first, double* out, Index ld) {
  const Index count = static_cast<Index>(places.size()) - first;
  const Index n_groups = (count + kMaxRightSides - 1) / kMaxRightSides;
  const Index sides = (count + n_groups - 1) / n_groups;  // of a group; the last may have fewer
  const Index width = n_groups * sides * kPanel;          // sums of a panel
  sides_.resize(at(kRows * n_groups * sides));
  part_.resize(at(sides * kPanel));
  sums_.resize(panels_.size() * at(width));
  std::fill(sums_.begin(), sums_.end(), 0.0);
  for (Index row = 0; row < n_rows_; row += kRows) {
    const Index rows = std::min(kRows, n_rows_ - row);
    for (Index c = 0; c < count; ++c) {
      const Index place = places[at(first + c)], group = c / sides;
      const Index m = std::min(sides, count - group * sides);
      const float* source = panels_[at(place / kPanel)].data() + row * kPanel + place % kPanel;
      float* target = sides_.data() + group * sides * kRows + c % sides;
      for (Index i = 0; i < rows; ++i) target[i * m] = source[i * kPanel];
    }
    for (std::size_t p = 0; p < panels_.size(); ++p) {
      const float* panel = panels_[p].data() + row * kPanel;
      for (Index group = 0; group < n_groups; ++group) {
        const Index m = std::min(sides, count - group * sides);
        simd().correlate_floats(rows, panel, m, sides_.data() + group * sides * kRows, part_.data(),
                                kPanel);
        double* sums = sums_.data() + p * at(width) + at(group * sides * kPanel);
        for (Index i = 0; i < m * kPanel; ++i) sums[i] += static_cast<double>(part_[at(i)]);
      }
    }
  }
  for (Index c = 0; c < count; ++c) {
    for (std::size_t k = 0; k < places.size(); ++k) {
      const Index place = places[k];
      out[c * ld + static_cast<Index>(k)] =
          sums_[at(place / kPanel * width + c * kPanel + place % kPanel)];
    }
  }
}

void FloatColumns::combine(const double* b, double* r) {
  const Index n_panels = static_cast<Index>(panels_.size());
  std::vector<float> scale(at(n_places()));
  for (Index k = 0; k < n_places(); ++k) scale[at(k)] = static_cast<float>(b[k]);
  const float* together[kMostTogether];
  for (Index first = 0; first < n_panels; first += kMostTogether) {
    const Index count = std::min(kMostTogether, n_panels - first);
    for (Index p = 0; p < count; ++p) together[p] = panels_[at(first + p)].data();
    simd().combine_floats(n_rows_, together, count, scale.data() + first * kPanel, r);
  }
}

void FloatColumns::correlate(const double* z, double* out) {
  sides_.resize(at(n_rows_));
  part_.resize(at(kPanel));
  for (Index i = 0; i < n_rows_; ++i) sides_[at(i)] = static_cast<float>(z[i]);
  std::fill(out, out + n_places(), 0.0);
  for (std::size_t p = 0; p < panels_.size(); ++p) {
    for (Index row = 0; row < n_rows_; row += kRows) {
      simd().correlate_floats(std::min(kRows, n_rows_ - row), panels_[p].data() + row * kPanel, 1,
                              sides_.data() + row, part_.data(), kPanel);
      for (Index f = 0; f < kPanel; ++f) {
        out[static_cast<Index>(p) * kPanel + f] += static_cast<double>(part_[at(f)]);
      }
    }
  }
}

}  // namespace thresher

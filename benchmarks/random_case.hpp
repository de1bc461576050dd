#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "thresher/views.hpp"

namespace thresher::bench {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

inline std::vector<double> random_values(Index size, double least, double most, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(least, most);
  std::vector<double> out(at(size));
  for (double& v : out) v = uniform(random);
  return out;
}

/// The first column is `draw`n; each of the others is half the one before it and fresh draws, as
/// `thresher simulate` makes them. Column-major (n, p).
template <class Draw>
std::vector<double> autoregressive_columns(Index n, Index p, Draw&& draw) {
  std::vector<double> X(at(n * p));
  for (Index j = 0; j < p; ++j) {
    for (Index i = 0; i < n; ++i) {
      const double fresh = draw();
      X[at(j * n + i)] = j == 0 ? fresh : 0.5 * X[at((j - 1) * n + i)] + std::sqrt(0.75) * fresh;
    }
  }
  return X;
}

}  // namespace thresher::bench

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "thresher/views.hpp"

namespace thresher {

/// The largest eigenvalue of a symmetric positive semidefinite operator on k >= 1 numbers, to about
/// 1e-10 of itself: Lanczos with full reorthogonalisation, from a fixed start that favours no
/// direction; the largest Ritz value converges from below.
///
/// apply(v, next)          next = operator v, k numbers each
/// eigen(size, T, w)       as blas::symmetric_eigen, on at most 80 rows
/// Repeat   The same bits every time if the two give them.
template <class Apply, class Eigen>
double lanczos_top_eigenvalue(Index k, Apply&& apply, Eigen&& eigen) {
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  const Index steps = std::min<Index>(k, 80);
  std::vector<double> basis(at(k) * at(steps + 1));
  std::vector<double> diagonal, off;
  double norm = 0.0;
  for (Index i = 0; i < k; ++i) {
    basis[at(i)] = 1.0 + 0.5 * std::sin(1.0 + 1.7 * static_cast<double>(i));
    norm += basis[at(i)] * basis[at(i)];
  }
  for (Index i = 0; i < k; ++i) basis[at(i)] /= std::sqrt(norm);
  double ritz = 0.0;
  for (Index step = 0; step < steps; ++step) {
    const double* v = basis.data() + step * k;
    double* next = basis.data() + (step + 1) * k;
    apply(v, next);
    double a = 0.0;
    for (Index i = 0; i < k; ++i) a += v[i] * next[i];
    diagonal.push_back(a);
    for (int pass = 0; pass < 2; ++pass) {
      for (Index l = 0; l <= step; ++l) {
        const double* q = basis.data() + l * k;
        double dot = 0.0;
        for (Index i = 0; i < k; ++i) dot += q[i] * next[i];
        for (Index i = 0; i < k; ++i) next[i] -= dot * q[i];
      }
    }
    double square = 0.0;
    for (Index i = 0; i < k; ++i) square += next[i] * next[i];
    const double length = std::sqrt(square);
    const Index size = step + 1;
    std::vector<double> T(at(size) * at(size), 0.0), w(at(size));
    for (Index i = 0; i < size; ++i) {
      T[at(i * size + i)] = diagonal[at(i)];
      if (i + 1 < size) T[at(i * size + i + 1)] = off[at(i)];
    }
    if (!eigen(size, T.data(), w.data())) return ritz;
    const double before = ritz;
    ritz = w.back();
    // The Ritz residual is length * (last entry of its vector); its square bounds the error.
    const double last = T[at(size * size - 1)];
    if (!(length * std::fabs(last) > 1e-7 * ritz) && step > 0 && ritz - before <= 1e-12 * ritz) {
      break;
    }
    if (!(length > 1e-14 * ritz)) break;
    off.push_back(length);
    for (Index i = 0; i < k; ++i) next[i] /= length;
  }
  return ritz;
}

}  // namespace thresher

#pragma once

// The terms of the duality gap (design section 4), shared by the host and the CUDA kernels. Needs
// no CUDA header, so the CPU build tests the very lines the GPU runs.

#include <cmath>

#include "host_device.hpp"

namespace thresher {

/// One term of the gap: a penalised, not excluded feature with b != 0 or |g| > a.
struct GapTerm {
  double a, e, b, g;
};

/// The gap at some s and its derivative.
struct GapAt {
  double value = 0.0;
  double slope = 0.0;
};

/// Adds a |b| + e b^2 / 2 - s b g + c(s) and its derivative in s, written so that nothing cancels.
THRESHER_HOST_DEVICE inline void add_term(const GapTerm& t, double s, GapAt& sum) {
  using std::fabs;
  // a|b| - s b g is |b| (a - s|g|) where b and g agree.
  const double size = fabs(t.b);
  const bool agree = t.b * t.g >= 0.0;
  double value = size * (agree ? t.a - s * fabs(t.g) : t.a + s * fabs(t.g)) + 0.5 * t.e * t.b * t.b;
  double slope = -t.b * t.g;
  const double excess = s * fabs(t.g) - t.a;
  if (t.e > 0.0 && excess > 0.0) {
    // With c(s) the three terms are the square (e|b| - excess)^2 / (2e), if b and g agree.
    const double signed_size = agree ? size : -size;
    const double root = t.e * signed_size - excess;
    value = root * root / (2.0 * t.e) + t.a * (size - signed_size);
    slope = -root * fabs(t.g) / t.e;
  }
  sum.value += value;
  sum.slope += slope;
}

}  // namespace thresher

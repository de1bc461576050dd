#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/simd.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// X in half precision, for proving that features are inactive (design section 6, "certified low
/// precision"). Panels of kPanel columns, each stored row by row, so that one pass reads memory in
/// order. With xh_j the rounded column and zh a residual rounded to float,
///
///     |x_j' z - float(xh_j' zh)| <= slack(j) |z|,
///     slack(j) = |x_j - xh_j| + (gamma + 2^-24) |xh_j|,   gamma = u (kRowBlock + n/kRowBlock + 2),
///
/// u = 2^-24, norms taken in double and rounded up.
class HalfPanels {
 public:
  HalfPanels(Index n_samples, Index n_features);

  /// Stores column j; different columns may be set from several threads.
  void set_column(Index j, const double* x);

  Index n_samples() const { return n_; }
  Index n_features() const { return p_; }
  Index n_panels() const { return (p_ + kPanel - 1) / kPanel; }
  /// Rows of the results of correlate: n_features rounded up to whole panels.
  Index padded_features() const { return n_panels() * kPanel; }
  const float* slack() const { return slack_.data(); }

  /// c(b, f) = xh_f' z_b for right-hand sides b < m: z[i * m + b], c[b * padded_features() + f].
  void correlate(Index m, const float* z, float* c) const;

  static std::size_t bytes(Index n_samples, Index n_features);

 private:
  Index n_, p_;
  struct Free {
    void operator()(std::uint16_t* p) const;
  };
  std::unique_ptr<std::uint16_t, Free> panels_;
  std::vector<float> slack_;  // (padded_features)
};

}  // namespace thresher

#include "backend/half_panels.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "thresher/error.hpp"

namespace thresher {

void HalfPanels::Free::operator()(std::uint16_t* p) const { std::free(p); }

std::size_t HalfPanels::bytes(Index n_samples, Index n_features) {
  const auto panels = static_cast<std::size_t>((n_features + kPanel - 1) / kPanel);
  return panels * static_cast<std::size_t>(kPanel * n_samples) * sizeof(std::uint16_t);
}

HalfPanels::HalfPanels(Index n_samples, Index n_features) : n_(n_samples), p_(n_features) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const std::size_t size = (bytes(n_, p_) + kHugePage - 1) / kHugePage * kHugePage;
  panels_.reset(static_cast<std::uint16_t*>(std::aligned_alloc(kHugePage, size)));
  if (!panels_) {
    throw Error(Errc::kOutOfMemory, "fit: the half-precision copy of X must fit in memory, need " +
                                        std::to_string(size) + " bytes");
  }
  madvise(panels_.get(), size, MADV_HUGEPAGE);  // fewer page faults; harmless where refused
  slack_.assign(static_cast<std::size_t>(padded_features()), 0.0F);
  if (p_ % kPanel != 0) {
    std::uint16_t* last = panels_.get() + (n_panels() - 1) * kPanel * n_;
    std::fill(last, last + kPanel * n_, std::uint16_t{0});
  }
}

void HalfPanels::set_column(Index j, const double* x) {
  std::uint16_t* out = panels_.get() + (j / kPanel) * kPanel * n_ + j % kPanel;
  const double error = std::sqrt(simd().to_half(n_, x, out));
  const double norm = std::sqrt(simd().dot(n_, x, x));
  const double u = std::ldexp(1.0, -24);
  const double n_blocks = static_cast<double>((n_ + kRowBlock - 1) / kRowBlock);
  const double gamma = u * (static_cast<double>(std::min(n_, kRowBlock)) + n_blocks + 2.0);
  const double slack = error + (gamma + u) * (norm + error);
  // One part in a thousand covers the second-order terms and the rounding of the norms; then up to
  // the next float.
  slack_[static_cast<std::size_t>(j)] =
      std::nextafter(static_cast<float>(slack * 1.001), std::numeric_limits<float>::infinity());
}

void HalfPanels::correlate(Index m, const float* z, float* c) const {
  constexpr Index kTogether = 3;  // so few that all right-hand sides find them in the cache
  for (Index panel = 0; panel < n_panels(); panel += kTogether) {
    simd().correlate_panels(n_, panels_.get() + panel * kPanel * n_,
                            std::min(kTogether, n_panels() - panel), m, z, c + panel * kPanel,
                            padded_features());
  }
}

}  // namespace thresher

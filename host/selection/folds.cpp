#include <string>

#include "thresher/error.hpp"
#include "thresher/options.hpp"

namespace thresher {
namespace {

/// SplitMix64 (Steele, Lea & Flood 2014): the same stream on every machine.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  /// Uniform in [0, bound), without bias.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t reject_above = UINT64_MAX - UINT64_MAX % bound;
    for (;;) {
      const std::uint64_t value = next();
      if (value < reject_above) return value % bound;
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace

std::vector<Index> make_folds(Index n_samples, Index n_folds, std::uint64_t seed) {
  if (n_folds < 2 || n_folds > n_samples) {
    throw Error(Errc::kInvalidArgument,
                "make_folds: n_folds must lie between 2 and the number of rows, " +
                    std::to_string(n_samples) + ", got " + std::to_string(n_folds));
  }
  std::vector<Index> order(static_cast<std::size_t>(n_samples));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Index>(i);
  SplitMix64 random(seed);
  for (std::size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[random.below(i + 1)]);
  }
  std::vector<Index> fold(order.size());
  for (std::size_t k = 0; k < order.size(); ++k) {
    fold[static_cast<std::size_t>(order[k])] = static_cast<Index>(k) % n_folds;
  }
  return fold;
}

}  // namespace thresher

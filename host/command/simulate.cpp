#include "command/simulate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "thresher/error.hpp"

namespace thresher::command {
namespace {

// Steele, Lea & Flood (2014); used to spread seeds.
std::uint64_t split_mix(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Natural logarithm for 2^-1000 < x < 1 to about 1e-16, the same bits everywhere: that of libm
// differs between versions and processors.
double portable_log(double x) {
  constexpr double kLn2 = 0.693147180559945309417232121458;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<int>(bits >> 52) - 1022;
  constexpr std::uint64_t kMantissa = (std::uint64_t{1} << 52) - 1;
  double m = std::bit_cast<double>((bits & kMantissa) | (std::uint64_t{1022} << 52));
  if (m < 0.70710678118654752) {  // keep m within [sqrt(1/2), sqrt(2))
    m *= 2.0;
    --exponent;
  }
  // log m = 2 atanh t; |t| < 0.1716, so the term t^23 is below 1e-17 of the first.
  const double t = (m - 1.0) / (m + 1.0);
  const double t2 = t * t;
  double sum = 1.0 / 21.0;
  for (int k = 19; k >= 3; k -= 2) sum = sum * t2 + 1.0 / k;
  return exponent * kLn2 + 2.0 * t * (1.0 + sum * t2);
}

// What a stream of random numbers is for; a stream is named by (seed, purpose, position).
enum class Purpose : std::uint64_t { kFeature = 1, kCoefficients = 2, kNoise = 3 };

// xoshiro256++, Blackman & Vigna (2019), with Marsaglia's polar method on top.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, Purpose purpose, Index position) {
    std::uint64_t state = seed;
    state = split_mix(state) + static_cast<std::uint64_t>(purpose);
    state = split_mix(state) + static_cast<std::uint64_t>(position);
    for (std::uint64_t& word : words_) word = split_mix(state);
  }

  std::uint64_t next() {
    const std::uint64_t result = std::rotl(words_[0] + words_[3], 23) + words_[0];
    const std::uint64_t shifted = words_[1] << 17;
    words_[2] ^= words_[0];
    words_[3] ^= words_[1];
    words_[1] ^= words_[2];
    words_[0] ^= words_[3];
    words_[2] ^= shifted;
    words_[3] = std::rotl(words_[3], 45);
    return result;
  }

  /// Uniform on 0 .. bound - 1, without bias.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t reject = (0 - bound) % bound;  // 2^64 mod bound
    for (;;) {
      const std::uint64_t value = next();
      if (value >= reject) return value % bound;
    }
  }

  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    for (;;) {
      const double u = uniform();
      const double v = uniform();
      const double s = u * u + v * v;
      if (s >= 1.0 || s == 0.0) continue;
      const double factor = std::sqrt(-2.0 * portable_log(s) / s);
      spare_ = v * factor;
      has_spare_ = true;
      return u * factor;
    }
  }

 private:
  /// Uniform on the multiples of 2^-52 in [-1, 1).
  double uniform() {
    return static_cast<double>(static_cast<std::int64_t>(next()) >> 11) * 0x1p-52;
  }

  std::array<std::uint64_t, 4> words_{};
  double spare_ = 0.0;
  bool has_spare_ = false;
};

struct Coefficient {
  Index feature = 0;
  Index response = 0;
  double value = 0.0;
};

// The coefficients of one response by feature; Floyd's sampling without replacement.
// `marks` (features) is all 0 on entry and on return.
std::vector<Coefficient> draw_coefficients(const SimulationSpec& spec, Index response,
                                           std::vector<std::uint8_t>& marks) {
  RandomStream random(spec.seed, Purpose::kCoefficients, response);
  std::vector<Coefficient> drawn;
  drawn.reserve(static_cast<std::size_t>(spec.support));
  for (Index last = spec.features - spec.support; last < spec.features; ++last) {
    auto feature = static_cast<Index>(random.below(static_cast<std::uint64_t>(last) + 1));
    if (marks[static_cast<std::size_t>(feature)] != 0) feature = last;
    marks[static_cast<std::size_t>(feature)] = 1;
    drawn.push_back({feature, response, 0.0});
  }
  std::sort(drawn.begin(), drawn.end(),
            [](const Coefficient& a, const Coefficient& b) { return a.feature < b.feature; });
  for (Coefficient& c : drawn) {
    marks[static_cast<std::size_t>(c.feature)] = 0;
    c.value = random.normal();
  }
  return drawn;
}

double integer_power(double base, Index exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if ((exponent & 1) != 0) result *= base;
  }
  return result;
}

// b' S b with S_jk = corr^|j-k|, in one pass over the sorted support.
double signal_variance(const std::vector<Coefficient>& coef, double corr) {
  double variance = 0.0;
  double carried = 0.0;  // sum of earlier b_k corr^(j - k)
  Index previous = 0;
  for (const Coefficient& c : coef) {
    carried *= integer_power(corr, c.feature - previous);
    variance += c.value * c.value + 2.0 * c.value * carried;
    carried += c.value;
    previous = c.feature;
  }
  return std::max(variance, 0.0);
}

void require(bool holds, const std::string& rule, const std::string& value) {
  if (!holds) throw Error(Errc::kInvalidArgument, "simulate: " + rule + ", got " + value);
}

std::string text(double value) {
  std::string digits = std::to_string(value);
  return digits;
}

}  // namespace

SimulationSpec checked(SimulationSpec spec) {
  require(spec.rows >= 1, "rows must be at least 1", std::to_string(spec.rows));
  require(spec.features >= 1, "features must be at least 1", std::to_string(spec.features));
  require(spec.responses >= 1, "responses must be at least 1", std::to_string(spec.responses));
  constexpr Index kMostValues = Index{1} << 59;  // 8 bytes each, below the range of Index
  for (const auto& [a, b, what] :
       {std::tuple{spec.rows, spec.features, "rows * features"},
        std::tuple{spec.rows, spec.responses, "rows * responses"},
        std::tuple{spec.features, spec.responses, "features * responses"}}) {
    require(a <= kMostValues / b, std::string(what) + " must be at most 2^59",
            std::to_string(a) + " * " + std::to_string(b));
  }
  require(std::abs(spec.corr) < 1.0, "corr must lie between -1 and 1", text(spec.corr));
  require(spec.snr > 0.0, "snr must be positive", text(spec.snr));
  if (spec.support == -1) spec.support = std::min<Index>(10, spec.features);
  require(spec.support >= 0 && spec.support <= spec.features,
          "support must lie between 0 and features = " + std::to_string(spec.features),
          std::to_string(spec.support));
  return spec;
}

SimulatedResponses simulate(const SimulationSpec& given, const SimulatedFeature& take) {
  const SimulationSpec spec = checked(given);
  const auto n_samples = static_cast<std::size_t>(spec.rows);
  const auto n_responses = static_cast<std::size_t>(spec.responses);

  SimulatedResponses out;
  out.Y.assign(n_samples * n_responses, 0.0);
  out.noise_sd.assign(n_responses, 0.0);

  std::vector<Coefficient> coef;
  std::vector<std::uint8_t> marks(static_cast<std::size_t>(spec.features), 0);
  for (Index r = 0; r < spec.responses; ++r) {
    const auto drawn = draw_coefficients(spec, r, marks);
    const double variance = drawn.empty() ? spec.snr : signal_variance(drawn, spec.corr);
    out.noise_sd[static_cast<std::size_t>(r)] =
        std::isinf(spec.snr) ? 0.0 : std::sqrt(variance / spec.snr);
    coef.insert(coef.end(), drawn.begin(), drawn.end());
  }
  std::stable_sort(coef.begin(), coef.end(), [](const Coefficient& a, const Coefficient& b) {
    return a.feature < b.feature;
  });

  std::vector<double> x(n_samples, 0.0);
  std::vector<double> coef_row(n_responses, 0.0);
  const double innovation = std::sqrt(1.0 - spec.corr * spec.corr);
  auto next = coef.begin();
  for (Index j = 0; j < spec.features; ++j) {
    RandomStream random(spec.seed, Purpose::kFeature, j);
    if (j == 0) {
      for (double& value : x) value = random.normal();
    } else {
      for (double& value : x) value = spec.corr * value + innovation * random.normal();
    }
    const auto first = next;
    for (; next != coef.end() && next->feature == j; ++next) {
      const auto r = static_cast<std::size_t>(next->response);
      coef_row[r] = next->value;
      double* y = out.Y.data() + r * n_samples;
      for (std::size_t i = 0; i < n_samples; ++i) y[i] += next->value * x[i];
    }
    take(x, coef_row);
    for (auto used = first; used != next; ++used) {
      coef_row[static_cast<std::size_t>(used->response)] = 0.0;
    }
  }

  for (std::size_t r = 0; r < n_responses; ++r) {
    if (out.noise_sd[r] == 0.0) continue;
    RandomStream random(spec.seed, Purpose::kNoise, static_cast<Index>(r));
    for (std::size_t i = 0; i < n_samples; ++i) {
      out.Y[r * n_samples + i] += out.noise_sd[r] * random.normal();
    }
  }
  return out;
}

}  // namespace thresher::command

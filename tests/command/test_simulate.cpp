#include "command/simulate.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "thresher/error.hpp"

namespace thresher::command {
namespace {

// What GivesTheRecordedBits found where it was written.
constexpr std::uint64_t kRecordedX = 8318071075715605377u;
constexpr std::uint64_t kRecordedCoef = 11037820211501270240u;
constexpr std::uint64_t kRecordedY = 14174553726691553462u;

struct Simulated {
  std::vector<double> X;     // column-major
  std::vector<double> coef;  // row-major (features, responses)
  SimulatedResponses responses;
};

Simulated run(const SimulationSpec& spec) {
  Simulated out;
  out.responses = simulate(spec, [&](std::span<const double> x, std::span<const double> coef_row) {
    out.X.insert(out.X.end(), x.begin(), x.end());
    out.coef.insert(out.coef.end(), coef_row.begin(), coef_row.end());
  });
  return out;
}

SimulationSpec spec_of(Index rows, Index features, Index responses) {
  SimulationSpec spec;
  spec.rows = rows;
  spec.features = features;
  spec.responses = responses;
  return spec;
}

// Order matters, so this tells any change of any value apart.
std::uint64_t digest(const std::vector<double>& values) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const double value : values) {
    hash = (hash ^ std::bit_cast<std::uint64_t>(value)) * 0x100000001b3u;
  }
  return hash;
}

double sample_correlation(const double* a, const double* b, std::size_t n) {
  double aa = 0, ab = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i) {
    aa += a[i] * a[i];
    ab += a[i] * b[i];
    bb += b[i] * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

// The numbers of one machine; every other must agree, or a seed names no data.
TEST(Simulate, GivesTheRecordedBits) {
  SimulationSpec spec = spec_of(50, 40, 3);
  spec.corr = 0.7;
  spec.support = 5;
  spec.snr = 2.0;
  spec.seed = 42;
  const Simulated got = run(spec);

  EXPECT_EQ(digest(got.X), kRecordedX);
  EXPECT_EQ(digest(got.coef), kRecordedCoef);
  EXPECT_EQ(digest(got.responses.Y), kRecordedY);
}

TEST(Simulate, ChangesEverythingWithTheSeed) {
  SimulationSpec spec = spec_of(20, 10, 2);
  const Simulated one = run(spec);
  spec.seed = 2;
  const Simulated two = run(spec);

  EXPECT_NE(digest(one.X), digest(two.X));
  EXPECT_NE(digest(one.coef), digest(two.coef));
  EXPECT_NE(digest(one.responses.Y), digest(two.responses.Y));
}

TEST(Simulate, KeepsEarlierFeaturesWhenMoreAreAsked) {
  const Simulated few = run(spec_of(20, 10, 1));
  const Simulated many = run(spec_of(20, 30, 4));

  ASSERT_EQ(few.X.size(), 200u);
  ASSERT_EQ(many.X.size(), 600u);
  EXPECT_TRUE(std::equal(few.X.begin(), few.X.end(), many.X.begin()));
}

// Standard errors: mean 1/sqrt(N), variance sqrt(2/N), fourth moment sqrt(96/N); five of each.
TEST(Simulate, DrawsStandardNormals) {
  SimulationSpec spec = spec_of(2000, 100, 1);
  spec.corr = 0.0;
  const Simulated got = run(spec);
  double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0;
  for (const double x : got.X) {
    sum += x;
    sum2 += x * x;
    sum3 += x * x * x;
    sum4 += x * x * x * x;
  }
  const double count = static_cast<double>(got.X.size());

  EXPECT_NEAR(sum / count, 0.0, 5 / std::sqrt(count));
  EXPECT_NEAR(sum2 / count, 1.0, 5 * std::sqrt(2 / count));
  EXPECT_NEAR(sum3 / count, 0.0, 5 * std::sqrt(15 / count));
  EXPECT_NEAR(sum4 / count, 3.0, 5 * std::sqrt(96 / count));
}

TEST(Simulate, CorrelatesNeighboursAndDecaysGeometrically) {
  for (const double corr : {0.9, 0.5, -0.6, 0.0}) {
    SimulationSpec spec = spec_of(20000, 4, 1);
    spec.corr = corr;
    const Simulated got = run(spec);
    const std::size_t n = 20000;

    for (std::size_t lag = 1; lag <= 3; ++lag) {
      const double want = std::pow(corr, lag);
      EXPECT_NEAR(sample_correlation(got.X.data(), got.X.data() + lag * n, n), want,
                  5 / std::sqrt(20000.0))
          << "corr " << corr << " lag " << lag;
    }
  }
}

TEST(Simulate, PlacesExactlyTheSupportThatWasAsked) {
  for (const Index support : {0, 1, 7, 30}) {
    SimulationSpec spec = spec_of(5, 30, 6);
    spec.support = support;
    const Simulated got = run(spec);

    for (std::size_t r = 0; r < 6; ++r) {
      Index count = 0;
      for (std::size_t j = 0; j < 30; ++j) count += got.coef[j * 6 + r] != 0.0 ? 1 : 0;
      EXPECT_EQ(count, support) << "response " << r;
    }
  }
}

// Every position equally likely: chi-square with 9 degrees of freedom stays below 33 (p 1e-4).
TEST(Simulate, DrawsPositionsUniformly) {
  SimulationSpec spec = spec_of(1, 10, 2000);
  spec.support = 3;
  const Simulated got = run(spec);
  double chi2 = 0.0;
  for (std::size_t j = 0; j < 10; ++j) {
    double count = 0;
    for (std::size_t r = 0; r < 2000; ++r) count += got.coef[j * 2000 + r] != 0.0 ? 1 : 0;
    chi2 += (count - 600) * (count - 600) / 600;
  }
  EXPECT_LT(chi2, 33.0);
}

TEST(Simulate, MakesResponsesFromCoefficientsAndNoise) {
  SimulationSpec spec = spec_of(30, 12, 3);
  spec.snr = std::numeric_limits<double>::infinity();
  const Simulated got = run(spec);

  for (std::size_t r = 0; r < 3; ++r) {
    EXPECT_EQ(got.responses.noise_sd[r], 0.0);
    for (std::size_t i = 0; i < 30; ++i) {
      long double want = 0;
      for (std::size_t j = 0; j < 12; ++j) {
        want += static_cast<long double>(got.X[j * 30 + i]) * got.coef[j * 3 + r];
      }
      ASSERT_NEAR(got.responses.Y[r * 30 + i], static_cast<double>(want), 1e-13);
    }
  }
}

TEST(Simulate, KeepsTheSignalToNoiseRatio) {
  for (const double corr : {0.5, -0.5, 0.9}) {
    SimulationSpec spec = spec_of(20000, 15, 1);
    spec.corr = corr;
    spec.support = 15;
    spec.snr = 4.0;
    const Simulated got = run(spec);
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < 20000; ++i) {
      double fitted = 0;
      for (std::size_t j = 0; j < 15; ++j) fitted += got.X[j * 20000 + i] * got.coef[j];
      signal += fitted * fitted;
      noise += std::pow(got.responses.Y[i] - fitted, 2);
    }
    // Each variance has a relative standard error of sqrt(2 / 20000) = 1 %.
    EXPECT_NEAR(signal / noise, 4.0, 4.0 * 0.07) << corr;
    EXPECT_NEAR(std::sqrt(noise / 20000), got.responses.noise_sd[0],
                0.05 * got.responses.noise_sd[0]);
  }
}

TEST(Simulate, RefusesImpossibleSpecifications) {
  const auto refused = [](auto change) {
    SimulationSpec spec = spec_of(5, 6, 1);
    change(spec);
    try {
      run(spec);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("not refused");
  };

  EXPECT_EQ(refused([](SimulationSpec& s) { s.rows = 0; }),
            "simulate: rows must be at least 1, got 0");
  EXPECT_EQ(refused([](SimulationSpec& s) { s.features = -3; }),
            "simulate: features must be at least 1, got -3");
  EXPECT_EQ(refused([](SimulationSpec& s) { s.support = 7; }),
            "simulate: support must lie between 0 and features = 6, got 7");
  EXPECT_NE(refused([](SimulationSpec& s) { s.responses = 0; }), "not refused");
  EXPECT_NE(refused([](SimulationSpec& s) { s.corr = 1.0; }), "not refused");
  EXPECT_NE(refused([](SimulationSpec& s) { s.corr = std::nan(""); }), "not refused");
  EXPECT_NE(refused([](SimulationSpec& s) { s.snr = 0.0; }), "not refused");
  EXPECT_NE(refused([](SimulationSpec& s) { s.snr = std::nan(""); }), "not refused");
  EXPECT_NE(refused([](SimulationSpec& s) { s.rows = Index{1} << 62; }), "not refused");
}

}  // namespace
}  // namespace thresher::command

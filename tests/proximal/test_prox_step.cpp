#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend_case.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

using testing_proximal::BackendTest;
using testing_proximal::device_name;
using testing_proximal::Placed;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Operands in [-1, 1], and what a step must make of them, in long double and by another way: the
/// prox by cases instead of a threshold.
template <class T>
struct ProxStepCase {
  Index n_features, n_slots;
  std::vector<T> coef, previous, grad, step_size, l1, l2, momentum;
  std::vector<double> uphill, squared_length;

  ProxStepCase(Index features, Index slots, unsigned seed) : n_features(features), n_slots(slots) {
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<double> uniform(-1.0, 1.0);
    const std::size_t size = at(features * slots);
    for (std::vector<T>* m : {&coef, &previous, &grad}) {
      for (std::size_t k = 0; k < size; ++k) m->push_back(static_cast<T>(uniform(engine)));
    }
    for (std::size_t k = 0; k < size; ++k) {
      // Every fifth coefficient is pinned, every third free of L1, every fourth free of L2.
      step_size.push_back(k % 5 == 4 ? T(0) : static_cast<T>(std::fabs(uniform(engine)) + 0.1));
      l1.push_back(k % 3 == 2 ? T(0) : static_cast<T>(std::fabs(uniform(engine))));
      l2.push_back(k % 4 == 3 ? T(0) : static_cast<T>(std::fabs(uniform(engine))));
    }
    for (Index b = 0; b < slots; ++b)
      momentum.push_back(static_cast<T>(0.5 + 0.4 * uniform(engine)));
    uphill.assign(at(slots), 0.0);
    squared_length.assign(at(slots), 0.0);
  }

  /// One step on `backend`; the values are there afterwards.
  void run(ProximalBackend<T>& backend, Index gap = 0) {
    const auto place = [&](const std::vector<T>& m) {
      return Placed<T>(backend, m, n_features, n_slots, gap);
    };
    const Placed<T> c = place(coef), p = place(previous), g = place(grad);
    const Placed<T> s = place(step_size), a = place(l1), e = place(l2);
    backend.prox_step({c.view(), p.view(), g.read(), s.read(), a.read(), e.read(), momentum, uphill,
                       squared_length});
    coef = c.values();
    previous = p.values();
  }

  long double z(std::size_t k, std::size_t b) const {
    const long double c = coef[k], p = previous[k];
    return c + static_cast<long double>(momentum[b]) * (c - p);
  }

  long double oracle(std::size_t k, std::size_t b) const {
    if (step_size[k] == T(0)) return coef[k];
    const long double step = step_size[k], a = l1[k], e = l2[k];
    const long double v = z(k, b) - step * static_cast<long double>(grad[k]);
    if (v > step * a) return (v - step * a) / (1 + step * e);
    if (v < -step * a) return (v + step * a) / (1 + step * e);
    return 0;
  }
};

class ProxStepTest : public BackendTest {
 protected:
  template <class T>
  void expect_matches_oracle(Index n_features, Index n_slots, Index gap = 0) const;
};
INSTANTIATE_TEST_SUITE_P(Devices, ProxStepTest, testing::Values("cpu", "cuda", "cuda_checked"),
                         device_name);

template <class T>
void ProxStepTest::expect_matches_oracle(Index n_features, Index n_slots, Index gap) const {
  SCOPED_TRACE(testing::Message() << n_features << " features, " << n_slots << " slots");
  const ProxStepCase<T> given(n_features, n_slots, 7);
  ProxStepCase<T> got = given;

  got.run(*backend<T>(nullptr, 0, n_features), gap);

  // First-order rounding bound for inputs in [-1, 1], steps up to 1.1: |v| <= 3.1 and seven
  // roundings of at most that size.
  const double eps = std::numeric_limits<T>::epsilon();
  for (Index b = 0; b < n_slots; ++b) {
    long double uphill = 0, squared_length = 0;
    for (Index j = 0; j < n_features; ++j) {
      const std::size_t k = at(b * n_features + j);
      const long double want = given.oracle(k, at(b));
      ASSERT_NEAR(got.coef[k], static_cast<double>(want), 12 * eps) << "feature " << j;
      const bool pinned = given.step_size[k] == T(0);
      ASSERT_EQ(got.previous[k], pinned ? given.previous[k] : given.coef[k]) << "feature " << j;
      if (pinned) continue;
      const long double move = want - given.z(k, at(b));
      const long double metric = 1 / static_cast<long double>(given.step_size[k]);
      uphill -= move * metric * (want - static_cast<long double>(given.coef[k]));
      squared_length += move * metric * move;
    }
    // Each of the n_features terms is at most 10 * 4.1 * 4.1 and carries about 30 roundings.
    const double bound = 5100 * eps * static_cast<double>(n_features);
    ASSERT_NEAR(got.uphill[at(b)], static_cast<double>(uphill), bound);
    ASSERT_NEAR(got.squared_length[at(b)], static_cast<double>(squared_length), bound);
  }
}

// Sizes on both sides of nothing, of a warp, of a block and of a chunk.
TEST_P(ProxStepTest, MatchesOracleOnRaggedShapes) {
  for (const Index n_features : {0, 1, 31, 32, 33, 255, 256, 257, 1000, 1025}) {
    for (const Index n_slots : {0, 1, 2, 3, 65}) {
      if (n_features > 256 && n_slots > 3) continue;
      expect_matches_oracle<float>(n_features, n_slots);
      expect_matches_oracle<double>(n_features, n_slots);
    }
  }
}

TEST_P(ProxStepTest, LeavesWhatLiesBetweenColumnsAlone) {
  expect_matches_oracle<float>(33, 3, 5);
  expect_matches_oracle<double>(33, 3, 5);
}

TEST_P(ProxStepTest, LetsNaNThrough) {
  ProxStepCase<double> given(8, 2, 7);
  given.grad[1] = std::numeric_limits<double>::quiet_NaN();

  given.run(*backend<double>(nullptr, 0, 8));

  EXPECT_TRUE(std::isnan(given.coef[1]));
  EXPECT_TRUE(std::isnan(given.squared_length[0]));
  EXPECT_FALSE(std::isnan(given.squared_length[1]));
}

TEST_P(ProxStepTest, GivesTheSameBitsEveryTimeAndAlone) {
  const ProxStepCase<double> given(2000, 3, 7);
  const auto all = backend<double>(nullptr, 0, 2000);
  ProxStepCase<double> first = given, second = given;

  first.run(*all);
  second.run(*all);

  EXPECT_EQ(first.coef, second.coef);
  EXPECT_EQ(first.uphill, second.uphill);
  EXPECT_EQ(first.squared_length, second.squared_length);
  for (std::size_t b = 0; b < 3; ++b) {
    ProxStepCase<double> alone(2000, 1, 7);
    const auto pick = [&](const std::vector<double>& from, std::vector<double>& to) {
      to.assign(from.begin() + static_cast<std::ptrdiff_t>(2000 * b),
                from.begin() + static_cast<std::ptrdiff_t>(2000 * (b + 1)));
    };
    pick(given.coef, alone.coef);
    pick(given.previous, alone.previous);
    pick(given.grad, alone.grad);
    pick(given.step_size, alone.step_size);
    pick(given.l1, alone.l1);
    pick(given.l2, alone.l2);
    alone.momentum = {given.momentum[b]};
    alone.run(*all);
    EXPECT_EQ(alone.uphill[0], first.uphill[b]) << "slot " << b;
    EXPECT_EQ(alone.squared_length[0], first.squared_length[b]) << "slot " << b;
  }
}

TEST_P(ProxStepTest, NamesTheOperandThatIsWrong) {
  ProxStepCase<double> given(4, 2, 7);
  given.momentum.pop_back();

  try {
    given.run(*backend<double>(nullptr, 0, 4));
    FAIL() << "expected thresher::Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_STREQ(error.what(), "prox_step: momentum must have size 2, got 1");
  }
}

}  // namespace
}  // namespace thresher

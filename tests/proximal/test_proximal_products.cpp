#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend_case.hpp"

namespace thresher {
namespace {

using testing_proximal::BackendTest;
using testing_proximal::device_name;
using testing_proximal::Placed;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

template <class T>
std::vector<T> uniform(Index size, double low, double high, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> distribution(low, high);
  std::vector<T> out;
  for (Index k = 0; k < size; ++k) out.push_back(static_cast<T>(distribution(engine)));
  return out;
}

/// Weights that sum to 1 in every column, some of them 0.
template <class T>
std::vector<T> weights(Index n, Index m) {
  std::vector<T> out = uniform<T>(n * m, 0.1, 1.0, 11);
  for (Index b = 0; b < m; ++b) {
    if (n > 2) out[at(b * n + 1)] = T(0);
    double sum = 0.0;
    for (Index i = 0; i < n; ++i) sum += static_cast<double>(out[at(b * n + i)]);
    for (Index i = 0; i < n; ++i) {
      out[at(b * n + i)] = static_cast<T>(static_cast<double>(out[at(b * n + i)]) / sum);
    }
  }
  return out;
}

class ProximalProductsTest : public BackendTest {
 protected:
  template <class T>
  void expect_products_match(Index n, Index p, Index m, bool intercept) const;
  template <class T>
  void expect_gaps_match(Index f, Index m) const;
};
INSTANTIATE_TEST_SUITE_P(Devices, ProximalProductsTest,
                         testing::Values("cpu", "cuda", "cuda_checked"), device_name);

/// All products of one shape against long double loops, with every second feature selected and one
/// direct column in the last slot.
template <class T>
void ProximalProductsTest::expect_products_match(Index n, Index p, Index m, bool intercept) const {
  SCOPED_TRACE(testing::Message() << n << " x " << p << ", " << m << " slots");
  const std::vector<T> X = uniform<T>(n * p, -1.0, 1.0, 1);
  std::vector<Index> features;
  for (Index j = 0; j < p; j += 2) features.push_back(j);
  const Index f = static_cast<Index>(features.size());
  const std::vector<T> coef = uniform<T>(f * m, -1.0, 1.0, 2);
  const std::vector<T> previous_fitted = uniform<T>(n * m, -1.0, 1.0, 3);
  const std::vector<T> next_fitted = uniform<T>(n * m, -1.0, 1.0, 4);
  const std::vector<T> response = uniform<T>(n * m, -1.0, 1.0, 5);
  const std::vector<T> direct = uniform<T>(n, -1.0, 1.0, 6);
  const std::vector<T> momentum = uniform<T>(m, 0.0, 0.9, 7);
  const std::vector<T> weight = weights<T>(n, m);
  std::vector<double> half_loss(at(m)), change(at(m)), size(at(m));
  const Index direct_position = f / 2;
  const auto x = [&](Index i, Index k, Index b) -> long double {
    if (b == m - 1 && k == direct_position) return direct[at(i)];
    return X[at(features[at(k)] * n + i)];
  };
  const auto on = backend<T>(X.data(), n, p);
  on->select_features(features);
  if (f > 0 && m > 0) on->set_direct({{m - 1, direct_position, direct.data()}});
  const Index gap = n % 3;
  const auto place = [&](const std::vector<T>& values, Index rows) {
    return Placed<T>(*on, values, rows, m, gap);
  };
  const Placed<T> b_coef = place(coef, f), b_previous = place(previous_fitted, n);
  const Placed<T> b_next = place(next_fitted, n), b_response = place(response, n);
  const Placed<T> b_weight = place(weight, n), b_fitted = place(std::vector<T>(at(n * m)), n);
  const Placed<T> b_residual = place(std::vector<T>(at(n * m)), n);
  const Placed<T> b_grad = place(std::vector<T>(at(f * m)), f);

  on->predict({b_coef.read(), b_fitted.view()});
  on->correlate({b_fitted.read(), b_previous.read(), momentum, b_response.read(), b_weight.read(),
                 intercept, b_residual.view(), b_grad.view(), half_loss});
  on->curvature({b_next.read(), b_fitted.read(), b_previous.read(), momentum, b_weight.read(),
                 intercept, change, size});
  const std::vector<T> fitted = b_fitted.values(), grad = b_grad.values();

  // Sums of k terms of size 1, every term with a few roundings.
  const double eps = std::numeric_limits<T>::epsilon();
  const double bound = 8.0 * eps * static_cast<double>(f + 4) * static_cast<double>(f + 4 + n);
  for (Index b = 0; b < m; ++b) {
    std::vector<long double> r(at(n)), d(at(n));
    long double r_mean = 0, d_mean = 0, weight_sum = 0;
    for (Index i = 0; i < n; ++i) {
      long double want = 0;
      for (Index k = 0; k < f; ++k) want += x(i, k, b) * coef[at(b * f + k)];
      ASSERT_NEAR(static_cast<double>(fitted[at(b * n + i)]), static_cast<double>(want), bound);
      const long double now = fitted[at(b * n + i)], past = previous_fitted[at(b * n + i)];
      const long double z = now + static_cast<long double>(momentum[at(b)]) * (now - past);
      const long double w = weight[at(b * n + i)];
      r[at(i)] = response[at(b * n + i)] - z;
      d[at(i)] = next_fitted[at(b * n + i)] - z;
      r_mean += w * r[at(i)];
      d_mean += w * d[at(i)];
      weight_sum += w;
    }
    long double loss = 0, want_change = 0, want_size = 0;
    std::vector<long double> want_grad(at(f), 0);
    for (Index i = 0; i < n; ++i) {
      const long double w = weight[at(b * n + i)];
      const long double centred = r[at(i)] - (intercept ? r_mean : 0);
      const long double moved = d[at(i)] - (intercept ? d_mean : 0);
      loss += w * centred * centred / 2;
      want_change += w * moved * moved;
      want_size +=
          w * static_cast<long double>(next_fitted[at(b * n + i)]) * next_fitted[at(b * n + i)];
      for (Index k = 0; k < f; ++k) want_grad[at(k)] -= x(i, k, b) * w * centred;
    }
    ASSERT_NEAR(half_loss[at(b)], static_cast<double>(loss), bound);
    ASSERT_NEAR(change[at(b)], static_cast<double>(want_change), bound);
    ASSERT_NEAR(size[at(b)], static_cast<double>(want_size), bound);
    for (Index k = 0; k < f; ++k) {
      ASSERT_NEAR(static_cast<double>(grad[at(b * f + k)]), static_cast<double>(want_grad[at(k)]),
                  bound)
          << "feature " << k << ", slot " << b;
    }
  }
}

// Sizes on both sides of a warp and of a block.
TEST_P(ProximalProductsTest, MatchLongDoubleLoopsOnRaggedShapes) {
  for (const Index n : {0, 1, 2, 31, 32, 33, 255, 256, 257, 1000}) {
    for (const Index p : {1, 2, 33}) {
      for (const Index m : {1, 3, 17}) {
        if (n > 33 && (m == 3) == (p == 33)) continue;
        for (const bool intercept : {true, false}) {
          expect_products_match<double>(n, p, m, intercept);
          expect_products_match<float>(n, p, m, intercept);
        }
      }
    }
  }
}

TEST_P(ProximalProductsTest, NothingSelectedFitsNothing) {
  const std::vector<double> X = {1.0, 2.0};
  const auto on = backend<double>(X.data(), 2, 1);
  on->select_features({});
  const Placed<double> coef(*on, {}, 0, 1), fitted(*on, {5.0, 5.0}, 2, 1);

  on->predict({coef.read(), fitted.view()});

  EXPECT_EQ(fitted.values(), (std::vector<double>{0.0, 0.0}));
}

TEST_P(ProximalProductsTest, NoSlotsAreNoWork) {
  const std::vector<double> X = {1.0, 2.0};
  const auto on = backend<double>(X.data(), 2, 1);
  const Placed<double> rows(*on, {}, 2, 0), features(*on, {}, 1, 0);

  on->predict({features.read(), rows.view()});
  on->correlate({rows.read(),
                 rows.read(),
                 {},
                 rows.read(),
                 rows.read(),
                 true,
                 rows.view(),
                 features.view(),
                 {}});
  on->curvature({rows.read(), rows.read(), rows.read(), {}, rows.read(), true, {}, {}});
  on->estimate_gap({features.read(),
                    features.read(),
                    {},
                    features.read(),
                    features.read(),
                    features.read(),
                    features.read(),
                    {},
                    {},
                    {}});
}

// More than one staging buffer, and features at both ends of X.
TEST_P(ProximalProductsTest, ReachBothEndsOfALargeMatrix) {
  const Index n = 1000, p = 1200;
  const std::vector<double> X = uniform<double>(n * p, -1.0, 1.0, 1);
  const auto on = backend<double>(X.data(), n, p);
  const std::vector<Index> features = {0, 525, p - 1};
  on->select_features(features);
  for (std::size_t k = 0; k < features.size(); ++k) {
    std::vector<double> one(features.size(), 0.0);
    one[k] = 1.0;
    const Placed<double> coef(*on, one, 3, 1);
    const Placed<double> fitted(*on, std::vector<double>(at(n)), n, 1);

    on->predict({coef.read(), fitted.view()});

    const double* column = X.data() + features[k] * n;
    EXPECT_EQ(fitted.values(), std::vector<double>(column, column + n)) << "feature " << k;
  }
}

// Changes of the selection and of the direct columns, as the engine makes them.
TEST_P(ProximalProductsTest, DirectColumnsAreReplacedAndForgotten) {
  const std::vector<double> X = {1.0, 2.0, 3.0, 4.0}, own = {10.0, 20.0}, other = {30.0, 40.0};
  const auto on = backend<double>(X.data(), 2, 2);
  const Placed<double> coef(*on, {1.0, 1.0, 1.0, 1.0}, 2, 2), fitted(*on, {0, 0, 0, 0}, 2, 2);
  const auto predicted = [&] {
    on->predict({coef.read(), fitted.view()});
    return fitted.values();
  };

  on->set_direct({{1, 0, own.data()}, {0, 1, other.data()}, {1, 1, other.data()}});
  EXPECT_EQ(predicted(), (std::vector<double>{31.0, 42.0, 40.0, 60.0}));
  on->set_direct({{0, 0, own.data()}, {7, 0, other.data()}});
  EXPECT_EQ(predicted(), (std::vector<double>{13.0, 24.0, 4.0, 6.0}));
  on->set_direct({});
  EXPECT_EQ(predicted(), (std::vector<double>{4.0, 6.0, 4.0, 6.0}));
  on->set_direct({{0, 0, own.data()}});
  const std::vector<Index> both = {0, 1};
  on->select_features(both);
  EXPECT_EQ(predicted(), (std::vector<double>{4.0, 6.0, 4.0, 6.0}));
}

// A slot that broke must show it and leave the others as they are.
TEST_P(ProximalProductsTest, KeepNaNInItsSlot) {
  const Index n = 40, m = 5;
  const std::vector<double> X = uniform<double>(n * 2, -1.0, 1.0, 1);
  const auto on = backend<double>(X.data(), n, 2);
  std::vector<double> broken = uniform<double>(n * m, -1.0, 1.0, 2);
  broken[at(n + 3)] = std::nan("");
  const std::vector<double> zero(at(n * m)), momentum(at(m), 0.5);
  std::vector<double> half_loss(at(m)), change(at(m)), size(at(m));
  const Placed<double> fitted(*on, broken, n, m), response(*on, zero, n, m);
  const Placed<double> weight(*on, weights<double>(n, m), n, m), residual(*on, zero, n, m);
  const Placed<double> grad(*on, std::vector<double>(at(2 * m)), 2, m);

  on->correlate({fitted.read(), fitted.read(), momentum, response.read(), weight.read(), true,
                 residual.view(), grad.view(), half_loss});
  on->curvature({fitted.read(), response.read(), response.read(), momentum, weight.read(), true,
                 change, size});

  const std::vector<double> g = grad.values();
  for (Index b = 0; b < m; ++b) {
    EXPECT_EQ(std::isnan(half_loss[at(b)]), b == 1) << "slot " << b;
    EXPECT_EQ(std::isnan(change[at(b)]), b == 1) << "slot " << b;
    EXPECT_EQ(std::isnan(size[at(b)]), b == 1) << "slot " << b;
    EXPECT_EQ(std::isnan(g[at(2 * b)]), b == 1) << "slot " << b;
  }
}

TEST_P(ProximalProductsTest, GiveTheSameBitsEveryTime) {
  const Index n = 300, p = 40, m = 6;
  const std::vector<float> X = uniform<float>(n * p, -1.0, 1.0, 1);
  const std::vector<float> momentum = uniform<float>(m, 0.0, 0.9, 7);
  const auto on = backend<float>(X.data(), n, p);
  const Placed<float> coef(*on, uniform<float>(p * m, -1.0, 1.0, 2), p, m);
  const Placed<float> previous(*on, uniform<float>(n * m, -1.0, 1.0, 3), n, m);
  const Placed<float> response(*on, uniform<float>(n * m, -1.0, 1.0, 5), n, m);
  const Placed<float> weight(*on, weights<float>(n, m), n, m);
  const Placed<float> fitted(*on, std::vector<float>(at(n * m)), n, m);
  const Placed<float> residual(*on, std::vector<float>(at(n * m)), n, m);
  const Placed<float> grad(*on, std::vector<float>(at(p * m)), p, m);
  const auto run = [&] {
    std::vector<double> numbers(at(3 * m));
    const std::span<double> all(numbers);
    on->predict({coef.read(), fitted.view()});
    on->correlate({fitted.read(), previous.read(), momentum, response.read(), weight.read(), true,
                   residual.view(), grad.view(), all.first(at(m))});
    on->curvature({previous.read(), fitted.read(), response.read(), momentum, weight.read(), true,
                   all.subspan(at(m), at(m)), all.last(at(m))});
    for (const float g : grad.values()) numbers.push_back(static_cast<double>(g));
    return numbers;
  };

  EXPECT_EQ(run(), run());
}

/// Gap estimates of one shape against the formulas of design section 4 in long double.
template <class T>
void ProximalProductsTest::expect_gaps_match(Index f, Index m) const {
  SCOPED_TRACE(testing::Message() << f << " features, " << m << " slots");
  const std::vector<T> coef = uniform<T>(f * m, -1.0, 1.0, 1);
  const std::vector<T> previous = uniform<T>(f * m, -1.0, 1.0, 2);
  const std::vector<T> grad = uniform<T>(f * m, -1.5, 1.5, 3);
  std::vector<T> step = uniform<T>(f * m, 0.1, 1.0, 4), l1 = uniform<T>(f * m, 0.5, 1.0, 5);
  std::vector<T> l2 = uniform<T>(f * m, 0.1, 1.0, 6);
  for (Index k = 0; k < f * m; ++k) {
    if (k % 7 == 6) step[at(k)] = T(0);
    if (k % 5 == 4) l1[at(k)] = T(0);
    if (k % 3 == 2) l2[at(k)] = T(0);
  }
  const std::vector<T> momentum = uniform<T>(m, 0.0, 0.9, 7);
  const std::vector<double> lipschitz = uniform<double>(m, 1.0, 3.0, 8);
  const std::vector<double> half_loss = uniform<double>(m, 1.0, 2.0, 9);
  std::vector<double> gap(at(m));
  const auto on = backend<T>(nullptr, 0, f);
  const auto place = [&](const std::vector<T>& values) { return Placed<T>(*on, values, f, m); };
  const Placed<T> c = place(coef), q = place(previous), g = place(grad);
  const Placed<T> s = place(step), a = place(l1), e = place(l2);

  on->estimate_gap({c.read(), q.read(), momentum, g.read(), s.read(), a.read(), e.read(), lipschitz,
                    half_loss, gap});

  for (Index b = 0; b < m; ++b) {
    const auto counts = [&](std::size_t k) { return step[k] != T(0); };
    long double best = std::numeric_limits<long double>::infinity();
    for (const bool all : {false, true}) {
      long double scale = 1;
      for (Index j = 0; j < f; ++j) {
        const std::size_t k = at(b * f + j);
        if (!counts(k) || l1[k] == T(0) || (!all && l2[k] != T(0))) continue;
        const long double size = std::fabs(static_cast<long double>(grad[k]));
        if (size > l1[k]) scale = std::min(scale, l1[k] / size);
      }
      long double sum = (1 - scale) * (1 - scale) * half_loss[at(b)];
      for (Index j = 0; j < f; ++j) {
        const std::size_t k = at(b * f + j);
        if (!counts(k)) continue;
        const long double ak = l1[k], ek = l2[k], gk = -static_cast<long double>(grad[k]);
        const long double ck = coef[k];
        const long double z = ck + static_cast<long double>(momentum[at(b)]) *
                                       (ck - static_cast<long double>(previous[k]));
        if (ak == 0 && ek == 0) {
          sum += gk * gk * step[k] * lipschitz[at(b)] / 2;
          continue;
        }
        sum += ak * std::fabs(z) + ek * z * z / 2 - scale * z * gk;
        const long double excess = std::max<long double>(scale * std::fabs(gk) - ak, 0);
        if (ek > 0) sum += excess * excess / (2 * ek);
      }
      best = std::min(best, sum);
    }
    // Each of the f terms is at most 12 and carries a few roundings of double.
    ASSERT_NEAR(gap[at(b)], static_cast<double>(best), 1e-13 * static_cast<double>(f + 4))
        << "slot " << b;
  }
}

TEST_P(ProximalProductsTest, GapEstimatesMatchLongDoubleLoopsOnRaggedShapes) {
  for (const Index f : {0, 1, 31, 32, 33, 255, 256, 257, 1000}) {
    for (const Index m : {1, 3}) {
      expect_gaps_match<double>(f, m);
      expect_gaps_match<float>(f, m);
    }
  }
}

// One feature, by hand: s1 = a / |g| and the terms of design section 4.
TEST_P(ProximalProductsTest, GapEstimateFollowsItsFormula) {
  const std::vector<double> momentum = {0.0}, lipschitz = {2.0}, half_loss = {3.0};
  std::vector<double> gap(1);
  const auto on = backend<double>(nullptr, 0, 1);
  const auto estimate = [&](double b, double g, double a, double e) {
    const auto place = [&](double value) { return Placed<double>(*on, {value}, 1, 1); };
    const Placed<double> coef = place(b), grad = place(-g), step = place(0.5);
    const Placed<double> l1 = place(a), l2 = place(e);
    on->estimate_gap({coef.read(), coef.read(), momentum, grad.read(), step.read(), l1.read(),
                      l2.read(), lipschitz, half_loss, gap});
    return gap[0];
  };

  EXPECT_DOUBLE_EQ(estimate(0.5, 2.0, 1.0, 0.0), 0.25 * 3.0 + 0.5 - 0.5 * 0.5 * 2.0);
  EXPECT_DOUBLE_EQ(estimate(0.5, 0.8, 1.0, 0.0), 0.5 - 0.5 * 0.8);
  EXPECT_DOUBLE_EQ(estimate(0.5, 1.5, 1.0, 4.0), 0.5 + 0.5 - 0.75 + 0.25 / 8.0);
  EXPECT_DOUBLE_EQ(estimate(0.5, 0.3, 0.0, 0.0), 0.5 * 0.09 * 0.5 * 2.0);
  EXPECT_TRUE(std::isnan(estimate(0.5, std::nan(""), 1.0, 0.0)));
}

}  // namespace
}  // namespace thresher

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu_proximal_backend.hpp"

namespace thresher {
namespace {

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

/// All products of one shape against long double loops, with every second feature selected and one
/// direct column in the last slot.
template <class T>
void expect_products_match(Index n, Index p, Index m, bool intercept) {
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
  std::vector<T> fitted(at(n * m)), residual(at(n * m)), grad(at(f * m));
  std::vector<double> half_loss(at(m)), change(at(m)), size(at(m));
  const auto read = [&](const std::vector<T>& v, Index rows) {
    return MatrixView<const T>::column_major(v.data(), rows, m);
  };
  const Index direct_position = f / 2;
  const auto x = [&](Index i, Index k, Index b) -> long double {
    if (b == m - 1 && k == direct_position) return direct[at(i)];
    return X[at(features[at(k)] * n + i)];
  };
  CpuProximalBackend<T> backend(X.data(), n, p);
  backend.select_features(features);
  if (f > 0 && m > 0) backend.set_direct({{m - 1, direct_position, direct.data()}});

  backend.predict({read(coef, f), MatrixView<T>::column_major(fitted.data(), n, m)});
  backend.correlate({read(fitted, n), read(previous_fitted, n), momentum, read(response, n),
                     read(weight, n), intercept, MatrixView<T>::column_major(residual.data(), n, m),
                     MatrixView<T>::column_major(grad.data(), f, m), half_loss});
  backend.curvature({read(next_fitted, n), read(fitted, n), read(previous_fitted, n), momentum,
                     read(weight, n), intercept, change, size});

  // Sums of k terms of size 1, every term with a few roundings.
  const double eps = std::numeric_limits<T>::epsilon();
  const double bound = 8.0 * eps * static_cast<double>(f + 4) * static_cast<double>(f + 4);
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

TEST(ProximalProducts, MatchLongDoubleLoopsOnRaggedShapes) {
  for (const Index n : {1, 2, 7, 64}) {
    for (const Index p : {1, 2, 33}) {
      for (const Index m : {1, 3, 17}) {
        for (const bool intercept : {true, false}) {
          expect_products_match<double>(n, p, m, intercept);
          expect_products_match<float>(n, p, m, intercept);
        }
      }
    }
  }
}

TEST(ProximalProducts, NothingSelectedFitsNothing) {
  const std::vector<double> X = {1.0, 2.0};
  std::vector<double> fitted = {5.0, 5.0};
  CpuProximalBackend<double> backend(X.data(), 2, 1);
  backend.select_features({});

  backend.predict({MatrixView<const double>::column_major(nullptr, 0, 1),
                   MatrixView<double>::column_major(fitted.data(), 2, 1)});

  EXPECT_EQ(fitted, (std::vector<double>{0.0, 0.0}));
}

// One feature, by hand: s1 = a / |g| and the terms of design section 4.
TEST(ProximalProducts, GapEstimateFollowsItsFormula) {
  const std::vector<double> none = {0.0}, momentum = {0.0}, lipschitz = {2.0}, half_loss = {3.0};
  std::vector<double> gap(1);
  CpuProximalBackend<double> backend(nullptr, 0, 1);
  const auto estimate = [&](double b, double g, double a, double e) {
    const std::vector<double> coef = {b}, grad = {-g}, step = {0.5}, l1 = {a}, l2 = {e};
    const auto view = [](const std::vector<double>& v) {
      return MatrixView<const double>::column_major(v.data(), 1, 1);
    };
    backend.estimate_gap({view(coef), view(coef), momentum, view(grad), view(step), view(l1),
                          view(l2), lipschitz, half_loss, gap});
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

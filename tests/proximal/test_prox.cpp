#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "prox.hpp"

namespace thresher {
namespace {

double objective(double u, double v, double step_size, double l1, double l2) {
  return (u - v) * (u - v) / (2.0 * step_size) + l1 * std::fabs(u) + 0.5 * l2 * u * u;
}

// The definition itself: no point of a fine grid beats the prox.
TEST(ProxElasticNet, MinimisesItsObjective) {
  for (const double l1 : {0.0, 0.4, 1.2}) {
    for (const double l2 : {0.0, 0.7}) {
      for (double v = -3.0; v <= 3.0; v += 0.25) {
        const double u = prox_elastic_net(v, 0.5, l1, l2);
        const double best = objective(u, v, 0.5, l1, l2);
        for (double other = -4.0; other <= 4.0; other += 1.0 / 256) {
          ASSERT_LE(best, objective(other, v, 0.5, l1, l2) + 1e-15)
              << "v=" << v << " l1=" << l1 << " l2=" << l2 << " u=" << u << " other=" << other;
        }
      }
    }
  }
}

TEST(ProxElasticNet, IsTheIdentityWithoutPenalty) {
  EXPECT_EQ(prox_elastic_net(-1.25, 0.5, 0.0, 0.0), -1.25);
  EXPECT_EQ(prox_elastic_net(1e-300, 1e10, 0.0, 0.0), 1e-300);
}

TEST(SoftThreshold, GivesPositiveZeroInsideTheBand) {
  EXPECT_EQ(soft_threshold(-0.5, 1.0), 0.0);
  EXPECT_FALSE(std::signbit(soft_threshold(-0.5, 1.0)));
  EXPECT_EQ(soft_threshold(1.0, 1.0), 0.0);  // the edge belongs to the band
}

// A diverged iterate must stay visible; a literal 0 in the band would launder it.
TEST(SoftThreshold, KeepsNaN) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(soft_threshold(nan, 1.0)));
  EXPECT_TRUE(std::isnan(soft_threshold(1.0, nan)));
  EXPECT_TRUE(std::isnan(soft_threshold(-std::numeric_limits<float>::quiet_NaN(), 1.0f)));
}

}  // namespace
}  // namespace thresher

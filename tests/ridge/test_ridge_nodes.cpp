#include "engines/ridge_nodes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace thresher {
namespace {

using Vector = std::vector<double>;
using Real = long double;

constexpr double kUnit = 0.5 * std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Vector geometric(double first, double last, Index count) {
  Vector out;
  for (Index i = 0; i < count; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(count - 1);
    out.push_back(first * std::pow(last / first, share));
  }
  return out;
}

/// Spectra of k directions: spread evenly, over many decades, with many zeros, all but one equal.
std::vector<Vector> spectra(Index k) {
  std::mt19937_64 engine(11);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<Vector> out(4, Vector(at(k)));
  for (Index i = 0; i < k; ++i) {
    const double x = uniform(engine);
    out[0][at(i)] = 3.0 * x;
    out[1][at(i)] = std::pow(10.0, -18.0 * x);
    out[2][at(i)] = i < k / 2 ? 0.0 : x;
    out[3][at(i)] = i == 0 ? 1e-9 : 2.0;
  }
  for (Vector& s : out) std::sort(s.begin(), s.end());
  return out;
}

/// Every filter from those of the nodes, in long double but for the weights, is as near and as
/// little amplified as the header says, and each block has its own directions.
void expect_good(const Vector& s, const Vector& lambda, const RidgeNodes& nodes) {
  const Index k = static_cast<Index>(s.size());
  Index next = 0, row = 0;
  for (const RidgeNodes::Block& block : nodes.blocks) {
    EXPECT_EQ(block.first, next);
    next += block.size;
    const Index r = static_cast<Index>(block.node.size());
    const Real most = static_cast<Real>(k + 128 * r) * kUnit;
    for (std::size_t l = 0; l < lambda.size(); ++l) {
      for (Index i = block.first; i < block.first + block.size; ++i) {
        const Real exact = 1.0L / (static_cast<Real>(s[at(i)]) + lambda[l]);
        Real sum = 0.0L, size = 0.0L;
        for (Index j = 0; j < r; ++j) {
          const Real w = nodes.weight[at(static_cast<Index>(l) * nodes.count + row + j)];
          if (w == 0.0L) continue;
          const Real f = 1.0L / (static_cast<Real>(s[at(i)]) + lambda[at(block.node[at(j)])]);
          sum += w * f;
          size += std::fabs(w) * f;
        }
        if (std::isinf(exact)) {
          ASSERT_TRUE(std::isinf(sum));
          continue;
        }
        ASSERT_LE(std::fabs(sum - exact), most * exact) << "lambda " << lambda[l] << " s " << i;
        ASSERT_LE(size, 16.1L * exact);
      }
    }
    row += r;
  }
  EXPECT_EQ(next, k);
  EXPECT_EQ(row, nodes.count);
}

TEST(RidgeNodes, ReproduceEveryFilterOfTheGrid) {
  for (const Vector& s : spectra(800)) {
    for (const double lowest : {1e-3, 1e-10, 1e-200}) {
      for (const Index count : {3, 30, 100}) {
        Vector lambda = geometric(10.0, lowest, count);
        const RidgeNodes nodes = ridge_nodes(s, lambda);
        if (!nodes.weight.empty()) expect_good(s, lambda, nodes);
        lambda.push_back(lambda.back());
        lambda.push_back(0.0);
        const RidgeNodes with_zero = ridge_nodes(s, lambda);
        if (!with_zero.weight.empty()) expect_good(s, lambda, with_zero);
      }
    }
  }
}

TEST(RidgeNodes, AThirdOfTheGridIsEnoughOverThreeDecades) {
  const Vector s = spectra(800)[0], lambda = geometric(3.0, 3e-3, 30);
  const RidgeNodes nodes = ridge_nodes(s, lambda);
  ASSERT_FALSE(nodes.weight.empty());
  double columns = 0.0;
  for (const RidgeNodes::Block& block : nodes.blocks) {
    columns += static_cast<double>(block.node.size()) * static_cast<double>(block.size) / 800.0;
  }
  EXPECT_LT(columns, 13.0);
}

TEST(RidgeNodes, AreTheGridItselfWhereFewerSaveNothing) {
  const Vector lambda = geometric(3.0, 3e-3, 30);
  for (const Vector& s : {Vector{}, Vector{1.0}, geometric(1e-3, 1.0, 30)}) {
    const RidgeNodes nodes = ridge_nodes(s, lambda);
    EXPECT_TRUE(nodes.weight.empty());
    ASSERT_EQ(nodes.blocks.size(), 1u);
    EXPECT_EQ(nodes.blocks[0].size, static_cast<Index>(s.size()));
    EXPECT_EQ(nodes.blocks[0].node.size(), lambda.size());
    EXPECT_EQ(nodes.count, 30);
  }
  EXPECT_TRUE(ridge_nodes(spectra(800)[0], {1.0}).weight.empty());
}

}  // namespace
}  // namespace thresher

#include "engines/ridge_nodes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace thresher {
namespace {

constexpr double kUnit = 0.5 * std::numeric_limits<double>::epsilon();  // one rounding
constexpr double kMostAmplified = 16.0;
// Directions of a block per lambda: fewer need fewer nodes each, but more nodes in all.
constexpr Index kDirectionsPerLambda = 5;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Index largest(const std::vector<double>& x) {
  return std::max_element(x.begin(), x.end(),
                          [](double a, double b) { return std::fabs(a) < std::fabs(b); }) -
         x.begin();
}

/// Interpolates 1 / (s + lambda) in s between directions `at_s`, one for each node: a Cauchy matrix
/// has all in closed form. With A(s) = prod_j (s - at_j) / (s + node_j) and B(lambda) = prod_j
/// (lambda - node_j) / (lambda + at_j) the relative error is A(s) B(lambda).
class Interpolation {
 public:
  Interpolation(const double* s, Index size, const std::vector<double>& lambda)
      : s_(s), lambda_(lambda), A_(at(size), 1.0), B_(lambda.size()) {
    for (std::size_t l = 0; l < lambda.size(); ++l) B_[l] = lambda[l] > 0.0 ? 1.0 : 0.0;
    add(size / 2, static_cast<Index>(lambda.size()) / 2);
  }

  const std::vector<Index>& nodes() const { return nodes_; }
  double error() const { return std::fabs(A_[at(largest(A_))]) * std::fabs(B_[at(largest(B_))]); }
  /// A node where the error is largest; false if none is left to add.
  bool extend() {
    const Index l = largest(B_);
    if (B_[at(l)] == 0.0) return false;
    add(largest(A_), l);
    return true;
  }

  /// Weights (nodes) of lambda l, and the most that they amplify a rounding in any direction.
  double weigh(Index l, double* weight) const {
    const double lambda = lambda_[at(l)];
    const double ends[] = {s_[0], s_[A_.size() - 1]};
    double amplified = 0.0;
    for (std::size_t j = 0; j < nodes_.size(); ++j) {
      const double node = lambda_[at(nodes_[j])];
      double w = (node + at_s_[j]) / (lambda + at_s_[j]);
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        if (i == j) continue;
        const double other = lambda_[at(nodes_[i])];
        w *= (lambda - other) / (lambda + at_s_[i]) * ((node + at_s_[i]) / (node - other));
      }
      weight[j] = w;
      // (s + lambda) / (s + node) is largest at an end.
      amplified += std::fabs(w) * std::max((ends[0] + lambda) / (ends[0] + node),
                                           (ends[1] + lambda) / (ends[1] + node));
    }
    return amplified;
  }

 private:
  void add(Index i, Index l) {
    const double s = s_[i], node = lambda_[at(l)];
    nodes_.push_back(l);
    at_s_.push_back(s);
    for (std::size_t k = 0; k < A_.size(); ++k) A_[k] *= (s_[k] - s) / (s_[k] + node);
    for (std::size_t k = 0; k < B_.size(); ++k) {
      if (B_[k] != 0.0) B_[k] *= (lambda_[k] - node) / (lambda_[k] + s);
    }
  }

  const double* s_;
  const std::vector<double>& lambda_;
  std::vector<Index> nodes_;
  std::vector<double> at_s_;
  std::vector<double> A_, B_;
};

}  // namespace

RidgeNodes ridge_nodes(const std::vector<double>& s, const std::vector<double>& lambda) {
  const Index k = static_cast<Index>(s.size()), L = static_cast<Index>(lambda.size());
  RidgeNodes plain;
  plain.count = L;
  plain.blocks.push_back({0, k, std::vector<Index>(at(L))});
  std::iota(plain.blocks.front().node.begin(), plain.blocks.front().node.end(), Index{0});
  if (L < 3 || k <= L || !(lambda[at(L / 2)] > 0.0)) return plain;

  RidgeNodes out;
  std::vector<std::vector<double>> weights;  // of each block (nodes, L)
  const Index n_blocks = std::max<Index>(1, k / (kDirectionsPerLambda * L));
  double cost = 0.0;  // multiplications per held-out row
  for (Index b = 0; b < n_blocks; ++b) {
    const Index first = b * k / n_blocks, size = (b + 1) * k / n_blocks - first;
    Interpolation fit(s.data() + first, size, lambda);
    std::vector<double> weight;
    bool good = false;
    while (!good) {
      if (fit.error() <= kUnit * static_cast<double>(k)) {
        const std::size_t r = fit.nodes().size();
        weight.assign(r * at(L), 0.0);
        good = true;
        for (Index l = 0; good && l < L; ++l) {
          double* w = weight.data() + r * at(l);
          const auto own = std::find_if(fit.nodes().begin(), fit.nodes().end(), [&](Index node) {
            return lambda[at(node)] == lambda[at(l)];
          });
          if (own != fit.nodes().end()) {
            w[own - fit.nodes().begin()] = 1.0;
          } else if (lambda[at(l)] > 0.0) {
            good = fit.weigh(l, w) <= kMostAmplified;
          }
        }
      }
      if (!good && !fit.extend()) return plain;
    }
    std::vector<Index> node = fit.nodes();
    const std::size_t r = node.size();
    for (Index l = 0; l < L; ++l) {
      if (lambda[at(l)] == 0.0) node.push_back(l);
    }
    std::vector<double> all(node.size() * at(L), 0.0);
    for (Index l = 0; l < L; ++l) {
      std::copy_n(weight.begin() + static_cast<std::ptrdiff_t>(r * at(l)), r,
                  all.begin() + static_cast<std::ptrdiff_t>(node.size() * at(l)));
    }
    for (std::size_t j = r; j < node.size(); ++j) all[node.size() * at(node[j]) + j] = 1.0;
    cost += static_cast<double>(node.size()) * static_cast<double>(size + L);
    out.count += static_cast<Index>(node.size());
    out.blocks.push_back({first, size, std::move(node)});
    weights.push_back(std::move(all));
  }
  if (cost >= static_cast<double>(k) * static_cast<double>(L)) return plain;

  out.weight.resize(at(out.count * L));
  Index row = 0;
  for (std::size_t b = 0; b < weights.size(); ++b) {
    const Index r = static_cast<Index>(out.blocks[b].node.size());
    for (Index l = 0; l < L; ++l) {
      std::copy_n(weights[b].begin() + l * r, r, out.weight.begin() + l * out.count + row);
    }
    row += r;
  }
  return out;
}

}  // namespace thresher

#pragma once

#include <cstdint>
#include <vector>

#include "backend/local_products.hpp"
#include "backend/packed_cholesky.hpp"
#include "setup/certificate.hpp"
#include "setup/problem.hpp"

namespace thresher {

/// Exact solution of one problem on a working set by a primal active-set method (design section 6).
/// State is kept from lambda to lambda: the support with its signs and the Cholesky factor of
/// H = X_A' W X_A + diag(e_A).
class ActiveSet {
 public:
  ActiveSet(const Columns& columns, const Problem& problem, LocalProducts& products);

  struct Outcome {
    Index iterations = 0;  ///< Newton steps
    bool exact = true;     ///< no violator left and the optimality conditions hold to rounding
  };

  /// Solves at `lambda` over working_set and the current support. Signs start from where the last
  /// call ended.
  Outcome solve(double lambda, const std::vector<Index>& working_set, Index max_iterations);

  /// Current nonzero coefficients, sorted by feature.
  SparseCoef coef() const;
  const std::vector<Index>& active() const { return active_; }
  /// <x_j, r> of the active features at the end of the last solve.
  const std::vector<double>& gradient_active() const { return g_; }
  /// Reads the gradients again after the products were corrected.
  void refresh() { products_.gradient_active(g_.data()); }
  /// Number of features that could not enter because they depend on active ones.
  Index n_dependent() const { return n_dependent_; }

  /// Puts coefficients in place without solving (a warm start); sorted by feature.
  void start_from(const SparseCoef& start, double lambda);

 private:
  enum : std::uint8_t { kOutside = 0, kActive = 1, kBlocked = 2 };

  void set_lambda(double lambda);
  void refactor();
  /// Adds features whose gradients are g. Returns how many are now active.
  Index enter(const std::vector<Index>& features, const std::vector<double>& g, double lambda);
  bool enter_dependent(Index j, double sign, const std::vector<double>& gram_row, double lambda);
  void append_row(Index j, double sign, const std::vector<double>& gram_row, double pivot_square,
                  const std::vector<double>& l, double lambda);
  void drop(Index position);
  double slack(Index j) const;

  const Columns& columns_;
  const Problem& problem_;
  LocalProducts& products_;

  std::vector<Index> active_;
  std::vector<std::int8_t> sign_;  // of the active; 0: no L1 term
  std::vector<double> coef_, a_, e_, g_;
  std::vector<std::vector<double>> gram_;  // row k: products with active 0 .. k, no e
  PackedCholesky factor_;
  std::vector<std::uint8_t> state_;  // (n_features)
  std::vector<Index> blocked_;
  Index n_dependent_ = 0;
  bool moved_by_null_ = false;
};

}  // namespace thresher

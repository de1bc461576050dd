#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/local_products.hpp"
#include "backend/packed_cholesky.hpp"
#include "backend/path_guess.hpp"
#include "backend/row_space_system.hpp"
#include "setup/certificate.hpp"
#include "setup/problem.hpp"

namespace thresher {

/// Exact solution of one problem on a working set by a primal active-set method (design section 6).
/// State is kept from lambda to lambda: the support with its signs and the Cholesky factor of
/// H = X_A' W X_A + diag(e_A), or of H at a nearby lambda where e_A changes (docs/decisions/0011).
/// Once A outgrows the rows and every e_j > 0, a semismooth Newton method on the dual takes over,
/// whose matrix has the order of the rows (docs/decisions/0010).
class ActiveSet {
 public:
  /// rows: `products` again where it holds columns, or null: stay with H.
  ActiveSet(const Columns& columns, const Problem& problem, LocalProducts& products,
            ResidualProducts* rows);

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
  /// Puts back what coef() gave after a solve at `lambda`.
  void go_back(const SparseCoef& solution, double lambda);

 private:
  /// A feature's part of the dual in the row space.
  struct DualTerm {
    double a, e;
    double g;        // at the current point
    double towards;  // less g at the point before
    Index position;  // in the active set, or -1
  };

  enum : std::uint8_t { kOutside = 0, kActive = 1, kBlocked = 2 };

  /// a, e and signs at `lambda`. Returns whether some e changed.
  bool set_penalties(double lambda);
  /// Of H with the e_j times `share`.
  void refactor(double share = 1.0);
  /// Features that have lost their penalty, mostly at lambda = 0, and turn out to depend on other
  /// active ones leave.
  void drop_dependent();
  /// Largest factor between an e_j and the one in the factor.
  double distance_of_factor() const;
  /// The e_j that an entrant takes into the factor.
  double entrant_e(Index j, double lambda) const;
  /// delta = H^-1 h, rest = h - H delta: exactly where the factor is of H, else until |rest| <=
  /// precision |h|. h is 0 before first_h.
  void newton_direction(const std::vector<double>& h, Index first_h, double precision,
                        std::vector<double>& delta, std::vector<double>& rest);
  /// The same, preconditioned by the factor, from delta and rest if they are there. Returns false
  /// if it takes too long.
  bool conjugate_gradients(const std::vector<double>& h, Index first_h, double precision,
                           std::vector<double>& delta, std::vector<double>& rest) const;
  /// If delta gives some features the wrong sign: takes the whole step and drops them all. h
  /// becomes what is then missing; those of them that were at 0 are taken off n_new.
  bool step_past_signs(const std::vector<double>& delta, const std::vector<double>& rest,
                       std::vector<double>& h, Index& n_new);
  /// Gram rows and factor of H, after the row space was left.
  void restore_factor();
  /// Brings residual and gradients up to the coefficients.
  void read_again();
  /// Takes all active features off the products.
  void leave_all();
  /// Tells the products of all active features, and factors.
  void enter_as_one();
  /// Products of active features to rounding, from now on.
  void insist_on_double();
  bool row_space_pays(double lambda, const std::vector<Index>& working_set) const;
  Outcome solve_in_row_space(double lambda, const std::vector<Index>& working_set,
                             Index max_iterations);
  /// K at the current e; S is summed afresh where e is no multiple of e0_.
  bool factor_row_space();
  /// A becomes {j: |g_j| > a_j}, with S. Returns whether anything changed.
  bool exchange_in_row_space(const std::vector<Index>& features, std::vector<DualTerm>& terms);
  /// One step of iterative refinement: coef += H^-1 h by the row space.
  void refine_in_row_space(const std::vector<double>& h);
  /// Adds features whose gradients are g. Returns how many are now active. One alone that depends
  /// on the active ones takes the place of one of them if it is sure to be wanted.
  Index enter(const std::vector<Index>& features, const std::vector<double>& g, double lambda,
              bool sure);
  bool enter_dependent(Index j, double sign, const std::vector<double>& gram_row, double lambda);
  void append_row(Index j, double sign, const std::vector<double>& gram_row, double pivot_square,
                  const std::vector<double>& l, double lambda);
  /// Positions ascending.
  void drop(std::span<const Index> positions);
  void forget(Index position);
  /// What rounding explains of a correlation with a residual of this norm.
  double slack(Index j, double residual_norm) const;
  /// The |h_j| of active feature k that rounding leaves.
  double rounding_level(std::size_t k, double residual_norm) const;
  /// h: what is missing to stationarity on the active features. Returns it as a
  /// multiple of what may be left, for rounding or for the gap; NaN counts as 0 or NaN.
  double stationarity(std::vector<double>& h) const;

  const Columns& columns_;
  const Problem& problem_;
  LocalProducts& products_;
  ResidualProducts* rows_;
  bool is_tall_;

  std::vector<Index> active_;
  std::vector<std::int8_t> sign_;  // of the active; 0: no L1 term
  std::vector<double> coef_, a_, e_, g_;
  std::vector<std::vector<double>> gram_;  // row k: products with active 0 .. k, no e
  PackedCholesky factor_;                  // of X_A' W X_A + diag(e_in_factor_)
  std::vector<double> e_in_factor_;
  std::vector<Index> dependent_;  // positions: without a pivot in the last refactor(), or a penalty
  bool factor_is_exact_ = true;   // e_in_factor_ is e_
  bool may_round_ = true;         // Gram rows may come in single precision (docs/decisions/0014)
  bool is_rounded_ = false;       // some did
  // Scratch that is kept, because fresh pages are slow.
  std::vector<double> whole_matrix_;
  AlignedDoubles gram_of_entrants_, solved_;
  // In the row space gram_ and factor_ are empty, and these are in use.
  std::unique_ptr<RowSpaceSystem> row_system_;
  std::vector<double> e0_;  // of the active: e_j when S was begun, or as if they had been there
  Index n_removed_ = 0;     // from S since then
  std::vector<std::uint8_t> state_;  // (n_features)
  std::vector<Index> blocked_;
  std::unique_ptr<PathGuess> guess_;
  Index n_dependent_ = 0;
  bool moved_by_null_ = false;
};

}  // namespace thresher

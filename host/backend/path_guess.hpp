#pragma once

#include <span>
#include <vector>

#include "setup/problem.hpp"

namespace thresher {

/// Where a path goes next, by how it went between its last two lambdas: coefficients and gradients
/// are nearly linear in lambda between changes of the support. A guess costs or spares steps; it
/// decides nothing.
class PathGuess {
 public:
  explicit PathGuess(Index n_features);

  /// Keeps the end of a solve: coefficients and gradients of active features, in an order to which
  /// later solves only append until `dropped`, and gradients of some others.
  void remember(double lambda, std::span<const Index> active, std::span<const double> coef,
                std::span<const double> g, std::span<const Index> outside,
                std::span<const double> g_outside);
  /// An active feature has left.
  void dropped() { has_dropped_ = true; }
  /// The path goes on from somewhere else.
  void forget();

  /// Whether there is something to go by at `lambda`, and guesses have been right so far.
  bool can_guess(double lambda) const;
  /// Appends those of the features that will probably be active, and their gradients then.
  void entrants(const Problem& problem, double lambda, std::span<const Index> features,
                std::vector<Index>& chosen, std::vector<double>& g) const;
  /// The gradient at the last end of a feature that was outside.
  double last_gradient(Index j) const { return g_last_[static_cast<std::size_t>(j)]; }
  /// Of entrants that were guessed, so many did not stay.
  void judge(Index n_guessed, Index n_wrong);

  /// delta: by what coefficients will probably move; rest = h - H delta, H = X_A' W X_A + diag(e).
  /// False if that is not known or no nearer than delta = 0.
  bool step(double lambda, std::span<const Index> active, std::span<const double> e,
            std::span<const double> h, std::vector<double>& delta, std::vector<double>& rest) const;

 private:
  /// The way to `lambda` in units of the last one.
  double steps_to(double lambda) const {
    return (lambda_last_ - lambda) / (lambda_before_ - lambda_last_);
  }

  Index n_ends_ = 0;  // kept one after the other
  Index number_ = 0;  // of the last one
  double lambda_last_ = 0.0, lambda_before_ = 0.0;
  // By feature, outside at the last two ends, and the number of the one that told.
  std::vector<double> g_last_, g_before_;
  std::vector<Index> told_by_;
  // Of the active ones at the last end, and what it had moved them by; no steps if some had left.
  std::vector<double> coef_, g_active_, coef_step_, g_step_;
  bool has_dropped_ = false;  // since the last end
  Index n_guessed_ = 0, n_wrong_ = 0;
};

}  // namespace thresher

#include "backend/path_guess.hpp"

#include <cmath>
#include <utility>

namespace thresher {
namespace {

// Guesses end when more than one of so many was wrong, the first few aside.
constexpr Index kWrongShare = 8;
constexpr Index kFirst = 8;
// Lambda may go on by this many times its last step.
constexpr double kFarthest = 2.0;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

PathGuess::PathGuess(Index n_features)
    : g_last_(at(n_features)), g_before_(at(n_features)), told_by_(at(n_features), -1) {}

void PathGuess::remember(double lambda, std::span<const Index> active, std::span<const double> coef,
                         std::span<const double> g, std::span<const Index> outside,
                         std::span<const double> g_outside) {
  coef_step_.clear();
  g_step_.clear();
  if (n_ends_ > 0 && !has_dropped_) {
    for (std::size_t k = 0; k < active.size(); ++k) {
      const bool was_active = k < coef_.size();
      coef_step_.push_back(coef[k] - (was_active ? coef_[k] : 0.0));
      g_step_.push_back(g[k] - (was_active ? g_active_[k] : g_last_[at(active[k])]));
    }
  }
  coef_.assign(coef.begin(), coef.end());
  g_active_.assign(g.begin(), g.end());
  has_dropped_ = false;
  ++n_ends_;
  ++number_;
  for (std::size_t m = 0; m < outside.size(); ++m) {
    const std::size_t j = at(outside[m]);
    g_before_[j] = told_by_[j] == number_ - 1 ? g_last_[j] : g_outside[m];
    g_last_[j] = g_outside[m];
    told_by_[j] = number_;
  }
  lambda_before_ = std::exchange(lambda_last_, lambda);
}

void PathGuess::forget() {
  n_ends_ = 0;
  ++number_;
}

bool PathGuess::can_guess(double lambda) const {
  return n_wrong_ * kWrongShare <= n_guessed_ + kFirst && n_ends_ >= 2 && lambda < lambda_last_ &&
         lambda_last_ < lambda_before_ && steps_to(lambda) <= kFarthest;
}

void PathGuess::entrants(const Problem& problem, double lambda, std::span<const Index> features,
                         std::vector<Index>& chosen, std::vector<double>& g) const {
  const double steps = steps_to(lambda);
  const double hat_lambda = problem.hat_lambda(lambda);
  for (const Index j : features) {
    if (told_by_[at(j)] != number_) continue;
    const double guess = g_last_[at(j)] + steps * (g_last_[at(j)] - g_before_[at(j)]);
    const double a = problem.a_of_hat(j, hat_lambda);
    if (a == 0.0 || !(std::fabs(guess) > a)) continue;
    chosen.push_back(j);
    g.push_back(guess);
  }
}

void PathGuess::judge(Index n_guessed, Index n_wrong) {
  n_guessed_ += n_guessed;
  n_wrong_ += n_wrong;
}

// H delta = steps (g_before - g_last) + e delta: gradients tell the product with X_A' W X_A.
bool PathGuess::step(double lambda, std::span<const Index> active, std::span<const double> e,
                     std::span<const double> h, std::vector<double>& delta,
                     std::vector<double>& rest) const {
  if (has_dropped_ || coef_step_.empty()) return false;
  const double steps = steps_to(lambda);
  delta.assign(h.size(), 0.0);
  rest.resize(h.size());
  double squares = 0.0, squares_of_h = 0.0;
  for (std::size_t k = 0; k < h.size(); ++k) {
    const bool was_active = k < coef_step_.size();
    if (was_active) delta[k] = steps * coef_step_[k];
    const std::size_t j = at(active[k]);
    const double g_step = was_active ? g_step_[k] : g_last_[j] - g_before_[j];
    rest[k] = h[k] + steps * g_step - e[k] * delta[k];
    squares += rest[k] * rest[k];
    squares_of_h += h[k] * h[k];
  }
  return squares < squares_of_h;
}

}  // namespace thresher

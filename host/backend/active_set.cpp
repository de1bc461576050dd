#include "backend/active_set.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "backend/simd.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Violators added at a time: 8 (design section 6), and more on large supports, where each addition
// costs a pass over the active columns: 10,000 x 10,000 takes a third less time with a sixteenth
// than with 8, and a little less again with an eighth; 2,000 x 2,000 the same.
constexpr std::size_t kEntrants = 8;
constexpr std::size_t kEntrantShare = 8;
// Where there are more rows than features most violators stay, so that a path's first lambda takes
// this part of them at a time; elsewhere that doubles its time.
constexpr std::size_t kViolatorShare = 4;
// Relative to G_jj + e_j: below it the entrant depends on the active columns. Rounding leaves about
// k eps = 1e-13 of a pivot; at 1e-10 paths on the meats spectra cycled among null moves.
constexpr double kTinyPivot = 1e-12;
// With Gram rows in single precision, good to some 1e-9, pivots have to be far from rounding. So do
// those of guessed entrants: many at once that all but depend on each other, most of them wrong,
// move coefficients so far that rounding takes over.
constexpr double kSafePivot = 1e-4;
// No further refinement where all |h_j| are below this share of a_j, or where the sum of h_j^2 / (2
// e_j), which is what they add to the gap, makes up this relative gap.
constexpr double kStationary = 1e-12;
constexpr double kNoGap = 1e-20;
constexpr int kRefinements = 3;
// Of a penalty along a null direction, relative to the sum of its terms.
constexpr double kNoSlope = 1e-8;
// What penalised columns contribute to a null direction, relative to the entrant: with less, the
// entrant depends on unpenalised ones, and the others take part by rounding.
constexpr double kNoShare = 1e-4;
// The factor serves while no e_j is off by more than this (docs/decisions/0011), and is made that
// far ahead where lambda moves in small steps. 1.25 and 1.8 take 4 % more time.
constexpr double kNearFactor = 1.5;
constexpr double kSmallStep = 3.0;
// |rest| / |h| of Newton directions by conjugate gradients: when lambda has just changed, and
// later.
constexpr double kCoarse = 3e-2;
constexpr double kFine = 1e-10;
constexpr int kMostGradients = 20;
// Steps at one lambda that drop all wrong signs at once. Nothing says that they descend: later ones
// stop at the first sign change.
constexpr int kMostExchanges = 4;
// The residual is computed in double where no more than this share of the active features is new:
// that is likely to be the last step at its lambda.
constexpr Index kFewShare = 48;
// Up to so many features for each active one, putting coefficients in place is faster than sorting.
constexpr std::size_t kDense = 8;
// Steps of the semismooth Newton method at one lambda; paths take two to five.
constexpr Index kMostNewtonSteps = 40;
constexpr double kArmijo = 1e-4;
constexpr int kBisections = 40;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

ActiveSet::ActiveSet(const Columns& columns, const Problem& problem, LocalProducts& products,
                     ResidualProducts* rows)
    : columns_(columns),
      problem_(problem),
      products_(products),
      rows_(rows),
      is_tall_(columns.n_samples() > columns.n_features()) {
  state_.assign(at(columns.n_features()), kOutside);
  // Through columns a wrong guess costs more than the steps that right ones spare.
  if (rows == nullptr) guess_ = std::make_unique<PathGuess>(columns.n_features());
}

double ActiveSet::slack(Index j, double residual_norm) const {
  return static_cast<double>(columns_.n_samples()) * kEps * columns_.norm(j) * residual_norm;
}

bool ActiveSet::set_penalties(double lambda) {
  bool changed = false;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    a_[k] = problem_.a(active_[k], lambda);
    const double e = problem_.e(active_[k], lambda);
    if (e != e_[k]) changed = true;
    e_[k] = e;
    if (a_[k] == 0.0) sign_[k] = 0;
    if (a_[k] > 0.0 && sign_[k] == 0) sign_[k] = coef_[k] < 0.0 ? -1 : 1;
  }
  return changed;
}

double ActiveSet::distance_of_factor() const {
  double worst = 1.0;
  for (std::size_t k = 0; k < e_.size(); ++k) {
    const double was = e_in_factor_[k];
    if (was != e_[k]) worst = std::max({worst, was / e_[k], e_[k] / was});
  }
  return worst;
}

double ActiveSet::entrant_e(Index j, double lambda) const {
  const double e = problem_.e(j, lambda);
  const bool scaled = !factor_is_exact_ && !e_.empty() && e_.front() > 0.0;
  return scaled ? e * e_in_factor_.front() / e_.front() : e;
}

void ActiveSet::newton_direction(const std::vector<double>& h, Index first_h, double precision,
                                 std::vector<double>& delta, std::vector<double>& rest) {
  if (!factor_is_exact_) {
    if (conjugate_gradients(h, first_h, precision, delta, rest)) return;
    refactor();
  }
  delta = h;
  factor_.solve(delta.data(), first_h);
  rest.assign(h.size(), 0.0);
}

// H = M + E, M = L L' the matrix of the factor and E diagonal: M `towards` follows the recurrence
// of `towards`, so that H is never multiplied with.
bool ActiveSet::conjugate_gradients(const std::vector<double>& h, Index first_h, double precision,
                                    std::vector<double>& delta, std::vector<double>& rest) const {
  const auto n = static_cast<Index>(h.size());
  const Simd& kernels = simd();
  std::vector<double> towards(h.size(), 0.0), m_towards(h.size(), 0.0), image(h.size()), solved;
  if (delta.empty()) {
    delta.assign(h.size(), 0.0);
    rest = h;
  } else {
    first_h = 0;
  }
  const double residual_norm = products_.weighted_residual_norm();
  double least = std::numeric_limits<double>::infinity(), least_e = least;
  for (std::size_t k = 0; k < h.size(); ++k) {
    least = std::min(least, rounding_level(k, residual_norm));
    least_e = std::min(least_e, e_[k]);
  }
  const double squares_wanted =
      std::max({precision * precision * kernels.dot(n, h.data(), h.data()), 0.25 * least * least,
                0.25 * 2.0 * least_e * kNoGap * problem_.null_loss});
  double last = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kMostGradients; ++i) {
    if (kernels.dot(n, rest.data(), rest.data()) <= squares_wanted) return true;
    solved = rest;
    factor_.solve(solved.data(), i == 0 ? first_h : 0);
    const double squares = kernels.dot(n, rest.data(), solved.data());
    const double share = squares / last;
    last = squares;
    for (std::size_t k = 0; k < h.size(); ++k) {
      towards[k] = solved[k] + share * towards[k];
      m_towards[k] = rest[k] + share * m_towards[k];
      image[k] = m_towards[k] + (e_[k] - e_in_factor_[k]) * towards[k];
    }
    const double step = squares / kernels.dot(n, towards.data(), image.data());
    kernels.axpy(n, step, towards.data(), delta.data());
    kernels.axpy(n, -step, image.data(), rest.data());
  }
  return false;
}

bool ActiveSet::step_past_signs(const std::vector<double>& delta, const std::vector<double>& rest,
                                std::vector<double>& h, Index& n_new) {
  const std::size_t k = active_.size();
  std::vector<Index> wrong;
  for (std::size_t i = 0; i < k; ++i) {
    if (sign_[i] == 0 || !((coef_[i] + delta[i]) * sign_[i] < 0.0)) continue;
    wrong.push_back(static_cast<Index>(i));
    if (coef_[i] == 0.0) --n_new;
  }
  if (wrong.empty()) return false;
  h = rest;
  for (std::size_t i = 0; i < k; ++i) coef_[i] += delta[i];
  for (const Index i : wrong) {
    const double b = coef_[at(i)];
    simd().axpy(i, b, gram_[at(i)].data(), h.data());
    for (std::size_t m = at(i); m < k; ++m) h[m] += b * gram_[m][at(i)];
  }
  drop(wrong);
  for (auto i = wrong.rbegin(); i != wrong.rend(); ++i) h.erase(h.begin() + *i);
  return true;
}

void ActiveSet::refactor(double share) {
  dependent_.clear();
  e_in_factor_ = e_;
  for (double& e : e_in_factor_) e *= share;
  factor_is_exact_ = share == 1.0;
  const auto n = static_cast<Index>(active_.size());
  // Kept from lambda to lambda: fresh pages cost a fifth of the factorisation.
  if (whole_matrix_.size() < at(n * n)) whole_matrix_.resize(at(n * n));
  for (Index k = 0; k < n; ++k) {
    double* column = whole_matrix_.data() + k * n;
    std::copy(gram_[at(k)].begin(), gram_[at(k)].end(), column);
    column[k] += e_in_factor_[at(k)];
  }
  if (factor_.factor(n, whole_matrix_.data(), kTinyPivot)) return;
  // Row by row, with a floor under the pivots of dependent columns.
  factor_.clear();
  std::vector<double> l;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    const double squares = factor_.forward_row(gram_[k].data(), l);
    const double whole = gram_[k][k] + e_in_factor_[k];
    double pivot = whole - squares;
    if (!(pivot > kTinyPivot * whole)) {
      pivot = whole > 0.0 ? kTinyPivot * whole : 1.0;
      if (a_[k] == 0.0 && e_[k] == 0.0) dependent_.push_back(static_cast<Index>(k));
    }
    factor_.append(l, std::sqrt(pivot));
  }
}

// What they explained the others take over. They are blocked when they ask to enter again.
void ActiveSet::drop_dependent() {
  if (dependent_.empty()) return;
  while (!dependent_.empty()) {
    drop(std::vector<Index>(std::exchange(dependent_, {})));
    refactor();
  }
  read_again();
}

void ActiveSet::forget(Index position) {
  state_[at(active_[at(position)])] = kOutside;
  products_.leave(position);
  active_.erase(active_.begin() + position);
  sign_.erase(sign_.begin() + position);
  coef_.erase(coef_.begin() + position);
  a_.erase(a_.begin() + position);
  e_.erase(e_.begin() + position);
}

void ActiveSet::drop(std::span<const Index> positions) {
  if (guess_) guess_->dropped();
  dependent_.clear();
  for (auto p = positions.rbegin(); p != positions.rend(); ++p) {
    forget(*p);
    e_in_factor_.erase(e_in_factor_.begin() + *p);
    gram_.erase(gram_.begin() + *p);
  }
  factor_.remove(positions);
  // The rows that are left lose the entries, each in one go.
  for (std::size_t k = at(positions.front()), n_above = 0; k < gram_.size(); ++k) {
    while (n_above < positions.size() && at(positions[n_above]) <= k + n_above) ++n_above;
    std::vector<double>& row = gram_[k];
    auto target = row.begin() + positions.front();
    for (std::size_t m = 0; m < n_above; ++m) {
      const auto to = m + 1 < n_above ? row.begin() + positions[m + 1] : row.end();
      target = std::copy(row.begin() + positions[m] + 1, to, target);
    }
    row.erase(target, row.end());
  }
}

void ActiveSet::append_row(Index j, double sign, const std::vector<double>& gram_row,
                           double pivot_square, const std::vector<double>& l, double lambda) {
  e_in_factor_.push_back(entrant_e(j, lambda));
  state_[at(j)] = kActive;
  active_.push_back(j);
  coef_.push_back(0.0);
  a_.push_back(problem_.a(j, lambda));
  e_.push_back(problem_.e(j, lambda));
  sign_.push_back(a_.back() > 0.0 ? static_cast<std::int8_t>(sign > 0.0 ? 1 : -1) : std::int8_t{0});
  gram_.push_back(gram_row);
  factor_.append(l, std::sqrt(pivot_square));
}

Index ActiveSet::enter(const std::vector<Index>& features, const std::vector<double>& g,
                       double lambda, bool sure) {
  const Index k = static_cast<Index>(active_.size());
  const Index count = static_cast<Index>(features.size());
  const Index ld = k + count;
  gram_of_entrants_.resize(at(ld * count));
  if (!products_.enter(features, gram_of_entrants_.data(), ld, may_round_)) is_rounded_ = true;
  const Index stride = (k + 7) / 8 * 8;  // each column on a cache line
  solved_.resize(at(stride * count));
  std::vector<double*> columns(at(count));
  for (Index c = 0; c < count; ++c) {
    columns[at(c)] = solved_.data() + c * stride;
    std::copy_n(gram_of_entrants_.data() + c * ld, k, columns[at(c)]);
  }
  factor_.forward_columns(columns);
  std::vector<double> between(at(count * count)), l, row;
  cross_in_blocks(k, columns.data(), count, columns.data(), count, between.data(), count);
  Index n_entered = 0;
  std::vector<Index> kept;  // positions, within the new features, of those that are active now
  for (Index c = 0; c < count; ++c) {
    const double* column = gram_of_entrants_.data() + c * ld;
    const double* known = between.data() + c * count;
    row.assign(column, column + k);
    l.assign(columns[at(c)], columns[at(c)] + k);
    for (const Index other : kept) {
      row.push_back(column[k + other]);
      l.push_back(row.back() - known[other]);
    }
    row.push_back(column[k + c]);
    const Index j = features[at(c)];
    const double whole = row.back() + entrant_e(j, lambda);
    const double pivot = whole - known[c] - factor_.forward_rest(l, k);
    if (is_rounded_ && !(pivot > kSafePivot * whole)) {
      // In double from here on. What is left of the group waits for its next turn.
      for (Index left = count; left > c; --left) products_.leave(k + left - 1);
      insist_on_double();
      return n_entered > 0 ? n_entered : enter(features, g, lambda, sure);
    }
    if (pivot > (sure ? kTinyPivot : kSafePivot) * whole) {
      append_row(j, g[at(c)], row, pivot, l, lambda);
      kept.push_back(c);
      ++n_entered;
      continue;
    }
    products_.leave(k + n_entered);
    if (count == 1 && sure && whole > 0.0 && enter_dependent(j, g[at(c)], row, lambda)) {
      moved_by_null_ = true;
      return 1;
    }
    if (count == 1 && sure) {
      state_[at(j)] = kBlocked;
      blocked_.push_back(j);
      ++n_dependent_;
    }
  }
  return n_entered;
}

// x_j lies in the span of the active columns: moving along (delta_A, sign) leaves the fit as it is
// and lowers the penalty until an active coefficient reaches 0; that feature leaves and j takes
// its place.
bool ActiveSet::enter_dependent(Index j, double g, const std::vector<double>& gram_row,
                                double lambda) {
  std::vector<double> delta;
  factor_.forward_row(gram_row.data(), delta);
  factor_.solve_transposed(delta.data());
  double sign = g > 0.0 ? 1.0 : -1.0;
  if (problem_.a(j, lambda) == 0.0) {
    // Without a penalty of its own it goes where those of the others fall, if any do.
    double rise = 0.0, size = 0.0, share = 0.0;  // per unit of -b_j
    for (std::size_t k = 0; k < active_.size(); ++k) {
      if (a_[k] == 0.0) continue;
      rise += a_[k] * sign_[k] * delta[k];
      size += a_[k] * std::fabs(delta[k]);
      share += std::fabs(delta[k]) * std::sqrt(gram_[k][k]);
    }
    if (!(share > kNoShare * std::sqrt(gram_row.back()))) return false;
    if (!(std::fabs(rise) > kNoSlope * size)) return false;
    sign = rise > 0.0 ? 1.0 : -1.0;
  }
  double step = std::numeric_limits<double>::infinity();
  Index hit = -1;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    delta[k] *= -sign;
    if (sign_[k] == 0 || !(delta[k] * coef_[k] < 0.0)) continue;
    const double t = -coef_[k] / delta[k];
    if (t < step) {
      step = t;
      hit = static_cast<Index>(k);
    }
  }
  if (hit < 0) return false;
  for (std::size_t k = 0; k < active_.size(); ++k) coef_[k] += step * delta[k];
  std::vector<double> row(gram_row);
  row.erase(row.begin() + hit);
  drop(std::span(&hit, 1));
  std::vector<double> again(active_.size() + 1), l;
  const Index entrant[1] = {j};
  products_.enter(entrant, again.data(), static_cast<Index>(again.size()), false);
  const double whole = row.back() + entrant_e(j, lambda);
  const double pivot = std::max(whole - factor_.forward_row(row.data(), l), kTinyPivot * whole);
  append_row(j, sign, row, pivot, l, lambda);
  coef_.back() = step * sign;
  return true;
}

void ActiveSet::start_from(const SparseCoef& start, double lambda) {
  for (const auto& [j, b] : start) {
    if (problem_.excluded(j) || b == 0.0) continue;
    // A dependent column would move the others: it is left out, the path finds it again.
    const std::vector<Index> one = {j};
    std::vector<double> gram(active_.size() + 1), l;
    products_.enter(one, gram.data(), static_cast<Index>(gram.size()), false);
    const double whole = gram.back() + entrant_e(j, lambda);
    const double pivot = whole - factor_.forward_row(gram.data(), l);
    if (pivot > kTinyPivot * whole) {
      append_row(j, b, gram, pivot, l, lambda);
      coef_.back() = b;
    } else {
      products_.leave(static_cast<Index>(active_.size()));
    }
  }
  read_again();
}

double ActiveSet::rounding_level(std::size_t k, double residual_norm) const {
  return kStationary * a_[k] + slack(active_[k], residual_norm);
}

double ActiveSet::stationarity(std::vector<double>& h) const {
  h.resize(active_.size());
  double worst = 0.0, gap = 0.0;
  const double residual_norm = products_.weighted_residual_norm();
  for (std::size_t k = 0; k < active_.size(); ++k) {
    h[k] = g_[k] - a_[k] * sign_[k] - e_[k] * coef_[k];
    worst = std::max(worst, std::fabs(h[k]) / rounding_level(k, residual_norm));
    gap += e_[k] > 0.0 ? h[k] * h[k] / (2.0 * e_[k]) : std::numeric_limits<double>::infinity();
  }
  return std::min(worst, std::sqrt(gap / (kNoGap * problem_.null_loss)));
}

ActiveSet::Outcome ActiveSet::solve(double lambda, const std::vector<Index>& working_set,
                                    Index max_iterations) {
  Outcome out;
  for (const Index j : blocked_) {
    if (state_[at(j)] == kBlocked) state_[at(j)] = kOutside;
  }
  blocked_.clear();
  n_dependent_ = 0;
  if (row_space_pays(lambda, working_set)) {
    out = solve_in_row_space(lambda, working_set, max_iterations);
    if (out.exact) return out;
    if (out.iterations >= max_iterations) {
      read_again();
      return out;
    }
    out.exact = true;
  }
  const bool changed = set_penalties(lambda);
  if (row_system_) {
    restore_factor();
  } else if (changed) {
    factor_is_exact_ = false;
    const double distance = distance_of_factor();
    if (distance > kNearFactor) refactor(distance < kSmallStep ? 1.0 / kNearFactor : 1.0);
  }
  drop_dependent();

  // h: what is missing to stationarity on the active features; entries before first_h are 0.
  std::vector<double> h;
  g_.resize(active_.size());
  stationarity(h);
  Index first_h = 0;
  Index n_new = 0;         // entrants since the last full step that are still active
  bool single = false;     // entrants one at a time, after a group that did not move
  bool has_start = false;  // delta and rest, for conjugate gradients
  int refinements = 0;
  int exchanges = 0;
  double last_worst = std::numeric_limits<double>::infinity();
  const Index limit =
      std::min(max_iterations, 50 + 4 * static_cast<Index>(working_set.size() + active_.size()));
  double precision = factor_is_exact_ ? kFine : kCoarse;
  std::vector<double> delta, rest, g_outside, g_chosen;
  std::vector<Index> outside, chosen, guessed;
  std::vector<std::pair<double, std::size_t>> violators;
  const double hat_lambda = problem_.hat_lambda(lambda);

  const auto list_outside = [&] {
    outside.clear();
    for (const Index j : working_set) {
      if (state_[at(j)] == kOutside) outside.push_back(j);
    }
  };
  const auto find_violators = [&] {
    list_outside();
    g_outside.resize(outside.size());
    products_.gradient(outside, g_outside.data());
    violators.clear();
    const double residual_norm = products_.weighted_residual_norm();
    for (std::size_t m = 0; m < outside.size(); ++m) {
      const Index j = outside[m];
      const double a = problem_.a_of_hat(j, hat_lambda);
      const double excess = std::fabs(g_outside[m]) - a;
      // A feature without an L1 term belongs to the active set from the start.
      if (a == 0.0 || (excess > 0.0 && excess > slack(j, residual_norm))) {
        const double norm = columns_.norm(j);
        violators.emplace_back(norm > 0.0 ? excess / norm : 0.0, m);
      }
    }
  };

  // g_now: gradients of the chosen, where g_chosen is a guess.
  const auto let_in = [&](const std::vector<double>& g_now, bool sure) {
    const auto before = static_cast<Index>(active_.size());
    moved_by_null_ = false;
    n_new = enter(chosen, g_chosen, lambda, sure);
    if (moved_by_null_) {
      read_again();
      stationarity(h);
      n_new = 0;
    }
    h.resize(active_.size());
    for (std::size_t i = at(before); i < active_.size(); ++i) {
      const auto m = static_cast<std::size_t>(std::find(chosen.begin(), chosen.end(), active_[i]) -
                                              chosen.begin());
      h[i] = g_now[m] - a_[i] * sign_[i];
    }
  };

  if (guess_ && guess_->can_guess(lambda)) {
    list_outside();
    guess_->entrants(problem_, lambda, outside, chosen, g_chosen);
    std::vector<double> g_now;
    for (const Index j : chosen) g_now.push_back(guess_->last_gradient(j));
    if (!chosen.empty()) let_in(g_now, false);
    guessed = chosen;
    has_start = !factor_is_exact_ && guess_->step(lambda, active_, e_, h, delta, rest);
    precision = kFine;
  }
  for (;; ++out.iterations) {
    if (out.iterations >= limit) {
      out.exact = false;
      break;
    }
    const auto k = active_.size();
    if (k > 0) {
      if (!std::exchange(has_start, false)) delta.clear();
      newton_direction(h, first_h, single ? kFine : precision, delta, rest);
      if (!single && exchanges < kMostExchanges) {
        if (step_past_signs(delta, rest, h, n_new)) {
          ++exchanges;
          first_h = 0;
          continue;
        }
      }
      double step = 1.0;
      Index hit = -1;
      double worst_start = 0.0;
      for (std::size_t i = 0; i < k; ++i) {
        if (sign_[i] == 0) continue;
        const double s = sign_[i];
        if (coef_[i] == 0.0) {
          // An entrant that would start against its sign.
          if (delta[i] * s < worst_start) {
            worst_start = delta[i] * s;
            step = 0.0;
            hit = static_cast<Index>(i);
          }
        } else if ((coef_[i] + delta[i]) * s < 0.0) {
          const double t = std::max(0.0, -coef_[i] / delta[i]);
          if (t < step) {
            step = t;
            hit = static_cast<Index>(i);
          }
        }
      }
      if (hit >= 0) {
        const bool never_moved = coef_[at(hit)] == 0.0;
        for (std::size_t i = 0; i < k; ++i) {
          coef_[i] += step * delta[i];
          h[i] += step * (rest[i] - h[i]);
        }
        if (never_moved) --n_new;
        const Index j = active_[at(hit)];
        drop(std::span(&hit, 1));
        if (never_moved && single) {
          // Alone and still against its sign: only rounding can do that. The certificate decides.
          state_[at(j)] = kBlocked;
          blocked_.push_back(j);
        }
        h.erase(h.begin() + hit);
        if (hit < first_h) --first_h;
        if (n_new <= 0 && never_moved) single = true;
        continue;
      }
      for (std::size_t i = 0; i < k; ++i) coef_[i] += delta[i];
      h.swap(rest);
      if (n_new > 0) single = false;
    }
    const bool few_new = n_new > 0 && n_new * kFewShare <= static_cast<Index>(k);
    products_.set_coef(coef_, !few_new);
    n_new = 0;

    find_violators();
    if (violators.empty() && products_.residual_is_rounded()) {
      products_.set_coef(coef_);
      find_violators();
    }
    if (!violators.empty()) {
      const std::size_t share = is_tall_ ? violators.size() / kViolatorShare : 0;
      const std::size_t most =
          single ? 1 : std::max({kEntrants, active_.size() / kEntrantShare, share});
      const std::size_t take = std::min(violators.size(), most);
      std::partial_sort(violators.begin(), violators.begin() + static_cast<std::ptrdiff_t>(take),
                        violators.end(), [](const auto& x, const auto& y) {
                          return x.first > y.first || (x.first == y.first && x.second < y.second);
                        });
      chosen.clear();
      g_chosen.clear();
      for (std::size_t m = 0; m < take; ++m) {
        chosen.push_back(outside[violators[m].second]);
        g_chosen.push_back(g_outside[violators[m].second]);
      }
      first_h = static_cast<Index>(active_.size());
      let_in(g_chosen, true);
      if (moved_by_null_) {
        first_h = 0;
        continue;
      }
      if (n_new == 0) single = true;
      if (!factor_is_exact_) {
        first_h = 0;
        precision = kFine;
        last_worst = std::numeric_limits<double>::infinity();
      }
      continue;
    }

    // Nothing outside wants in. Look at stationarity afresh, from the data.
    g_.resize(active_.size());
    products_.gradient_active(g_.data());
    const double worst = stationarity(h);
    first_h = 0;
    if (!(worst > 1.0)) {
      out.exact = worst <= 1.0;  // false for NaN
      break;
    }
    if (precision == kFine) {
      if (refinements >= kRefinements || !(worst < 0.5 * last_worst)) {
        if (!is_rounded_) break;
        insist_on_double();
        stationarity(h);
        refinements = 0;
      }
      last_worst = worst;
      ++refinements;
    }
    precision = kFine;
  }
  if (guess_) {
    const auto n_wrong = std::count_if(guessed.begin(), guessed.end(),
                                       [&](Index j) { return state_[at(j)] != kActive; });
    guess_->judge(static_cast<Index>(guessed.size()), n_wrong);
    if (out.exact) {
      guess_->remember(lambda, active_, coef_, g_, outside, g_outside);
    } else {
      guess_->forget();
    }
  }
  if (!out.exact) read_again();
  return out;
}

void ActiveSet::read_again() {
  products_.set_coef(coef_);
  g_.resize(active_.size());
  products_.gradient_active(g_.data());
}

void ActiveSet::leave_all() {
  for (auto k = active_.size(); k > 0; --k) products_.leave(static_cast<Index>(k) - 1);
}

void ActiveSet::restore_factor() {
  row_system_.reset();
  leave_all();
  enter_as_one();
}

void ActiveSet::insist_on_double() {
  may_round_ = false;
  leave_all();
  enter_as_one();
}

void ActiveSet::enter_as_one() {
  const auto k = static_cast<Index>(active_.size());
  std::vector<double> gram(at(k * k));
  products_.enter(active_, gram.data(), k, false);
  is_rounded_ = false;
  gram_.clear();
  for (Index c = 0; c < k; ++c) {
    gram_.emplace_back(gram.begin() + c * k, gram.begin() + c * k + c + 1);
  }
  refactor();
  read_again();
}

void ActiveSet::go_back(const SparseCoef& solution, double lambda) {
  if (guess_) guess_->forget();
  row_system_.reset();
  leave_all();
  for (const Index j : active_) state_[at(j)] = kOutside;
  active_.clear();
  coef_.clear();
  for (const auto& [j, b] : solution) {
    state_[at(j)] = kActive;
    active_.push_back(j);
    coef_.push_back(b);
  }
  a_.resize(active_.size());
  e_.resize(active_.size());
  sign_.assign(active_.size(), 0);
  set_penalties(lambda);
  enter_as_one();
}

bool ActiveSet::row_space_pays(double lambda, const std::vector<Index>& working_set) const {
  if (rows_ == nullptr || lambda == 0.0) return false;
  if (static_cast<Index>(active_.size()) < rows_->n_rows()) return false;
  const auto curved = [&](Index j) { return problem_.e(j, lambda) > 0.0; };
  return std::all_of(working_set.begin(), working_set.end(), curved) &&
         std::all_of(active_.begin(), active_.end(), curved);
}

bool ActiveSet::factor_row_space() {
  const std::size_t k = active_.size();
  // What leaves is subtracted: after as many as there are, S is summed afresh.
  bool kept = row_system_ && n_removed_ <= static_cast<Index>(k);
  if (kept && k > 0) {
    const double ratio = e_[0] / e0_[0];
    for (std::size_t i = 0; i < k; ++i) {
      kept = kept && std::fabs(e_[i] - ratio * e0_[i]) <= 1e-12 * e_[i];
    }
  }
  if (!kept) {
    if (!row_system_) row_system_ = std::make_unique<RowSpaceSystem>(rows_->n_rows());
    row_system_->clear();
    n_removed_ = 0;
    e0_ = e_;
    row_system_->add(rows_->columns(), e0_, 1.0);
  }
  return row_system_->factor(k > 0 ? e0_[0] / e_[0] : 1.0);
}

void ActiveSet::refine_in_row_space(const std::vector<double>& h) {
  const std::span<const double* const> x = rows_->columns();
  const auto k = static_cast<Index>(x.size());
  std::vector<double> scaled(h.size()), t(at(rows_->n_rows()), 0.0), back(h.size());
  for (std::size_t i = 0; i < h.size(); ++i) scaled[i] = h[i] / e_[i];
  simd().axpys(rows_->n_rows(), k, scaled.data(), x.data(), t.data());
  row_system_->solve(t.data());
  simd().dots(rows_->n_rows(), x.data(), k, t.data(), back.data());
  for (std::size_t i = 0; i < h.size(); ++i) {
    if (coef_[i] != 0.0) coef_[i] += scaled[i] - back[i] / e_[i];
  }
}

// The dual of the problem on the working set, over residuals r (rows and columns times sqrt(w)):
//
//   D(r) = |r|^2/2 - y'r + sum_j max(|g_j| - a_j, 0)^2 / (2 e_j),   g = X'r,
//
// is convex with the piecewise linear gradient r + X b(r) - y, b_j(r) = soft(g_j, a_j) / e_j.
// Newton's step at A = {j: |g_j| > a_j} goes to r = K^-1 (y + X_A E^-1 a s): all violators enter,
// and all features with a wrong sign leave, at once.
ActiveSet::Outcome ActiveSet::solve_in_row_space(double lambda,
                                                 const std::vector<Index>& working_set,
                                                 Index max_iterations) {
  Outcome out;
  out.exact = false;
  const Index n = rows_->n_rows();
  const Simd& kernels = simd();
  set_penalties(lambda);
  if (!row_system_) {
    gram_ = {};
    factor_ = PackedCholesky();
    whole_matrix_ = {};
  }

  std::vector<DualTerm> terms;
  std::vector<Index> features;
  const auto consider = [&](Index j, Index position) {
    terms.push_back({problem_.a(j, lambda), problem_.e(j, lambda), 0.0, 0.0, position});
    features.push_back(j);
  };
  for (std::size_t k = 0; k < active_.size(); ++k) consider(active_[k], static_cast<Index>(k));
  for (const Index j : working_set) {
    if (state_[at(j)] == kOutside) consider(j, -1);
  }

  std::vector<double> r(at(n)), next(at(n)), g(features.size()), scaled;
  const double* y = rows_->response();
  const auto dual = [&](const std::vector<double>& residual) {
    double sum =
        0.5 * kernels.dot(n, residual.data(), residual.data()) - kernels.dot(n, y, residual.data());
    for (const DualTerm& term : terms) {
      const double excess = std::fabs(term.g) - term.a;
      if (excess > 0.0) sum += excess * excess / (2.0 * term.e);
    }
    return sum;
  };
  double value = 0.0;
  for (bool first = true;; first = false) {
    if (out.iterations >= std::min(max_iterations, kMostNewtonSteps)) return out;
    ++out.iterations;
    if (!factor_row_space()) return out;
    next.assign(y, y + n);
    scaled.resize(active_.size());
    for (std::size_t k = 0; k < active_.size(); ++k) scaled[k] = a_[k] * sign_[k] / e_[k];
    kernels.axpys(n, static_cast<Index>(active_.size()), scaled.data(), rows_->columns().data(),
                  next.data());
    row_system_->solve(next.data());
    rows_->set_residual(next.data());
    rows_->gradient(features, g.data());

    double constant = 0.0, linear = 0.0;  // of the quadratic part's slope towards `next`
    for (Index i = 0; i < n; ++i) {
      const double d = next[at(i)] - r[at(i)];
      constant += (r[at(i)] - y[i]) * d;
      linear += d * d;
    }
    for (std::size_t t = 0; t < terms.size(); ++t) {
      terms[t].towards = g[t] - terms[t].g;
      terms[t].g = g[t];
    }
    // D along the step, backwards from its end: s = 1 - t.
    const auto slope = [&](double s) {
      double sum = constant + (1.0 - s) * linear;
      for (const DualTerm& term : terms) {
        const double at_s = term.g - s * term.towards;
        const double excess = std::fabs(at_s) - term.a;
        if (excess > 0.0) sum += (at_s < 0.0 ? -excess : excess) / term.e * term.towards;
      }
      return sum;
    };
    double next_value = dual(next);
    bool full = true;
    // The first step has nothing to descend from. Where a later one does not descend, the minimum
    // along it does.
    if (!first && !(next_value <= value + kArmijo * slope(1.0) + kStationary * std::fabs(value))) {
      full = false;
      double low = 0.0, high = 1.0;
      for (int i = 0; i < kBisections; ++i) {
        const double middle = 0.5 * (low + high);
        (slope(middle) > 0.0 ? low : high) = middle;
      }
      for (DualTerm& term : terms) term.g -= low * term.towards;
      for (Index i = 0; i < n; ++i) next[at(i)] -= low * (next[at(i)] - r[at(i)]);
      next_value = dual(next);
    }
    r.swap(next);
    value = next_value;
    if (!std::isfinite(value)) return out;
    if (!exchange_in_row_space(features, terms) && full) break;
  }

  for (const DualTerm& term : terms) {
    if (term.position < 0) continue;
    const double excess = std::max(std::fabs(term.g) - term.a, 0.0);
    coef_[at(term.position)] = (term.g < 0.0 ? -excess : excess) / term.e;
  }
  g_.resize(active_.size());
  std::vector<double> h(active_.size());
  double last_worst = std::numeric_limits<double>::infinity();
  for (int refinements = 0;; ++refinements) {
    products_.set_coef(coef_);
    products_.gradient_active(g_.data());
    const double worst = stationarity(h);
    out.exact = std::isfinite(worst);
    if (!(worst > 1.0) || refinements >= kRefinements || !(worst < 0.5 * last_worst)) return out;
    last_worst = worst;
    refine_in_row_space(h);
  }
}

bool ActiveSet::exchange_in_row_space(const std::vector<Index>& features,
                                      std::vector<DualTerm>& terms) {
  bool changed = false;
  std::vector<Index> entering;
  std::vector<std::size_t> term_of(active_.size()), entering_terms, leaving;
  const double residual_norm = products_.weighted_residual_norm();
  for (std::size_t t = 0; t < terms.size(); ++t) {
    const DualTerm& term = terms[t];
    const double allowed = kStationary * term.a + slack(features[t], residual_norm);
    if (term.position < 0) {
      if (std::fabs(term.g) <= term.a + allowed && term.a > 0.0) continue;
      entering.push_back(features[t]);
      entering_terms.push_back(t);
      continue;
    }
    term_of[at(term.position)] = t;
    std::int8_t& sign = sign_[at(term.position)];
    if (sign == 0 || sign * term.g >= term.a - allowed) continue;
    changed = true;
    if (-sign * term.g > term.a + allowed) {
      sign = static_cast<std::int8_t>(-sign);
    } else {
      leaving.push_back(at(term.position));
    }
  }
  // S takes what enters and gives up what leaves; e0 of an entrant follows the common factor.
  const double ratio = active_.empty() ? 1.0 : e0_[0] / e_[0];
  std::sort(leaving.begin(), leaving.end());
  std::vector<const double*> x;
  std::vector<double> e0;
  for (const std::size_t position : leaving) {
    x.push_back(rows_->columns()[position]);
    e0.push_back(e0_[position]);
  }
  row_system_->add(x, e0, -1.0);
  for (auto position = leaving.rbegin(); position != leaving.rend(); ++position) {
    terms[term_of[*position]].position = -1;
    forget(static_cast<Index>(*position));
    e0_.erase(e0_.begin() + static_cast<std::ptrdiff_t>(*position));
    term_of.erase(term_of.begin() + static_cast<std::ptrdiff_t>(*position));
  }
  rows_->append(entering);
  for (std::size_t m = 0; m < entering.size(); ++m) {
    const DualTerm& term = terms[entering_terms[m]];
    term_of.push_back(entering_terms[m]);
    state_[at(entering[m])] = kActive;
    active_.push_back(entering[m]);
    coef_.push_back(0.0);
    a_.push_back(term.a);
    e_.push_back(term.e);
    e0_.push_back(ratio * term.e);
    sign_.push_back(term.a > 0.0 ? static_cast<std::int8_t>(term.g > 0.0 ? 1 : -1)
                                 : std::int8_t{0});
  }
  for (std::size_t k = 0; k < active_.size(); ++k) {
    terms[term_of[k]].position = static_cast<Index>(k);
  }
  const std::size_t kept = active_.size() - entering.size();
  row_system_->add(rows_->columns().subspan(kept), std::span(e0_).subspan(kept), 1.0);
  n_removed_ += static_cast<Index>(leaving.size());
  return changed || !entering.empty();
}

SparseCoef ActiveSet::coef() const {
  SparseCoef out;
  out.reserve(active_.size());
  if (state_.size() <= kDense * active_.size()) {
    std::vector<double> dense(state_.size(), 0.0);
    for (std::size_t k = 0; k < active_.size(); ++k) dense[at(active_[k])] = coef_[k];
    for (std::size_t j = 0; j < dense.size(); ++j) {
      if (dense[j] != 0.0) out.emplace_back(static_cast<Index>(j), dense[j]);
    }
    return out;
  }
  for (std::size_t k = 0; k < active_.size(); ++k) {
    if (coef_[k] != 0.0) out.emplace_back(active_[k], coef_[k]);
  }
  std::ranges::sort(out, {}, &SparseCoef::value_type::first);
  return out;
}

}  // namespace thresher

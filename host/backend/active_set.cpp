#include "backend/active_set.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr Index kEntrants = 8;  // violators added at a time (design section 6)
// Relative to G_jj + e_j: below it the entrant depends on the active columns. Rounding leaves about
// k eps = 1e-13 of a pivot; at 1e-10 paths on the meats spectra cycled among null moves.
constexpr double kTinyPivot = 1e-12;
constexpr double kStationary = 1e-12;  // |h| below this share of a needs no further refinement
constexpr int kRefinements = 3;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

ActiveSet::ActiveSet(const Columns& columns, const Problem& problem, LocalProducts& products)
    : columns_(columns), problem_(problem), products_(products) {
  state_.assign(at(columns.n_features()), kOutside);
}

double ActiveSet::slack(Index j) const {
  return static_cast<double>(columns_.n_samples()) * kEps * columns_.norm(j) *
         products_.weighted_residual_norm();
}

void ActiveSet::set_lambda(double lambda) {
  bool refactor_needed = false;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    a_[k] = problem_.a(active_[k], lambda);
    const double e = problem_.e(active_[k], lambda);
    if (e != e_[k]) refactor_needed = true;
    e_[k] = e;
    if (a_[k] == 0.0) sign_[k] = 0;
    if (a_[k] > 0.0 && sign_[k] == 0) sign_[k] = coef_[k] < 0.0 ? -1 : 1;
  }
  if (refactor_needed) refactor();
}

void ActiveSet::refactor() {
  const auto n = static_cast<Index>(active_.size());
  std::vector<double> whole_matrix(at(n * n));
  for (Index k = 0; k < n; ++k) {
    double* column = whole_matrix.data() + k * n;
    std::copy(gram_[at(k)].begin(), gram_[at(k)].end(), column);
    column[k] += e_[at(k)];
  }
  if (factor_.factor(n, whole_matrix.data(), kTinyPivot)) return;
  // Row by row, with a floor under the pivots of dependent columns.
  factor_.clear();
  std::vector<double> l;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    const double squares = factor_.forward_row(gram_[k].data(), l);
    const double whole = gram_[k][k] + e_[k];
    const double pivot = std::max(whole - squares, kTinyPivot * whole);
    factor_.append(l, std::sqrt(pivot));
  }
}

void ActiveSet::drop(Index position) {
  state_[at(active_[at(position)])] = kOutside;
  products_.leave(position);
  factor_.remove(position);
  active_.erase(active_.begin() + position);
  sign_.erase(sign_.begin() + position);
  coef_.erase(coef_.begin() + position);
  a_.erase(a_.begin() + position);
  e_.erase(e_.begin() + position);
  gram_.erase(gram_.begin() + position);
  for (std::size_t k = at(position); k < gram_.size(); ++k) {
    gram_[k].erase(gram_[k].begin() + position);
  }
}

void ActiveSet::append_row(Index j, double sign, const std::vector<double>& gram_row,
                           double pivot_square, const std::vector<double>& l, double lambda) {
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
                       double lambda) {
  const Index k = static_cast<Index>(active_.size());
  const Index count = static_cast<Index>(features.size());
  const Index ld = k + count;
  std::vector<double> gram(at(ld * count));
  products_.enter(features, gram.data(), ld);
  std::vector<double> l, row;
  Index n_entered = 0;
  std::vector<Index> kept;  // positions, within the new features, of those that are active now
  for (Index c = 0; c < count; ++c) {
    const double* column = gram.data() + c * ld;
    row.assign(column, column + k);
    for (const Index other : kept) row.push_back(column[k + other]);
    row.push_back(column[k + c]);
    const Index j = features[at(c)];
    const double whole = row.back() + problem_.e(j, lambda);
    const double pivot = whole - factor_.forward_row(row.data(), l);
    if (pivot > kTinyPivot * whole) {
      append_row(j, g[at(c)], row, pivot, l, lambda);
      kept.push_back(c);
      ++n_entered;
      continue;
    }
    products_.leave(k + n_entered);
    if (count == 1 && whole > 0.0 && enter_dependent(j, g[at(c)], row, lambda)) {
      moved_by_null_ = true;
      return 1;
    }
    if (count == 1) {
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
  if (problem_.a(j, lambda) == 0.0) return false;
  const double sign = g > 0.0 ? 1.0 : -1.0;
  std::vector<double> delta;
  factor_.forward_row(gram_row.data(), delta);
  factor_.solve_transposed(delta.data());
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
  drop(hit);
  std::vector<double> again(active_.size() + 1), l;
  const Index entrant[1] = {j};
  products_.enter(entrant, again.data(), static_cast<Index>(again.size()));
  const double whole = row.back() + problem_.e(j, lambda);
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
    products_.enter(one, gram.data(), static_cast<Index>(gram.size()));
    const double whole = gram.back() + problem_.e(j, lambda);
    const double pivot = whole - factor_.forward_row(gram.data(), l);
    if (pivot > kTinyPivot * whole) {
      append_row(j, b, gram, pivot, l, lambda);
      coef_.back() = b;
    } else {
      products_.leave(static_cast<Index>(active_.size()));
    }
  }
  products_.set_coef(coef_);
  g_.resize(active_.size());
  products_.gradient_active(g_.data());
}

ActiveSet::Outcome ActiveSet::solve(double lambda, const std::vector<Index>& working_set,
                                    Index max_iterations) {
  Outcome out;
  for (const Index j : blocked_) {
    if (state_[at(j)] == kBlocked) state_[at(j)] = kOutside;
  }
  blocked_.clear();
  n_dependent_ = 0;
  set_lambda(lambda);

  // h: what is missing to stationarity on the active features; entries before first_h are 0.
  std::vector<double> h(active_.size());
  g_.resize(active_.size());
  const auto residual_h = [&] {
    h.resize(active_.size());
    for (std::size_t k = 0; k < active_.size(); ++k) {
      h[k] = g_[k] - a_[k] * sign_[k] - e_[k] * coef_[k];
    }
  };
  residual_h();
  Index first_h = 0;
  Index n_new = 0;      // entrants since the last full step that are still active
  bool single = false;  // entrants one at a time, after a group that did not move
  int refinements = 0;
  double last_worst = std::numeric_limits<double>::infinity();
  const Index limit =
      std::min(max_iterations, 50 + 4 * static_cast<Index>(working_set.size() + active_.size()));
  std::vector<double> delta, g_outside, g_chosen;
  std::vector<Index> outside, chosen;
  std::vector<std::pair<double, std::size_t>> violators;

  for (;; ++out.iterations) {
    if (out.iterations >= limit) {
      out.exact = false;
      break;
    }
    const auto k = active_.size();
    if (k > 0) {
      delta = h;
      factor_.solve(delta.data(), first_h);
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
          h[i] *= 1.0 - step;
        }
        if (never_moved) --n_new;
        const Index j = active_[at(hit)];
        drop(hit);
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
      if (n_new > 0) single = false;
    }
    products_.set_coef(coef_);
    n_new = 0;

    outside.clear();
    for (const Index j : working_set) {
      if (state_[at(j)] == kOutside) outside.push_back(j);
    }
    g_outside.resize(outside.size());
    products_.gradient(outside, g_outside.data());
    violators.clear();
    for (std::size_t m = 0; m < outside.size(); ++m) {
      const Index j = outside[m];
      const double a = problem_.a(j, lambda);
      const double excess = std::fabs(g_outside[m]) - a;
      // A feature without an L1 term belongs to the active set from the start.
      if (excess > slack(j) || a == 0.0) {
        const double norm = columns_.norm(j);
        violators.emplace_back(norm > 0.0 ? excess / norm : 0.0, m);
      }
    }
    if (!violators.empty()) {
      const std::size_t take =
          std::min(violators.size(), single ? std::size_t{1} : static_cast<std::size_t>(kEntrants));
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
      const auto before = static_cast<Index>(active_.size());
      moved_by_null_ = false;
      n_new = enter(chosen, g_chosen, lambda);
      if (moved_by_null_) {
        products_.set_coef(coef_);
        g_.resize(active_.size());
        products_.gradient_active(g_.data());
        residual_h();
        first_h = 0;
        n_new = 0;
        continue;
      }
      if (n_new == 0) single = true;
      h.assign(active_.size(), 0.0);
      first_h = before;
      for (std::size_t i = at(before); i < active_.size(); ++i) {
        const auto m = static_cast<std::size_t>(
            std::find(chosen.begin(), chosen.end(), active_[i]) - chosen.begin());
        h[i] = g_chosen[m] - a_[i] * sign_[i];
      }
      continue;
    }

    // Nothing outside wants in. Look at stationarity afresh, from the data.
    g_.resize(active_.size());
    products_.gradient_active(g_.data());
    residual_h();
    first_h = 0;
    double worst = 0.0;
    for (std::size_t i = 0; i < active_.size(); ++i) {
      const double allowed = kStationary * a_[i] + slack(active_[i]);
      worst = std::max(worst, std::fabs(h[i]) / allowed);
    }
    if (!(worst > 1.0)) {
      out.exact = worst <= 1.0;  // false for NaN
      break;
    }
    if (refinements >= kRefinements || !(worst < 0.5 * last_worst)) break;
    last_worst = worst;
    ++refinements;
  }
  if (!out.exact) {
    products_.set_coef(coef_);
    g_.resize(active_.size());
    products_.gradient_active(g_.data());
  }
  return out;
}

SparseCoef ActiveSet::coef() const {
  SparseCoef out;
  for (std::size_t k = 0; k < active_.size(); ++k) {
    if (coef_[k] != 0.0) out.emplace_back(active_[k], coef_[k]);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace thresher

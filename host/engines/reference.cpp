#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "engines/engine.hpp"
#include "setup/certificate.hpp"

namespace thresher {
namespace {

// The oracle: plain loops over centred columns taken straight from X, read beside docs/method.md.
// It shares the meaning of a problem with the other engines (factors, exclusions, units), but not
// their columns, their products or their certificate. Sums run in long double.
using Real = long double;

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

// A pivot below this share of its diagonal is rounding noise of a Gram matrix in long double
// (n * 2^-64, n up to 1e4).
constexpr Real kTinyPivot = 1e-15L;

// Sweeps between exact solves when the support does not settle by itself. Untuned.
constexpr Index kSweepsBetweenSolves = 50;

// Products of features that have left the support, kept in case they return. Untuned.
constexpr std::size_t kSpareProducts = 200;

// Exact solves in a row that may fail to halve the gap before features join one by one. Untuned.
constexpr int kPatience = 6;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Real sign(double b) { return b > 0 ? 1 : b < 0 ? -1 : 0; }

/// L L' of the rows and columns `order[0 .. rank)` of a symmetric matrix, largest pivot first; what
/// is left in `order` depends on them to rounding.
struct PivotedCholesky {
  std::vector<Index> order;
  std::size_t rank = 0;
  std::vector<std::vector<Real>> lower;  // lower[k]: row k of L, in the order of `order`

  explicit PivotedCholesky(const std::vector<std::vector<Real>>& matrix) {
    const std::size_t size = matrix.size();
    std::vector<Real> pivot(size);
    for (std::size_t k = 0; k < size; ++k) {
      order.push_back(static_cast<Index>(k));
      pivot[k] = matrix[k][k];
    }
    lower.resize(size);
    for (; rank < size; ++rank) {
      std::size_t top = rank;
      auto share = [&](std::size_t k) {
        const Real diagonal = matrix[at(order[k])][at(order[k])];
        return diagonal > 0 ? pivot[k] / diagonal : Real(0);
      };
      for (std::size_t k = rank + 1; k < size; ++k) {
        if (share(k) > share(top)) top = k;
      }
      if (!(share(top) > kTinyPivot)) return;
      std::swap(order[rank], order[top]);
      std::swap(pivot[rank], pivot[top]);
      std::swap(lower[rank], lower[top]);
      const Real root = std::sqrt(pivot[rank]);
      lower[rank].push_back(root);
      for (std::size_t k = rank + 1; k < size; ++k) {
        Real value = matrix[at(order[k])][at(order[rank])];
        for (std::size_t m = 0; m < rank; ++m) value -= lower[k][m] * lower[rank][m];
        value /= root;
        lower[k].push_back(value);
        pivot[k] -= value * value;
      }
    }
  }

  /// The solution on order[0 .. rank), zero elsewhere.
  std::vector<Real> solve(const std::vector<Real>& rhs) const {
    std::vector<Real> forward(rank);
    for (std::size_t k = 0; k < rank; ++k) {
      Real value = rhs[at(order[k])];
      for (std::size_t m = 0; m < k; ++m) value -= lower[k][m] * forward[m];
      forward[k] = value / lower[k][k];
    }
    return backward(forward);
  }

  /// The direction in which dependent member `k` grows by 1 and the independent ones make up for
  /// it.
  std::vector<Real> null_direction(std::size_t k) const {
    std::vector<Real> forward(rank);
    for (std::size_t m = 0; m < rank; ++m) forward[m] = -lower[k][m];
    std::vector<Real> direction = backward(forward);
    direction[at(order[k])] = 1;
    return direction;
  }

 private:
  std::vector<Real> backward(std::vector<Real> value) const {
    std::vector<Real> out(order.size(), 0);
    for (std::size_t k = rank; k-- > 0;) {
      for (std::size_t m = k + 1; m < rank; ++m) value[k] -= lower[m][k] * value[m];
      value[k] /= lower[k][k];
      out[at(order[k])] = value[k];
    }
    return out;
  }
};

/// One problem's path.
class ReferencePath {
 public:
  ReferencePath(const Columns& columns, const Problem& problem, const RunControl& control)
      : columns_(columns),
        problem_(problem),
        control_(control),
        rows_(problem.rows->rows),
        weight_(problem.rows->weight),
        n_(columns.n_samples()),
        p_(columns.n_features()),
        x_(at(p_)),
        x_norm2_(at(p_), 0),
        coef_(at(p_), 0.0),
        a_(at(p_), 0),
        e_(at(p_), 0),
        place_(at(p_), -1) {
    for (Index i : rows_) weight_sum_ += weight_[at(i)];
    for (Index j = 0; j < p_; ++j) {
      if (problem_.excluded(j)) continue;
      x_[at(j)] = centred_column(j);
      x_norm2_[at(j)] = dot(x_[at(j)], x_[at(j)]);
    }
    for (const auto& [j, b] : problem_.start) {
      if (!problem_.excluded(j)) coef_[at(j)] = b;
    }
  }

  Fit fit(double lambda, bool want_prediction) {
    set_penalty(lambda);
    Index sweeps = 0;
    Status status = Status::kConverged;
    double gap = 0.0;
    if (problem_.negligible) {
      std::fill(coef_.begin(), coef_.end(), 0.0);
      residual();
    } else {
      status = solve(sweeps, gap);
    }

    SparseCoef coef;
    for (Index j = 0; j < p_; ++j) {
      if (coef_[at(j)] != 0) coef.emplace_back(j, coef_[at(j)]);
    }
    Fit out =
        finish_fit(columns_, problem_, lambda, coef, r_, gap, control_.tol(), want_prediction);
    if (status != Status::kConverged && out.status != Status::kNumericalBreakdown) {
      out.status = status;
    }
    out.engine = Engine::kReference;
    out.iterations = sweeps;
    out.rank_deficient = unpenalised_dependent_;
    if (!std::isfinite(gap)) std::fill(coef_.begin(), coef_.end(), 0.0);
    return out;
  }

 private:
  /// sum_i w_i u_i v_i over the rows that have weight: 0 * infinity must not appear elsewhere.
  Real dot(const std::vector<double>& u, const std::vector<double>& v) const {
    Real sum = 0;
    for (Index i : rows_) sum += Real(weight_[at(i)]) * u[at(i)] * v[at(i)];
    return sum;
  }

  Real mean(const std::vector<double>& u) const {
    Real sum = 0;
    for (Index i : rows_) sum += Real(weight_[at(i)]) * u[at(i)];
    return sum / weight_sum_;
  }

  /// x_j less its weighted mean, times 2^-exponent; zero if it is constant to rounding.
  std::vector<double> centred_column(Index j) const {
    std::vector<double> x(at(n_));
    for (Index i = 0; i < n_; ++i) {
      x[at(i)] = std::ldexp(element(columns_.source(), i, j), -columns_.exponent(j));
    }
    if (!problem_.intercept) return x;
    const Real m = mean(x);
    Real variance = 0;
    Real largest = 0;
    for (Index i : rows_) {
      const Real deviation = x[at(i)] - m;
      variance += weight_[at(i)] * deviation * deviation;
      largest = std::max(largest, std::fabs(Real(x[at(i)])));
    }
    const bool constant = std::sqrt(variance) <= Real(n_) * kEps * largest;
    for (double& value : x) value = constant ? 0.0 : static_cast<double>(value - m);
    return x;
  }

  /// a_j, e_j and an orthonormal basis (in the W inner product) of the unpenalised columns, by
  /// Gram-Schmidt done twice.
  void set_penalty(double lambda) {
    basis_.clear();
    unpenalised_dependent_ = false;
    for (Index j = 0; j < p_; ++j) {
      if (problem_.excluded(j)) continue;
      a_[at(j)] = problem_.a(j, lambda);
      e_[at(j)] = problem_.e(j, lambda);
      if (!unpenalised(j)) continue;
      std::vector<double> rest = x_[at(j)];
      project_off_basis(rest);
      const Real left = std::sqrt(dot(rest, rest));
      if (!(left > 8 * Real(n_) * kEps * std::sqrt(x_norm2_[at(j)]))) {
        unpenalised_dependent_ = true;
        continue;
      }
      for (double& value : rest) value = static_cast<double>(value / left);
      project_off_basis(rest);
      const Real norm = std::sqrt(dot(rest, rest));
      for (double& value : rest) value = static_cast<double>(value / norm);
      basis_.push_back(std::move(rest));
    }
  }

  bool unpenalised(Index j) const {
    return !problem_.excluded(j) && a_[at(j)] == 0 && e_[at(j)] == 0;
  }

  void project_off_basis(std::vector<double>& u) const {
    for (const std::vector<double>& v : basis_) {
      const Real share = dot(u, v);
      for (Index i : rows_) u[at(i)] = static_cast<double>(u[at(i)] - share * v[at(i)]);
    }
  }

  /// r = y - b0 - X b, b0 being the best intercept, on all rows.
  void residual() {
    std::vector<Real> r(problem_.y->value.begin(), problem_.y->value.end());
    for (Index j = 0; j < p_; ++j) {
      if (coef_[at(j)] == 0) continue;
      for (Index i = 0; i < n_; ++i) r[at(i)] -= Real(x_[at(j)][at(i)]) * coef_[at(j)];
    }
    Real m = 0;
    if (problem_.intercept) {
      for (Index i : rows_) m += weight_[at(i)] * r[at(i)];
      m /= weight_sum_;
    }
    r_.resize(at(n_));
    for (Index i = 0; i < n_; ++i) r_[at(i)] = static_cast<double>(r[at(i)] - m);
  }

  /// The relative gap at coef_ and r_:
  ///
  ///     gap(s) = 1/2 |r - q|^2 + (1-s)^2/2 |q|^2 + sum_j [a|b| + e b^2/2 - s b g + c_j(s)]
  ///
  /// at its minimum over s in [0, s1].
  double relative_gap() const {
    std::vector<double> q = r_;
    project_off_basis(q);
    project_off_basis(q);
    std::vector<double> removed(at(n_), 0.0);
    for (Index i : rows_) removed[at(i)] = r_[at(i)] - q[at(i)];
    const Real half_removed = dot(removed, removed) / 2;
    const Real half_q = dot(q, q) / 2;

    std::vector<Index> penalised;
    std::vector<Real> g(at(p_), 0);
    Real s1 = 1;
    for (Index j = 0; j < p_; ++j) {
      if (problem_.excluded(j) || unpenalised(j)) continue;
      penalised.push_back(j);
      g[at(j)] = dot(x_[at(j)], q);
      if (e_[at(j)] == 0 && g[at(j)] != 0) s1 = std::min(s1, a_[at(j)] / std::fabs(g[at(j)]));
    }
    auto excess = [&](Real s, Index j) {
      return std::max(s * std::fabs(g[at(j)]) - a_[at(j)], Real(0));
    };
    auto slope = [&](Real s) {
      Real sum = -(1 - s) * 2 * half_q;
      for (Index j : penalised) {
        sum -= coef_[at(j)] * g[at(j)];
        if (e_[at(j)] > 0) sum += std::fabs(g[at(j)]) * excess(s, j) / e_[at(j)];
      }
      return sum;
    };
    auto gap = [&](Real s) {
      Real sum = half_removed + (1 - s) * (1 - s) * half_q;
      for (Index j : penalised) {
        const Real b = coef_[at(j)];
        sum += a_[at(j)] * std::fabs(b) + e_[at(j)] * b * b / 2 - s * b * g[at(j)];
        if (e_[at(j)] > 0) sum += excess(s, j) * excess(s, j) / (2 * e_[at(j)]);
      }
      return sum;
    };

    Real s = s1;
    if (slope(s1) > 0) {
      Real low = 0;
      Real high = s1;
      for (int k = 0; k < 100; ++k) {
        s = (low + high) / 2;
        (slope(s) > 0 ? high : low) = s;
      }
    }
    return static_cast<double>(gap(s) / problem_.null_loss);
  }

  /// One round of coordinate descent: b_j = soft(x_j'W r + G_jj b_j, a_j) / (G_jj + e_j).
  void sweep() {
    const Real r_norm = std::sqrt(dot(r_, r_));
    for (Index j = 0; j < p_; ++j) {
      const Real curvature = x_norm2_[at(j)] + e_[at(j)];
      if (problem_.excluded(j) || !(curvature > 0)) {
        coef_[at(j)] = 0.0;
        continue;
      }
      const double old = coef_[at(j)];
      const Real g = dot(x_[at(j)], r_);
      // A feature does not enter on rounding noise alone.
      const Real noise = a_[at(j)] > 0 ? slack(j, r_norm) : Real(0);
      if (old == 0 && std::fabs(g) <= a_[at(j)] + noise) continue;
      const Real z = g + x_norm2_[at(j)] * old;
      const Real over = std::fabs(z) - a_[at(j)];
      // `over - over` is 0, and keeps a NaN a NaN.
      const Real next = over > 0 ? std::copysign(over, z) / curvature : over - over;
      coef_[at(j)] = static_cast<double>(next);
      const Real change = Real(coef_[at(j)]) - old;
      if (change == 0) continue;
      for (Index i = 0; i < n_; ++i) {
        r_[at(i)] = static_cast<double>(r_[at(i)] - x_[at(j)][at(i)] * change);
      }
    }
    residual();
  }

  /// The sign of the orthant in which feature j moves; a feature that joins at 0 has one already.
  Real side(Index j) const { return j == entrant_ ? entrant_side_ : sign(coef_[at(j)]); }

  /// Features that may move without leaving their orthant: the support, a feature that joins it,
  /// and all with a_j = 0.
  std::vector<Index> members() const {
    std::vector<Index> out;
    for (Index j = 0; j < p_; ++j) {
      if (problem_.excluded(j) || !(x_norm2_[at(j)] + e_[at(j)] > 0)) continue;
      if (side(j) != 0 || a_[at(j)] == 0) out.push_back(j);
    }
    return out;
  }

  /// Moves member k by t * step[k], up to the first sign change; that feature becomes 0. Returns
  /// the share of t that was walked.
  Real walk(const std::vector<Index>& members, const std::vector<Real>& step, Real t) {
    Index first = -1;
    for (std::size_t k = 0; k < members.size(); ++k) {
      const Index j = members[k];
      if (a_[at(j)] == 0 || side(j) * step[k] * t >= 0) continue;
      const Real limit = std::fabs(coef_[at(j)] / step[k]);
      if (limit <= std::fabs(t)) {
        t = std::copysign(limit, t);
        first = j;
      }
    }
    if (std::isinf(t)) return 0;
    for (std::size_t k = 0; k < members.size(); ++k) {
      coef_[at(members[k])] = static_cast<double>(coef_[at(members[k])] + t * step[k]);
    }
    if (first >= 0) coef_[at(first)] = 0.0;
    residual();
    return first >= 0 ? 0 : 1;
  }

  /// Keeps x_j'W x_k of all members: supports that follow one another differ little.
  void extend_gram(const std::vector<Index>& members) {
    if (gram_features_.size() > members.size() + kSpareProducts) {
      for (Index j : gram_features_) place_[at(j)] = -1;
      gram_features_.clear();
      gram_.clear();
    }
    for (Index j : members) {
      if (place_[at(j)] >= 0) continue;
      place_[at(j)] = static_cast<Index>(gram_features_.size());
      gram_features_.push_back(j);
      std::vector<Real>& row = gram_.emplace_back();
      for (Index k : gram_features_) row.push_back(dot(x_[at(j)], x_[at(k)]));
    }
  }

  Real gram(Index j, Index k) const {
    const auto [low, high] = std::minmax(place_[at(j)], place_[at(k)]);
    return gram_[at(high)][at(low)];
  }

  /// The minimum on the present support and signs: Newton steps on the quadratic
  ///
  ///     (G_AA + diag e_A) delta = h,   h = X_A'W r - a_A sign_A - e_A b_A,
  ///
  /// dropping the feature at the first sign change until a full step is possible.
  void solve_on_support() {
    std::vector<Index> active = members();
    extend_gram(active);
    std::vector<std::size_t> kept(active.size());
    for (std::size_t k = 0; k < kept.size(); ++k) kept[k] = k;

    while (!kept.empty()) {
      std::vector<Index> now;
      std::vector<std::vector<Real>> matrix;
      for (std::size_t k : kept) {
        now.push_back(active[k]);
        matrix.emplace_back();
        for (std::size_t m : kept) matrix.back().push_back(gram(active[k], active[m]));
        matrix.back()[now.size() - 1] += e_[at(active[k])];
      }
      const PivotedCholesky factor(matrix);
      bool full = true;
      if (factor.rank < now.size()) {
        full = false;
        const auto dependent = static_cast<std::size_t>(factor.order[factor.rank]);
        if (!slide(now, dependent, factor.null_direction(factor.rank))) {
          kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(dependent));
        }
      } else {
        // The later steps are iterative refinement: h comes from a fresh residual.
        for (int k = 0; k < 3 && full; ++k) full = walk(now, factor.solve(ascent(now)), 1) == 1;
      }
      if (full) return;
      std::erase_if(
          kept, [&](std::size_t k) { return a_[at(active[k])] > 0 && coef_[at(active[k])] == 0; });
    }
  }

  /// h, the negative slope of the objective within the orthant.
  std::vector<Real> ascent(const std::vector<Index>& members) const {
    std::vector<Real> h;
    for (Index j : members) {
      h.push_back(dot(x_[at(j)], r_) - a_[at(j)] * side(j) - e_[at(j)] * coef_[at(j)]);
    }
    return h;
  }

  /// Walks along a direction that leaves the fitted values alone, downhill, until a penalised
  /// feature reaches 0. Returns false if none can: the dependent feature is then held (at 0 if it
  /// is free of any penalty).
  bool slide(const std::vector<Index>& members, std::size_t dependent,
             std::vector<Real> direction) {
    Real largest = 0;
    for (Real d : direction) largest = std::max(largest, std::fabs(d));
    bool penalised = false;
    for (std::size_t k = 0; k < members.size(); ++k) {
      if (std::fabs(direction[k]) < 1e-10L * largest) direction[k] = 0;
      if (direction[k] != 0 && a_[at(members[k])] > 0) penalised = true;
    }
    if (penalised) {
      const std::vector<Real> h = ascent(members);
      Real downhill = 0;
      for (std::size_t k = 0; k < members.size(); ++k) downhill += h[k] * direction[k];
      const Real first = downhill >= 0 ? kInfinity : -kInfinity;
      return walk_to_zero(members, direction, first) || walk_to_zero(members, direction, -first);
    }
    const Index j = members[dependent];
    if (unpenalised(j)) {
      walk(members, direction, -Real(coef_[at(j)]));
      coef_[at(j)] = 0.0;
      residual();
    }
    return false;
  }

  bool walk_to_zero(const std::vector<Index>& members, const std::vector<Real>& direction, Real t) {
    for (std::size_t k = 0; k < members.size(); ++k) {
      const Index j = members[k];
      if (a_[at(j)] > 0 && direction[k] != 0 && side(j) * direction[k] * t < 0) {
        walk(members, direction, t);
        return true;
      }
    }
    return false;
  }

  std::vector<int> signs() const {
    std::vector<int> out;
    for (double b : coef_) out.push_back(static_cast<int>(sign(b)));
    return out;
  }

  Real objective() const {
    Real sum = dot(r_, r_) / 2;
    for (Index j = 0; j < p_; ++j) {
      if (coef_[at(j)] == 0) continue;
      const Real b = coef_[at(j)];
      sum += a_[at(j)] * std::fabs(b) + e_[at(j)] * b * b / 2;
    }
    return sum;
  }

  /// Rounding of x_j'W r.
  Real slack(Index j, Real r_norm) const {
    return Real(n_) * kEps * std::sqrt(x_norm2_[at(j)]) * r_norm;
  }

  /// The feature at 0 that breaks |g_j| <= a_j most, on columns of unit length, with the sign of
  /// its g_j; -1 if none does but by rounding. Those in `passed` do not count.
  Index worst_violator(const std::vector<bool>& passed, Real& side) const {
    const Real r_norm = std::sqrt(dot(r_, r_));
    Index worst = -1;
    Real most = 0;
    for (Index j = 0; j < p_; ++j) {
      if (problem_.excluded(j) || passed[at(j)] || coef_[at(j)] != 0 || a_[at(j)] == 0) continue;
      if (!(x_norm2_[at(j)] > 0)) continue;
      const Real g = dot(x_[at(j)], r_);
      const Real over = std::fabs(g) - a_[at(j)];
      if (over <= slack(j, r_norm) || over / std::sqrt(x_norm2_[at(j)]) <= most) continue;
      most = over / std::sqrt(x_norm2_[at(j)]);
      worst = j;
      side = g > 0 ? 1 : -1;
    }
    return worst;
  }

  /// The primal active-set method, for columns so close that sweeps crawl: the worst violator
  /// joins the support, which is solved exactly, and so on. Every support is left for a lower
  /// objective, so none comes back. Where rounding hides the fall of the objective, a feature joins
  /// only once; the smallest gap is kept.
  Status solve_by_joining(Index& sweeps, double& gap) {
    const double tol = control_.tol();
    const Real hidden = 4 * Real(kEps) * problem_.null_loss;
    std::vector<bool> passed(at(p_), false);
    Real lowest = objective();
    double best = gap;
    std::vector<double> best_coef = coef_;
    Status status = Status::kConverged;
    while (!(best <= tol)) {
      status = control_.interruption();
      if (status != Status::kConverged) break;
      status = Status::kPrecisionLimit;
      const Index joining = worst_violator(passed, entrant_side_);
      if (joining < 0) break;
      status = Status::kIterationLimit;
      if (sweeps == control_.max_iterations()) break;
      status = Status::kConverged;
      ++sweeps;
      const std::vector<double> before = coef_;
      entrant_ = joining;
      solve_on_support();
      entrant_ = -1;
      const Real now = objective();
      if (now < lowest - hidden) {
        passed.assign(at(p_), false);
      } else {
        passed[at(joining)] = true;
      }
      if (!(now <= lowest + hidden)) {
        coef_ = before;
        residual();
        continue;
      }
      lowest = std::min(lowest, now);
      gap = relative_gap();
      if (gap < best) {
        best = gap;
        best_coef = coef_;
      }
    }
    coef_ = best_coef;
    residual();
    gap = best;
    return status;
  }

  /// Sweeps until the support settles, solves on it exactly, and again, until the gap is small;
  /// features join one by one where that stalls.
  Status solve(Index& sweeps, double& gap) {
    const double tol = control_.tol();
    residual();
    if (members().size() <= rows_.size()) solve_on_support();
    gap = relative_gap();
    double best = gap;
    int stalled = 0;
    std::vector<int> last_signs = signs();
    while (!(gap <= tol)) {
      if (!std::isfinite(gap)) return Status::kNumericalBreakdown;
      const Status stop = control_.interruption();
      if (stop != Status::kConverged) return stop;
      if (sweeps == control_.max_iterations()) return Status::kIterationLimit;
      ++sweeps;
      sweep();
      gap = relative_gap();
      const std::vector<int> new_signs = signs();
      const bool settled = new_signs == last_signs || sweeps % kSweepsBetweenSolves == 0;
      last_signs = new_signs;
      if (!(gap > tol) || !settled || sweeps == control_.max_iterations()) continue;

      solve_on_support();
      gap = relative_gap();
      last_signs = signs();
      stalled = gap < best / 2 ? 0 : stalled + 1;
      best = std::min(best, gap);
      if (stalled == kPatience && gap > tol) return solve_by_joining(sweeps, gap);
    }
    return Status::kConverged;
  }

  const Columns& columns_;
  const Problem& problem_;
  const RunControl& control_;
  const std::vector<Index>& rows_;
  const std::vector<double>& weight_;
  const Index n_;
  const Index p_;
  Real weight_sum_ = 0;
  std::vector<std::vector<double>> x_;  // centred columns; empty where excluded
  std::vector<Real> x_norm2_;           // sum_i w_i x_ij^2 of them
  std::vector<double> coef_, r_;
  std::vector<Real> a_, e_;
  Index entrant_ = -1;  // joins the support at 0, with this sign
  Real entrant_side_ = 0;
  std::vector<Index> gram_features_;     // in the order of gram_
  std::vector<std::vector<Real>> gram_;  // lower triangle
  std::vector<Index> place_;             // (p) in gram_, -1: not there
  std::vector<std::vector<double>> basis_;
  bool unpenalised_dependent_ = false;
};

}  // namespace

void solve_reference(const Batch& batch, const ThreadPool& pool, RunControl& control,
                     FitSink& sink) {
  pool.run(static_cast<Index>(batch.problems.size()), [&](Index number, int) {
    const Problem& problem = batch.problems[at(number)];
    if (problem.lambda.empty()) return;
    ReferencePath path(batch.columns, problem, control);
    for (std::size_t l = 0; l < problem.lambda.size(); ++l) {
      Fit fit = path.fit(problem.lambda[l], batch.want_prediction);
      const bool stopped = fit.status == Status::kTimeLimit || fit.status == Status::kCancelled;
      control.count(1);
      if (!sink.take(number, static_cast<Index>(l), std::move(fit)) || stopped) return;
    }
  });
}

}  // namespace thresher

#include "engines/support_polish.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/blas.hpp"
#include "backend/simd.hpp"

namespace thresher {
namespace {

// A pivot below this share of its diagonal is rounding noise of a Gram matrix in double.
constexpr double kTinyPivot = 1e-12;

// Newton steps from a fresh residual; those after the first full one are iterative refinement.
constexpr int kMaxRounds = 8;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Lower Cholesky factor, column-major, that grows by one row and can lose any.
class GrowingCholesky {
 public:
  explicit GrowingCholesky(Index capacity)
      : capacity_(capacity), lower_(at(capacity * capacity)), row_(at(capacity)) {}

  Index size() const { return size_; }

  /// The pivot a new member would get, given its products with the present ones.
  double pivot(const double* cross, double diagonal) {
    std::copy_n(cross, size_, row_.data());
    for (Index i = 0; i < size_; ++i) {
      const double* column = lower_.data() + i * capacity_;
      row_.data()[i] /= column[i];
      simd().axpy(size_ - i - 1, -row_.data()[i], column + i + 1, row_.data() + i + 1);
    }
    return diagonal - simd().dot(size_, row_.data(), row_.data());
  }

  /// Takes the member last asked for.
  void append(double pivot) {
    for (Index i = 0; i < size_; ++i) lower_.data()[i * capacity_ + size_] = row_.data()[i];
    lower_.data()[size_ * capacity_ + size_] = std::sqrt(pivot);
    ++size_;
  }

  /// The combination of present members that the member last asked for is closest to.
  std::vector<double> combination() const {
    std::vector<double> c(row_.begin(), row_.begin() + size_);
    backward(c.data());
    return c;
  }

  void solve(double* h) const {
    for (Index i = 0; i < size_; ++i) {
      const double* column = lower_.data() + i * capacity_;
      h[i] /= column[i];
      simd().axpy(size_ - i - 1, -h[i], column + i + 1, h + i + 1);
    }
    backward(h);
  }

  /// Deletes member k: a rank-one update of what lies below it.
  void remove(Index k) {
    std::vector<double> x(lower_.begin() + k * capacity_ + k + 1,
                          lower_.begin() + k * capacity_ + size_);
    for (Index c = 0; c < k; ++c) {
      double* column = lower_.data() + c * capacity_;
      std::copy(column + k + 1, column + size_, column + k);
    }
    for (Index c = k + 1; c < size_; ++c) {
      const double* from = lower_.data() + c * capacity_;
      double* to = lower_.data() + (c - 1) * capacity_ + c - 1;
      const double share = x[at(c - k - 1)];
      const double root = std::hypot(from[c], share);
      const double cosine = root / from[c];
      const double sine = share / from[c];
      to[0] = root;
      for (Index i = c + 1; i < size_; ++i) {
        double& rest = x[at(i - k - 1)];
        const double value = (from[i] + sine * rest) / cosine;
        rest = cosine * rest - sine * value;
        to[i - c] = value;
      }
    }
    --size_;
  }

 private:
  void backward(double* y) const {
    for (Index i = size_ - 1; i >= 0; --i) {
      const double* column = lower_.data() + i * capacity_;
      y[i] = (y[i] - simd().dot(size_ - i - 1, column + i + 1, y + i + 1)) / column[i];
    }
  }

  Index capacity_;
  Index size_ = 0;
  std::vector<double> lower_;
  std::vector<double> row_;
};

/// The quadratic on one support. Members are numbered as they came; `basis_` lists those in the
/// factor, in its order.
class SupportQuadratic {
 public:
  SupportQuadratic(const Columns& columns, const Problem& problem, double lambda,
                   const std::vector<std::pair<Index, double>>& members)
      : size_(static_cast<Index>(members.size())),
        n_rows_(static_cast<Index>(problem.rows->rows.size())),
        x_(at(n_rows_ * size_)),
        y_(at(n_rows_)),
        residual_(at(n_rows_)),
        factor_(0) {
    const RowWeighting& rows = *problem.rows;
    std::vector<double> root;
    root.reserve(at(n_rows_));
    for (const Index i : rows.rows) root.push_back(std::sqrt(rows.weight[at(i)]));
    for (Index k = 0; k < n_rows_; ++k) {
      const Index i = rows.rows[at(k)];
      y_[at(k)] = root[at(k)] * (problem.y->value[at(i)] - problem.y_mean);
    }
    double* out = x_.data();
    for (const auto& [j, b] : members) {
      const double* column = rows.column(columns, j);
      const double mean = problem.intercept ? rows.column_mean(j) : 0.0;
      for (Index k = 0; k < n_rows_; ++k) {
        *out++ = root[at(k)] * (column[rows.rows[at(k)]] - mean);
      }
      a_.push_back(problem.a(j, lambda));
      e_.push_back(problem.e(j, lambda));
      b_.push_back(b);
      sign_.push_back(b > 0.0 ? 1.0 : b < 0.0 ? -1.0 : 0.0);
    }
    dual_ = size_ > n_rows_;
    for (Index k = 0; k < size_; ++k) dual_ = dual_ && a_[at(k)] == 0.0 && e_[at(k)] > 0.0;
    factor_ = GrowingCholesky(dual_ ? n_rows_ : size_);
    if (dual_) return;
    gram_.resize(at(size_ * size_));
    blas::syrk_lower(size_, n_rows_, 1.0, x_.data(), n_rows_, 0.0, gram_.data(), size_);
  }

  const std::vector<double>& coef() const { return b_; }
  bool dependent() const { return dependent_; }

  /// 1/2 |r|_w^2 + sum_j a|b| + e b^2/2.
  double objective() {
    update_residual();
    double sum = 0.5 * simd().dot(n_rows_, residual_.data(), residual_.data());
    for (Index k = 0; k < size_; ++k) {
      const double b = b_[at(k)];
      sum += a_[at(k)] * std::fabs(b) + 0.5 * e_[at(k)] * b * b;
    }
    return sum;
  }

  void minimise() {
    if (dual_) {
      solve_dual();
      return;
    }
    choose_basis();
    double last = std::numeric_limits<double>::infinity();
    for (int round = 0; round < kMaxRounds; ++round) {
      update_residual();
      std::vector<double> h;
      double size = 0.0;
      for (const Index k : basis_) {
        const double g = simd().dot(n_rows_, x_.data() + k * n_rows_, residual_.data());
        h.push_back(g - a_[at(k)] * sign_[at(k)] - e_[at(k)] * b_[at(k)]);
        size = std::max(size, std::fabs(h.back()) / std::sqrt(diagonal(k)));
      }
      // Refinement has reached rounding when h no longer falls.
      if (basis_.empty() || !(size < 0.5 * last)) return;
      last = size;
      if (newton(h)) last = std::numeric_limits<double>::infinity();
    }
  }

 private:
  double gram(Index i, Index k) const { return gram_[at(i >= k ? k * size_ + i : i * size_ + k)]; }
  double diagonal(Index k) const { return gram(k, k) + e_[at(k)]; }

  void update_residual() {
    residual_ = y_;
    for (Index k = 0; k < size_; ++k) {
      if (b_[at(k)] != 0.0) {
        simd().axpy(n_rows_, -b_[at(k)], x_.data() + k * n_rows_, residual_.data());
      }
    }
  }

  /// Ridge with fewer rows than features: b = E^-1 X' t with (I + X E^-1 X') t = y, refined once
  /// the factor is there.
  void solve_dual() {
    std::vector<double> scaled = x_;
    for (Index k = 0; k < size_; ++k) {
      const double scale = 1.0 / std::sqrt(e_[at(k)]);
      for (Index i = 0; i < n_rows_; ++i) scaled.data()[k * n_rows_ + i] *= scale;
    }
    std::vector<double> kernel(at(n_rows_ * n_rows_));
    blas::gemm(false, true, n_rows_, n_rows_, size_, 1.0, scaled.data(), n_rows_, scaled.data(),
               n_rows_, 0.0, kernel.data(), n_rows_);
    for (Index i = 0; i < n_rows_; ++i) {
      const double pivot =
          factor_.pivot(kernel.data() + i * n_rows_, 1.0 + kernel.data()[i * n_rows_ + i]);
      if (!(pivot > 0.0)) return;
      factor_.append(pivot);
    }
    std::vector<double> t(at(n_rows_), 0.0), step = y_, c(at(size_));
    for (int round = 0; round < 4; ++round) {
      factor_.solve(step.data());
      for (Index i = 0; i < n_rows_; ++i) t[at(i)] += step[at(i)];
      blas::gemv(true, n_rows_, size_, 1.0, scaled.data(), n_rows_, t.data(), 0.0, c.data());
      for (Index i = 0; i < n_rows_; ++i) step[at(i)] = y_[at(i)] - t[at(i)];
      blas::gemv(false, n_rows_, size_, -1.0, scaled.data(), n_rows_, c.data(), 1.0, step.data());
    }
    for (Index k = 0; k < size_; ++k) b_[at(k)] = c[at(k)] / std::sqrt(e_[at(k)]);
  }

  /// Largest contributions first, unsigned members before all others: what depends on them leaves.
  void choose_basis() {
    std::vector<Index> order(at(size_));
    std::iota(order.begin(), order.end(), Index{0});
    const auto rank = [&](Index k) { return std::fabs(b_[at(k)]) * std::sqrt(gram(k, k)); };
    std::stable_sort(order.begin(), order.end(), [&](Index i, Index k) {
      const bool free_i = a_[at(i)] == 0.0, free_k = a_[at(k)] == 0.0;
      return free_i != free_k ? free_i : rank(i) > rank(k);
    });
    std::vector<double> cross(at(size_));
    for (const Index k : order) {
      if (!(diagonal(k) > 0.0)) continue;
      // Every turn but the last drops a member, so this ends.
      for (bool settled = false; !settled;) {
        for (std::size_t i = 0; i < basis_.size(); ++i) cross[i] = gram(k, basis_[i]);
        const double pivot = factor_.pivot(cross.data(), diagonal(k));
        if (pivot > kTinyPivot * diagonal(k)) {
          factor_.append(pivot);
          basis_.push_back(k);
          settled = true;
        } else {
          settled = slide(k);
        }
      }
    }
  }

  /// Moves along the null direction of member k, which depends on the basis. Returns true when k
  /// is at 0 and stays out, false when a member of the basis left instead.
  bool slide(Index k) {
    const std::vector<double> c = factor_.combination();
    if (a_[at(k)] == 0.0) {
      if (e_[at(k)] == 0.0) dependent_ = true;
      for (std::size_t i = 0; i < basis_.size(); ++i) b_[at(basis_[i])] += c[i] * b_[at(k)];
      b_[at(k)] = 0.0;
      return true;
    }
    double slope = a_[at(k)] * sign_[at(k)], size = a_[at(k)];
    for (std::size_t i = 0; i < basis_.size(); ++i) {
      const double a = a_[at(basis_[i])];
      slope -= a * sign_[at(basis_[i])] * c[i];
      size += a * std::fabs(c[i]);
    }
    // b_k += t, b_i -= t c_i; equal columns have slope 0 and k gives way.
    const double direction =
        std::fabs(slope) <= 1e-9 * size ? -sign_[at(k)] : (slope > 0.0 ? -1.0 : 1.0);
    double t = std::numeric_limits<double>::infinity();
    Index first = -1;
    if (direction * sign_[at(k)] < 0.0) t = std::fabs(b_[at(k)]);
    for (std::size_t i = 0; i < basis_.size(); ++i) {
      const Index m = basis_[i];
      if (a_[at(m)] == 0.0 || !(-direction * c[i] * sign_[at(m)] < 0.0)) continue;
      const double limit = std::fabs(b_[at(m)] / c[i]);
      if (limit < t) {
        t = limit;
        first = static_cast<Index>(i);
      }
    }
    if (std::isinf(t)) t = 0.0;
    b_[at(k)] += direction * t;
    for (std::size_t i = 0; i < basis_.size(); ++i) b_[at(basis_[i])] -= direction * t * c[i];
    if (first < 0) {
      b_[at(k)] = 0.0;
      return true;
    }
    drop(first);
    return false;
  }

  void drop(Index position) {
    b_[at(basis_[at(position)])] = 0.0;
    factor_.remove(position);
    basis_.erase(basis_.begin() + position);
  }

  /// Walks Newton steps until a full one. After a step of length t, h on what is left becomes
  /// (1 - t) h. Returns true if a member was dropped.
  bool newton(std::vector<double>& h) {
    bool dropped = false;
    while (!basis_.empty()) {
      std::vector<double> delta = h;
      factor_.solve(delta.data());
      double t = 1.0;
      Index first = -1;
      for (std::size_t i = 0; i < basis_.size(); ++i) {
        const Index m = basis_[i];
        if (a_[at(m)] == 0.0) continue;
        if (!(sign_[at(m)] * (b_[at(m)] + delta[i]) > 0.0)) {
          const double limit = std::fabs(b_[at(m)] / delta[i]);
          if (limit <= t) {
            t = limit;
            first = static_cast<Index>(i);
          }
        }
      }
      for (std::size_t i = 0; i < basis_.size(); ++i) b_[at(basis_[i])] += t * delta[i];
      if (first < 0) return dropped;
      dropped = true;
      drop(first);
      h.erase(h.begin() + first);
      for (double& value : h) value *= 1.0 - t;
    }
    return dropped;
  }

  Index size_;
  Index n_rows_;
  std::vector<double> x_;  // (n_rows, size) sqrt(w) (x - mean)
  std::vector<double> y_, residual_;
  std::vector<double> gram_;  // lower triangle
  std::vector<double> a_, e_, b_, sign_;
  GrowingCholesky factor_;
  std::vector<Index> basis_;
  bool dual_ = false;
  bool dependent_ = false;
};

}  // namespace

Polish polish_support(const Columns& columns, const Problem& problem, double lambda,
                      const std::vector<Index>& unsigned_features, SparseCoef& coef) {
  SparseCoef members = coef;
  for (const Index j : unsigned_features) {
    const auto place = std::lower_bound(coef.begin(), coef.end(), j,
                                        [](const auto& entry, Index f) { return entry.first < f; });
    if (place == coef.end() || place->first != j) members.emplace_back(j, 0.0);
  }
  std::sort(members.begin(), members.end());

  Polish out;
  if (members.empty()) return out;
  SupportQuadratic quadratic(columns, problem, lambda, members);
  const double before = quadratic.objective();
  quadratic.minimise();
  out.objective = quadratic.objective();
  out.dependent = quadratic.dependent();
  const double slack = 4.0 * std::numeric_limits<double>::epsilon() * before;
  out.improved = std::isfinite(out.objective) && out.objective <= before + slack;
  if (!out.improved) {
    out.objective = before;
    return out;
  }
  coef.clear();
  for (std::size_t k = 0; k < members.size(); ++k) {
    if (quadratic.coef()[k] != 0.0) coef.emplace_back(members[k].first, quadratic.coef()[k]);
  }
  return out;
}

}  // namespace thresher

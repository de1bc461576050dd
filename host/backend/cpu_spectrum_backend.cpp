#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/blas.hpp"
#include "backend/lanczos.hpp"
#include "backend/simd.hpp"
#include "backend/spectrum_backend.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kUnit = 0.5 * std::numeric_limits<double>::epsilon();  // one rounding

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::size_t product(Index a, Index b) {
  Index size = 0;
  if (__builtin_mul_overflow(a, b, &size) || size > (Index{1} << 58)) {
    throw Error(Errc::kOutOfMemory, "ridge: matrix must fit the address space, got " +
                                        std::to_string(a) + " x " + std::to_string(b));
  }
  return at(size);
}

double sum_squares(Index n, const double* x) { return simd().dot(n, x, x); }

/// sum_i s_i t_i^2 in eight sums, so that additions need not wait for each other.
double weighted_squares(Index n, const double* s, const double* t) {
  constexpr Index kLanes = 8;
  double sums[kLanes] = {};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (Index l = 0; l < kLanes; ++l) sums[l] += s[i + l] * (t[i + l] * t[i + l]);
  }
  for (; i < n; ++i) sums[0] += s[i] * (t[i] * t[i]);
  double sum = 0.0;
  for (const double part : sums) sum += part;
  return sum;
}

/// G (p, p) = A'A + diag(delta), both triangles.
void column_gram(const RidgeSystem& s, double* G) {
  blas::syrk_lower(s.p, s.m, 1.0, s.A.data(), s.m, 0.0, G, s.p);
  if (!s.delta.empty()) {
    for (Index j = 0; j < s.p; ++j) G[j * s.p + j] += s.delta[at(j)];
  }
  blas::mirror_lower(s.p, G, s.p);
}

class CpuSpectrum : public Spectrum {
 public:
  CpuSpectrum(RidgeSystem&& system, bool want_map) : system_(std::move(system)) {
    const Index m = system_.m, p = system_.p;
    row_space_ = system_.delta.empty() && m < p;
    k_ = row_space_ ? m : p;
    values_.resize(at(k_));
    const bool given = !system_.K.empty();
    std::vector<double> gram = std::move(system_.K);
    if (!given) {
      gram.resize(product(k_, k_));
      if (row_space_) {
        blas::syrk_rows_lower(m, p, 1.0, system_.A.data(), m, 0.0, gram.data(), m);
        blas::mirror_lower(m, gram.data(), m);
      } else {
        column_gram(system_, gram.data());
      }
    }
    U_ = gram;
    converged_ = blas::symmetric_eigen(k_, U_.data(), k_, values_.data());
    if (!converged_) return;

    const double top = k_ > 0 ? std::max(std::fabs(values_.front()), std::fabs(values_.back())) : 0;
    cutoff_ = static_cast<double>(std::max(m, p)) * 2.0 * kUnit * top;
    for (double& s : values_) s = std::max(s, 0.0);  // a Gram matrix has no others

    const auto E = std::make_unique_for_overwrite<double[]>(U_.size());
    for (Index i = 0; i < k_; ++i) {
      for (Index l = 0; l < k_; ++l) E[at(i * k_ + l)] = U_[at(i * k_ + l)] * values_[at(i)];
    }
    double trace = 0.0;
    for (Index i = 0; i < k_; ++i) trace += gram[at(i * k_ + i)];
    const double frobenius = std::sqrt(sum_squares(k_ * k_, gram.data()));
    blas::gemm(false, false, k_, k_, k_, 1.0, gram.data(), k_, U_.data(), k_, -1.0, E.get(), k_);
    // |fl(K) - K| <= inner u |A||A'|, whose Frobenius norm is at most the trace; then the product
    // with U: k u | |K||U| |_F <= k sqrt(k) u |K|_F. Roundings of A's entries, a few of each, are
    // among the 16.
    const double inner = static_cast<double>((row_space_ ? p : m) + 16);
    const double k = static_cast<double>(k_ + 2);
    defect_ = std::sqrt(sum_squares(k_ * k_, E.get())) +
              (given ? system_.K_error : kUnit * inner * trace) +
              kUnit * k * std::sqrt(k) * frobenius;
    if (!row_space_ && !given) norm_ = std::sqrt(sum_squares(m * p, system_.A.data()));
    if (row_space_ && want_map) {
      map_.resize(product(p, k_));
      blas::gemm(true, false, p, k_, m, 1.0, system_.A.data(), m, U_.data(), k_, 0.0, map_.data(),
                 p);
    }
  }

  bool converged() const { return converged_; }
  bool row_space() const override { return row_space_; }
  bool has_delta() const override { return !system_.delta.empty(); }
  Index size() const override { return k_; }
  const std::vector<double>& values() const override { return values_; }
  double cutoff() const override { return cutoff_; }
  double defect() const override { return defect_; }

  void rotate(Index count, const double* Y, double* Z, double* defects) const override {
    const Index m = system_.m, p = system_.p;
    std::vector<double> c;
    if (row_space_ || system_.A.empty()) {
      c.assign(Y, Y + k_ * count);
    } else {
      c.resize(product(p, count));
      blas::gemm(true, false, p, count, m, 1.0, system_.A.data(), m, Y, m, 0.0, c.data(), p);
    }
    blas::gemm(true, false, k_, count, k_, 1.0, U_.data(), k_, c.data(), k_, 0.0, Z, k_);
    blas::gemm(false, false, k_, count, k_, -1.0, U_.data(), k_, Z, k_, 1.0, c.data(), k_);
    const double k = static_cast<double>(k_ + 2);
    for (Index r = 0; r < count; ++r) {
      defects[r] = std::sqrt(sum_squares(k_, c.data() + r * k_)) +
                   kUnit * k * std::sqrt(k) * std::sqrt(sum_squares(k_, Z + r * k_));
      if (row_space_ || system_.A.empty()) continue;
      defects[r] +=
          kUnit * static_cast<double>(m + 16) * norm_ * std::sqrt(sum_squares(m, Y + r * m));
    }
  }

  void shrink(const std::vector<SpectrumColumn>& columns, const double* Z, double* T,
              ShrunkSums* sums) const override {
    const double* s = values_.data();
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const double* z = Z + columns[c].response * k_;
      double* t = T + static_cast<Index>(c) * k_;
      const double lambda = columns[c].lambda;
      if (lambda > 0.0) {
        for (Index i = 0; i < k_; ++i) t[i] = z[i] / (s[i] + lambda);
      } else {
        for (Index i = 0; i < k_; ++i) t[i] = s[i] > cutoff_ ? z[i] / s[i] : 0.0;
      }
      sums[c] = {simd().dot(k_, t, t), weighted_squares(k_, s, t), simd().dot(k_, z, t),
                 simd().dot(k_, z, z)};
    }
  }

  void map_rows(Index h, const double* H, double* HM) const override {
    const Index m = system_.m, p = system_.p;
    if (h == 0) return;
    if (!row_space_) {
      blas::gemm(false, false, h, k_, p, 1.0, H, h, U_.data(), k_, 0.0, HM, h);
      return;
    }
    std::vector<double> inner;
    if (!system_.A.empty()) {
      inner.resize(product(h, m));
      blas::gemm(false, true, h, m, p, 1.0, H, h, system_.A.data(), m, 0.0, inner.data(), h);
      H = inner.data();
    }
    blas::gemm(false, false, h, k_, m, 1.0, H, h, U_.data(), k_, 0.0, HM, h);
  }

  void predict(Index h, Index size, const double* HM, Index count, const double* T,
               double* out) const override {
    blas::gemm(false, false, h, count, size, 1.0, HM, h, T, size, 0.0, out, h);
  }

  void predict_from(Index h, const double* H, Index count, const double* beta,
                    double* out) const override {
    blas::gemm(false, false, h, count, system_.p, 1.0, H, h, beta, system_.p, 0.0, out, h);
  }

  void coefficients(Index count, const double* T, double* beta) const override {
    map(count, T, 0.0, beta);
  }

  void refine(const std::vector<SpectrumColumn>& columns, const double* Y, double* T, double* beta,
              RidgeMeasure* measures) const override {
    const Index m = system_.m, p = system_.p, count = static_cast<Index>(columns.size());
    std::vector<double> r(product(m, count));
    for (Index c = 0; c < count; ++c) {
      const double* y = Y + columns[at(c)].response * m;
      std::copy(y, y + m, r.data() + c * m);
    }
    blas::gemm(false, false, m, count, p, -1.0, system_.A.data(), m, beta, p, 1.0, r.data(), m);
    std::vector<double> gradient;  // column space: A'r - (lambda + delta) beta
    if (!row_space_) {
      gradient.resize(product(p, count));
      blas::gemm(true, false, p, count, m, 1.0, system_.A.data(), m, r.data(), m, 0.0,
                 gradient.data(), p);
    }
    std::vector<double> rho(product(k_, count));
    for (Index c = 0; c < count; ++c) {
      const double lambda = columns[at(c)].lambda;
      RidgeMeasure& out = measures[c];
      out = {0.0, sum_squares(m, r.data() + c * m), 0.0};
      for (Index j = 0; j < p; ++j) {
        const double e = lambda + (system_.delta.empty() ? 0.0 : system_.delta[at(j)]);
        const double b = beta[c * p + j];
        out.penalty += 0.5 * e * b * b;
        if (row_space_) continue;
        double& g = gradient[at(c * p + j)];
        g -= e * b;
        if (lambda > 0.0) out.gap += g * g / (2.0 * e);
      }
    }
    const std::vector<double>& source = row_space_ ? r : gradient;
    blas::gemm(true, false, k_, count, k_, 1.0, U_.data(), k_, source.data(), k_, 0.0, rho.data(),
               k_);
    for (Index c = 0; c < count; ++c) {
      const double lambda = columns[at(c)].lambda;
      double* t = T + c * k_;
      double* d = rho.data() + c * k_;
      double squares = 0.0;
      for (Index i = 0; i < k_; ++i) {
        const double s = values_[at(i)];
        if (lambda > 0.0) {
          if (row_space_) {
            d[i] -= lambda * t[i];  // U'(r - lambda alpha), alpha = U t
            squares += d[i] * d[i];
          }
          d[i] /= s + lambda;
        } else if (s > cutoff_) {
          // P(beta) - min P = 1/2 rho' (its Hessian)^-1 rho on the directions in use.
          squares += row_space_ ? d[i] * d[i] : d[i] * d[i] / s;
          d[i] /= s;
        } else {
          d[i] = 0.0;
        }
      }
      if (lambda > 0.0) {
        // Dual points lambda alpha and r: gaps 1/2 |rho|^2 and rho' A A' rho / (2 lambda).
        if (row_space_) {
          measures[c].gap = 0.5 * squares * std::min(1.0, (values_.back() + defect_) / lambda);
        }
      } else {
        measures[c].gap = 0.5 * squares;
      }
      for (Index i = 0; i < k_; ++i) t[i] += d[i];
    }
    map(count, rho.data(), 1.0, beta);
  }

  void sample_vectors(double* S) const override {
    const Index m = system_.m;
    if (row_space_) {
      std::copy(U_.begin(), U_.end(), S);
    } else {
      blas::gemm(false, false, m, k_, system_.p, 1.0, system_.A.data(), m, U_.data(), k_, 0.0, S,
                 m);
    }
  }

 private:
  /// out (p, count) = M T + beta out.
  void map(Index count, const double* T, double beta, double* out) const {
    const Index m = system_.m, p = system_.p;
    if (!row_space_) {
      blas::gemm(false, false, p, count, k_, 1.0, U_.data(), k_, T, k_, beta, out, p);
    } else if (system_.A.empty()) {
      blas::gemm(false, false, m, count, k_, 1.0, U_.data(), k_, T, k_, beta, out, m);
    } else if (!map_.empty()) {
      blas::gemm(false, false, p, count, k_, 1.0, map_.data(), p, T, k_, beta, out, p);
    } else {
      std::vector<double> alpha(product(m, count));
      blas::gemm(false, false, m, count, k_, 1.0, U_.data(), k_, T, k_, 0.0, alpha.data(), m);
      blas::gemm(true, false, p, count, m, 1.0, system_.A.data(), m, alpha.data(), m, beta, out, p);
    }
  }

  RidgeSystem system_;
  bool row_space_ = false;
  bool converged_ = false;
  Index k_ = 0;
  std::vector<double> U_;  // (k, k)
  std::vector<double> values_;
  std::vector<double> map_;  // (p, k) A'U, or empty
  double cutoff_ = 0.0;
  double defect_ = 0.0;
  double norm_ = 0.0;  // |A|_F in column space
};

class CpuSpectrumBackend : public SpectrumBackend {
 public:
  std::unique_ptr<Spectrum> decompose(RidgeSystem&& system, bool want_map) const override {
    auto out = std::make_unique<CpuSpectrum>(std::move(system), want_map);
    if (!out->converged()) return nullptr;
    return out;
  }

  bool takes_products() const override { return true; }

  void residuals(Index n, Index p, const double* X, Index count, const double* B,
                 double* R) const override {
    if (count == 1) {
      blas::gemv(false, n, p, -1.0, X, n, B, 1.0, R);
    } else {
      blas::gemm(false, false, n, count, p, -1.0, X, n, B, p, 1.0, R, n);
    }
  }

  void correlate(Index n, Index p, const double* X, Index count, const double* Z,
                 double* G) const override {
    if (count == 1) {
      blas::gemv(true, n, p, 1.0, X, n, Z, 0.0, G);
    } else {
      blas::gemm(true, false, p, count, n, 1.0, X, n, Z, n, 0.0, G, p);
    }
  }

  double top_eigenvalue(const RidgeSystem& s) const override {
    if (s.m == 0 || s.p == 0) return 0.0;
    const bool rows = s.m < s.p;
    std::vector<double> other(at(std::max(s.m, s.p)));
    return lanczos_top_eigenvalue(
        std::min(s.m, s.p),
        [&](const double* v, double* next) {
          blas::gemv(rows, s.m, s.p, 1.0, s.A.data(), s.m, v, 0.0, other.data());
          blas::gemv(!rows, s.m, s.p, 1.0, s.A.data(), s.m, other.data(), 0.0, next);
        },
        [](Index size, double* T, double* w) { return blas::symmetric_eigen(size, T, size, w); });
  }
};

}  // namespace

const SpectrumBackend& cpu_spectrum_backend() {
  static const CpuSpectrumBackend backend;
  return backend;
}

}  // namespace thresher

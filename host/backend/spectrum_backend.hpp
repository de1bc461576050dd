#pragma once

#include <memory>
#include <vector>

#include "thresher/views.hpp"

namespace thresher {

/// One ridge system, unknown beta for every pair of a response and a lambda:
///
///     1/2 |y - A beta|^2 + 1/2 sum_j (lambda + delta_j) beta_j^2
///
/// Shapes   A (m, p) column-major; delta (p), or empty for all 0.
/// K        A A' (m, m) for m < p, else A'A (p, p), off by at most K_error in the Frobenius norm:
///          for no delta and a backend that takes products. In the place of A, so that nothing can
///          be asked that needs it: predict_from, refine and, for m >= p, sample_vectors.
struct RidgeSystem {
  Index m = 0;
  Index p = 0;
  std::vector<double> A;
  std::vector<double> delta;
  std::vector<double> K;
  double K_error = 0.0;
};

/// What each column of a batch solves for: a response's number and a lambda >= 0.
struct SpectrumColumn {
  Index response;
  double lambda;
};

/// Sums over the k entries of one column t of shrunken coordinates, z being the rotated response.
struct ShrunkSums {
  double tt = 0.0;   ///< sum t_i^2
  double stt = 0.0;  ///< sum s_i t_i^2
  double zt = 0.0;   ///< sum z_i t_i
  double zz = 0.0;   ///< sum z_i^2
};

/// What refine() found for one column before it changed anything.
struct RidgeMeasure {
  double gap = 0.0;       ///< P(beta) minus its minimum is at most this
  double residual = 0.0;  ///< |y - A beta|^2
  double penalty = 0.0;   ///< 1/2 sum_j (lambda + delta_j) beta_j^2
};

/// A decomposed system, held by the backend. k eigenpairs (s_i, u_i) of A A' (row space) or of
/// A'A + diag(delta) (column space). beta = M t with M = A'U or U, and t = z / (s + lambda), where
/// z = U'y or U'A'y. At lambda = 0 directions with s_i <= cutoff() are left out.
/// Every verb may be called from several threads at once; operands are host arrays, column-major,
/// without gaps.
class Spectrum {
 public:
  virtual ~Spectrum() = default;

  virtual bool row_space() const = 0;
  virtual bool has_delta() const = 0;
  virtual Index size() const = 0;                         ///< k
  virtual const std::vector<double>& values() const = 0;  ///< s (k), ascending
  virtual double cutoff() const = 0;                      ///< max(m, p) eps max |s|
  /// At least |A A'U - U S|_F (row space) or |(A'A + diag(delta)) U - U S|_F; the rounding of its
  /// own computation included.
  virtual double defect() const = 0;

  /// Z (k, count) = z of every response, and defects[r] >= |y - U z| or |A'y - U z|. Of a system
  /// without A and m >= p: for A'Y (p, count) in the place of Y.
  virtual void rotate(Index count, const double* Y, double* Z, double* defects) const = 0;

  /// T (k, count) and the sums of its columns. Z as rotate() gave it.
  virtual void shrink(const std::vector<SpectrumColumn>& columns, const double* Z, double* T,
                      ShrunkSums* sums) const = 0;

  /// HM (h, k) = H M for rows H (h, p): the spectral face of rows that are to be predicted. Of a
  /// system without A: for products H A' (h, m) in the place of H.
  virtual void map_rows(Index h, const double* H, double* HM) const = 0;

  /// out (h, count) = HM T for some directions one after another: HM (h, size), T (size, count).
  virtual void predict(Index h, Index size, const double* HM, Index count, const double* T,
                       double* out) const = 0;

  /// out (h, count) = H beta.
  virtual void predict_from(Index h, const double* H, Index count, const double* beta,
                            double* out) const = 0;

  /// beta (p, count) = M T. Of a system without A: U T (m, count) in the place of beta.
  virtual void coefficients(Index count, const double* T, double* beta) const = 0;

  /// Measures every column by residuals against A in double, then takes one step of iterative
  /// refinement on T and beta. Y (m, n_responses), T (k, count), beta (p, count).
  virtual void refine(const std::vector<SpectrumColumn>& columns, const double* Y, double* T,
                      double* beta, RidgeMeasure* measures) const = 0;

  /// S (m, k): U in row space, A U in column space; A beta = S (s t) or S t.
  virtual void sample_vectors(double* S) const = 0;
};

/// The steps of the ridge engine that touch matrices. host/engines/ridge_spectrum.cpp is written
/// against these verbs alone, so that they can also run elsewhere. A matrix X at one address has
/// the same values whenever it comes again: a backend may keep it.
class SpectrumBackend {
 public:
  virtual ~SpectrumBackend() = default;

  /// Decomposes the smaller side, the column side if there is a delta. With `want_map` M is formed
  /// once, which pays when many columns of coefficients follow. Null if the eigensolver failed.
  virtual std::unique_ptr<Spectrum> decompose(RidgeSystem&& system, bool want_map) const = 0;

  /// Whether decompose() takes K in the place of A.
  virtual bool takes_products() const { return false; }

  /// R (n, count) = Y - X B, X (n, p), B (p, count); R holds Y on entry.
  virtual void residuals(Index n, Index p, const double* X, Index count, const double* B,
                         double* R) const = 0;

  /// G (p, count) = X' Z, Z (n, count).
  virtual void correlate(Index n, Index p, const double* X, Index count, const double* Z,
                         double* G) const = 0;

  /// Largest eigenvalue of A A' to about 1e-10 of itself; the same bits every time.
  virtual double top_eigenvalue(const RidgeSystem& system) const = 0;
};

const SpectrumBackend& cpu_spectrum_backend();

}  // namespace thresher

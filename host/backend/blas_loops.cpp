#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/blas.hpp"

namespace thresher::blas {
namespace {

// Block sizes: a packed block of A (kRows x kInner doubles, 128 KB) stays in L2. Untuned beyond
// that; this build is for machines without OpenBLAS.
constexpr Index kRows = 64;
constexpr Index kInner = 256;
constexpr Index kTileRows = 8;
constexpr Index kTileCols = 4;

template <class T>
T entry(bool trans, const T* a, Index lda, Index i, Index j) {
  return trans ? a[i * lda + j] : a[j * lda + i];
}

/// C (m, n) = beta C, then += alpha op(A) op(B) in fixed blocks: the order of every sum depends on
/// k alone. Blocks above the diagonal are skipped if `lower`.
template <class T>
void multiply(bool trans_a, bool trans_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
              const T* b, Index ldb, T beta, T* c, Index ldc, bool lower) {
  for (Index j = 0; j < n; ++j) {
    for (Index i = lower ? j : 0; i < m; ++i) {
      c[j * ldc + i] = beta == T(0) ? T(0) : beta * c[j * ldc + i];
    }
  }
  std::vector<T> pack_a(static_cast<std::size_t>(kRows * kInner));
  std::vector<T> pack_b(static_cast<std::size_t>(kInner * kTileCols));
  for (Index l0 = 0; l0 < k; l0 += kInner) {
    const Index depth = std::min(kInner, k - l0);
    for (Index i0 = 0; i0 < m; i0 += kRows) {
      const Index height = std::min(kRows, m - i0);
      for (Index t = 0; t < height; t += kTileRows) {
        T* out = pack_a.data() + t * depth;
        for (Index l = 0; l < depth; ++l) {
          for (Index r = 0; r < kTileRows; ++r) {
            *out++ = t + r < height ? entry(trans_a, a, lda, i0 + t + r, l0 + l) : T(0);
          }
        }
      }
      for (Index j0 = 0; j0 < n; j0 += kTileCols) {
        if (lower && i0 + height <= j0) break;
        const Index width = std::min(kTileCols, n - j0);
        T* out = pack_b.data();
        for (Index l = 0; l < depth; ++l) {
          for (Index q = 0; q < kTileCols; ++q) {
            *out++ = q < width ? entry(trans_b, b, ldb, l0 + l, j0 + q) : T(0);
          }
        }
        for (Index t = 0; t < height; t += kTileRows) {
          T sum[kTileCols][kTileRows] = {};
          const T* pa = pack_a.data() + t * depth;
          const T* pb = pack_b.data();
          for (Index l = 0; l < depth; ++l, pa += kTileRows, pb += kTileCols) {
            for (Index q = 0; q < kTileCols; ++q) {
              for (Index r = 0; r < kTileRows; ++r) sum[q][r] += pa[r] * pb[q];
            }
          }
          for (Index q = 0; q < width; ++q) {
            for (Index r = 0; r < kTileRows && t + r < height; ++r) {
              const Index i = i0 + t + r, j = j0 + q;
              if (!lower || i >= j) c[j * ldc + i] += alpha * sum[q][r];
            }
          }
        }
      }
    }
  }
}

/// Householder reduction of the symmetric A (lower triangle) to tridiagonal form, A becoming the
/// orthogonal matrix, row-oriented as in Martin, Reinsch & Wilkinson (1968), tred2. diag and off
/// get the tridiagonal matrix; off[i] couples i - 1 and i.
void tridiagonalise(Index n, double* z, Index ld, double* diag, double* off) {
  const auto at = [z, ld](Index i, Index j) -> double& { return z[j * ld + i]; };
  for (Index i = n - 1; i > 0; --i) {
    double h = 0.0, scale = 0.0;
    for (Index k = 0; k < i; ++k) scale += std::fabs(at(i, k));
    if (i == 1 || scale == 0.0) {
      off[i] = at(i, i - 1);
    } else {
      for (Index k = 0; k < i; ++k) {
        at(i, k) /= scale;
        h += at(i, k) * at(i, k);
      }
      const double f = at(i, i - 1);
      const double g = f >= 0.0 ? -std::sqrt(h) : std::sqrt(h);
      off[i] = scale * g;
      h -= f * g;
      at(i, i - 1) = f - g;
      double sum = 0.0;
      for (Index j = 0; j < i; ++j) {
        at(j, i) = at(i, j) / h;
        double dot = 0.0;
        for (Index k = 0; k <= j; ++k) dot += at(j, k) * at(i, k);
        for (Index k = j + 1; k < i; ++k) dot += at(k, j) * at(i, k);
        off[j] = dot / h;
        sum += off[j] * at(i, j);
      }
      const double half = sum / (h + h);
      for (Index j = 0; j < i; ++j) {
        const double v = at(i, j);
        off[j] -= half * v;
        for (Index k = 0; k <= j; ++k) at(j, k) -= v * off[k] + off[j] * at(i, k);
      }
    }
    diag[i] = h;
  }
  diag[0] = 0.0;
  off[0] = 0.0;
  for (Index i = 0; i < n; ++i) {
    if (diag[i] != 0.0) {
      for (Index j = 0; j < i; ++j) {
        double dot = 0.0;
        for (Index k = 0; k < i; ++k) dot += at(i, k) * at(k, j);
        for (Index k = 0; k < i; ++k) at(k, j) -= dot * at(k, i);
      }
    }
    diag[i] = at(i, i);
    at(i, i) = 1.0;
    for (Index j = 0; j < i; ++j) at(j, i) = at(i, j) = 0.0;
  }
}

/// Implicit QL on the tridiagonal matrix, rotations applied to the columns of z
/// (Bowdler, Martin, Reinsch & Wilkinson 1968, tql2).
bool implicit_ql(Index n, double* z, Index ld, double* diag, double* off) {
  for (Index i = 1; i < n; ++i) off[i - 1] = off[i];
  off[n - 1] = 0.0;
  for (Index l = 0; l < n; ++l) {
    for (int sweep = 0;; ++sweep) {
      Index m = l;
      for (; m < n - 1; ++m) {
        const double size = std::fabs(diag[m]) + std::fabs(diag[m + 1]);
        if (std::fabs(off[m]) <= std::numeric_limits<double>::epsilon() * size) break;
      }
      if (m == l) break;
      if (sweep == 60) return false;
      double g = (diag[l + 1] - diag[l]) / (2.0 * off[l]);
      double r = std::hypot(g, 1.0);
      g = diag[m] - diag[l] + off[l] / (g + std::copysign(r, g));
      double s = 1.0, c = 1.0, p = 0.0;
      Index i = m - 1;
      for (; i >= l; --i) {
        const double f = s * off[i], b = c * off[i];
        r = std::hypot(f, g);
        off[i + 1] = r;
        if (r == 0.0) {
          diag[i + 1] -= p;
          off[m] = 0.0;
          break;
        }
        s = f / r;
        c = g / r;
        g = diag[i + 1] - p;
        r = (diag[i] - g) * s + 2.0 * c * b;
        p = s * r;
        diag[i + 1] = g + p;
        g = c * r - b;
        double* left = z + i * ld;
        double* right = z + (i + 1) * ld;
        for (Index k = 0; k < n; ++k) {
          const double t = right[k];
          right[k] = s * left[k] + c * t;
          left[k] = c * left[k] - s * t;
        }
      }
      if (r == 0.0 && i >= l) continue;
      diag[l] -= p;
      off[l] = g;
      off[m] = 0.0;
    }
  }
  return true;
}

}  // namespace

void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha, const double* a,
          Index lda, const double* b, Index ldb, double beta, double* c, Index ldc) {
  multiply(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, false);
}

void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, float alpha, const float* a,
          Index lda, const float* b, Index ldb, float beta, float* c, Index ldc) {
  multiply(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, false);
}

void syrk_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta, double* c,
                Index ldc) {
  multiply(true, false, n, n, k, alpha, a, lda, a, lda, beta, c, ldc, true);
}

void syrk_rows_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta,
                     double* c, Index ldc) {
  multiply(false, true, n, n, k, alpha, a, lda, a, lda, beta, c, ldc, true);
}

void gemv(bool trans, Index m, Index n, double alpha, const double* a, Index lda, const double* x,
          double beta, double* y) {
  const Index size = trans ? n : m;
  for (Index i = 0; i < size; ++i) y[i] = beta == 0.0 ? 0.0 : beta * y[i];
  for (Index j = 0; j < n; ++j) {
    const double* column = a + j * lda;
    if (trans) {
      double sum = 0.0;
      for (Index i = 0; i < m; ++i) sum += column[i] * x[i];
      y[j] += alpha * sum;
    } else {
      const double f = alpha * x[j];
      for (Index i = 0; i < m; ++i) y[i] += f * column[i];
    }
  }
}

bool symmetric_eigen(Index n, double* a, Index lda, double* w) {
  if (n == 0) return true;
  std::vector<double> off(static_cast<std::size_t>(n));
  tridiagonalise(n, a, lda, w, off.data());
  for (Index i = 0; i < n; ++i) {
    if (!std::isfinite(w[i]) || !std::isfinite(off[static_cast<std::size_t>(i)])) return false;
  }
  if (!implicit_ql(n, a, lda, w, off.data())) return false;
  for (Index i = 0; i + 1 < n; ++i) {  // ascending
    const Index least = std::min_element(w + i, w + n) - w;
    if (least == i) continue;
    std::swap(w[i], w[least]);
    std::swap_ranges(a + i * lda, a + i * lda + n, a + least * lda);
  }
  return true;
}

bool cholesky_upper(Index n, double* a, Index lda) {
  for (Index j = 0; j < n; ++j) {
    double* column = a + j * lda;
    double squares = 0.0;
    for (Index i = 0; i < j; ++i) {
      double sum = column[i];
      for (Index k = 0; k < i; ++k) sum -= a[i * lda + k] * column[k];
      column[i] = sum / a[i * lda + i];
      squares += column[i] * column[i];
    }
    const double pivot = column[j] - squares;
    if (!(pivot > 0.0)) return false;
    column[j] = std::sqrt(pivot);
  }
  return true;
}

const char* description() { return "own loops"; }

}  // namespace thresher::blas

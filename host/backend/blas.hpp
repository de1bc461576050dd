#pragma once

#include <algorithm>

#include "thresher/views.hpp"

namespace thresher::blas {

// Dense products on column-major matrices, single-threaded, safe to call from many threads at once.
// Two implementations: blas_openblas.cpp and, for builds without it, blas_loops.cpp.

/// C (m, n) = alpha op(A) op(B) + beta C; op is the transpose if the flag is set; k is the inner
/// size.
void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha, const double* a,
          Index lda, const double* b, Index ldb, double beta, double* c, Index ldc);
void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, float alpha, const float* a,
          Index lda, const float* b, Index ldb, float beta, float* c, Index ldc);

/// Lower triangle of C (n, n) = alpha A' A + beta C, A (k, n).
void syrk_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta, double* c,
                Index ldc);

/// Lower triangle of C (n, n) = alpha A A' + beta C, A (n, k).
void syrk_rows_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta,
                     double* c, Index ldc);

/// y = alpha op(A) x + beta y, A (m, n).
void gemv(bool trans, Index m, Index n, double alpha, const double* a, Index lda, const double* x,
          double beta, double* y);

/// Copies the lower triangle of A (n, n), from row `from` on, to the upper.
inline void mirror_lower(Index n, double* a, Index lda, Index from = 0) {
  constexpr Index kTile = 32;  // both triangles of a tile pair stay in the cache
  for (Index j0 = 0; j0 < n; j0 += kTile) {
    for (Index i0 = std::max(j0, from); i0 < n; i0 += kTile) {
      for (Index j = j0; j < std::min(n, j0 + kTile); ++j) {
        for (Index i = std::max(i0, j + 1); i < std::min(n, i0 + kTile); ++i) {
          a[i * lda + j] = a[j * lda + i];
        }
      }
    }
  }
}

/// Eigendecomposition of the symmetric A (n, n), lower triangle given: A becomes the eigenvectors
/// (columns), w the eigenvalues, ascending. Returns false if it did not converge.
bool symmetric_eigen(Index n, double* a, Index lda, double* w);

/// Cholesky factor A = U'U of the symmetric A (n, n) whose upper triangle is given; U replaces it.
/// Returns false if A is not positive definite (A is then spoilt).
bool cholesky_upper(Index n, double* a, Index lda);

/// Name and kernel of the implementation, for `thresher info`.
const char* description();

}  // namespace thresher::blas

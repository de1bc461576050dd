#pragma once

#include <cstddef>

#include "thresher/views.hpp"

namespace thresher::blas {

/// Whether simd() has the loops for packed_product().
bool has_packed_product();
/// What a thread keeps for it.
std::size_t packed_product_bytes();

/// C (m, n) = alpha op(A) op(B) + beta C as blas::gemm. `lower`: op(B) is op(A)', and only the
/// lower triangle is wanted. What an entry adds up, and in which order, depends on k alone.
void packed_product(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha,
                    const double* a, Index lda, const double* b, Index ldb, double beta, double* c,
                    Index ldc, bool lower);

}  // namespace thresher::blas

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend/blas.hpp"
#include "backend/packed_product.hpp"
#include "thresher/error.hpp"

// The Fortran interface, declared here: it is the same in every OpenBLAS, and the C headers of
// several BLAS packages overwrite each other. gfortran passes the length of each character
// argument at the end.
extern "C" {
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*, std::size_t, std::size_t);
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*,
            std::size_t, std::size_t);
void dsyrk_(const char*, const char*, const int*, const int*, const double*, const double*,
            const int*, const double*, double*, const int*, std::size_t, std::size_t);
void dgemv_(const char*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*, std::size_t);
void dpotrf_(const char*, const int*, double*, const int*, int*, std::size_t);
void dsytrd_(const char*, const int*, double*, const int*, double*, double*, double*, double*,
             const int*, int*, std::size_t);
void dstedc_(const char*, const int*, double*, double*, double*, const int*, double*, const int*,
             int*, const int*, int*, std::size_t);
char* openblas_get_config();
char* openblas_get_corename();
}

// Every OpenBLAS routine takes its work buffer from one table. The serial build of 0.3.21 unlocks
// that table before it searches it (memory.c, blas_memory_alloc), so two threads now and then got
// the same buffer and wrong products: 10 of 320 eigendecompositions of size 400 on 16 threads. The
// linker sends its calls here (--wrap, cmake/thresher_openblas.cmake).
extern "C" {
void* __real_blas_memory_alloc(int);
void __real_blas_memory_free(void*);
void* __wrap_blas_memory_alloc(int position);
void __wrap_blas_memory_free(void* buffer);
}

namespace {
constinit std::mutex buffer_table;
}

void* __wrap_blas_memory_alloc(int position) {
  const std::lock_guard lock(buffer_table);
  return __real_blas_memory_alloc(position);
}

void __wrap_blas_memory_free(void* buffer) {
  const std::lock_guard lock(buffer_table);
  __real_blas_memory_free(buffer);
}

namespace thresher::blas {
namespace {

int narrow(Index value, const char* function, const char* operand) {
  if (value < 0 || value > std::numeric_limits<int>::max()) {
    throw Error(Errc::kInvalidArgument, std::string(function) + ": " + operand +
                                            " must fit 31 bits, got " + std::to_string(value));
  }
  return static_cast<int>(value);
}

/// LAPACK wants a leading dimension of at least 1 even where there is nothing to read.
int leading(Index ld, const char* function, const char* operand) {
  return narrow(std::max<Index>(ld, 1), function, operand);
}

/// Some BLAS multiply by beta = 0 instead of storing 0, and 0 * NaN is NaN.
template <class T>
void clear(Index m, Index n, T* c, Index ldc, bool lower) {
  for (Index j = 0; j < n; ++j) std::fill(c + j * ldc + (lower ? j : 0), c + j * ldc + m, T(0));
}

}  // namespace

void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha, const double* a,
          Index lda, const double* b, Index ldb, double beta, double* c, Index ldc) {
  if (m == 0 || n == 0) return;
  if (has_packed_product()) {
    packed_product(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, false);
    return;
  }
  if (beta == 0.0) clear(m, n, c, ldc, false);
  if (k == 0 && beta == 0.0) return;
  const char ta = trans_a ? 'T' : 'N', tb = trans_b ? 'T' : 'N';
  const int m32 = narrow(m, "gemm", "m"), n32 = narrow(n, "gemm", "n");
  const int k32 = narrow(k, "gemm", "k"), lda32 = leading(lda, "gemm", "lda");
  const int ldb32 = leading(ldb, "gemm", "ldb"), ldc32 = leading(ldc, "gemm", "ldc");
  dgemm_(&ta, &tb, &m32, &n32, &k32, &alpha, a, &lda32, b, &ldb32, &beta, c, &ldc32, 1, 1);
}

void gemm(bool trans_a, bool trans_b, Index m, Index n, Index k, float alpha, const float* a,
          Index lda, const float* b, Index ldb, float beta, float* c, Index ldc) {
  if (m == 0 || n == 0) return;
  if (beta == 0.0F) clear(m, n, c, ldc, false);
  if (k == 0 && beta == 0.0F) return;
  const char ta = trans_a ? 'T' : 'N', tb = trans_b ? 'T' : 'N';
  const int m32 = narrow(m, "gemm", "m"), n32 = narrow(n, "gemm", "n");
  const int k32 = narrow(k, "gemm", "k"), lda32 = leading(lda, "gemm", "lda");
  const int ldb32 = leading(ldb, "gemm", "ldb"), ldc32 = leading(ldc, "gemm", "ldc");
  sgemm_(&ta, &tb, &m32, &n32, &k32, &alpha, a, &lda32, b, &ldb32, &beta, c, &ldc32, 1, 1);
}

namespace {

void syrk(const char* trans, Index n, Index k, double alpha, const double* a, Index lda,
          double beta, double* c, Index ldc) {
  if (n == 0) return;
  if (has_packed_product()) {
    const bool columns = *trans == 'T';
    packed_product(columns, !columns, n, n, k, alpha, a, lda, a, lda, beta, c, ldc, true);
    return;
  }
  if (beta == 0.0) clear(n, n, c, ldc, true);
  if (k == 0 && beta == 0.0) return;
  const int n32 = narrow(n, "syrk", "n"), k32 = narrow(k, "syrk", "k");
  const int lda32 = leading(lda, "syrk", "lda"), ldc32 = leading(ldc, "syrk", "ldc");
  dsyrk_("L", trans, &n32, &k32, &alpha, a, &lda32, &beta, c, &ldc32, 1, 1);
}

}  // namespace

void syrk_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta, double* c,
                Index ldc) {
  syrk("T", n, k, alpha, a, lda, beta, c, ldc);
}

void syrk_rows_lower(Index n, Index k, double alpha, const double* a, Index lda, double beta,
                     double* c, Index ldc) {
  syrk("N", n, k, alpha, a, lda, beta, c, ldc);
}

void gemv(bool trans, Index m, Index n, double alpha, const double* a, Index lda, const double* x,
          double beta, double* y) {
  const Index size = trans ? n : m;
  if (size == 0) return;
  if (beta == 0.0) std::fill(y, y + size, 0.0);
  if (m == 0 || n == 0) {  // BLAS returns at once here, without applying beta
    for (Index i = 0; i < size; ++i) y[i] *= beta;
    return;
  }
  const char t = trans ? 'T' : 'N';
  const int m32 = narrow(m, "gemv", "m"), n32 = narrow(n, "gemv", "n");
  const int lda32 = leading(lda, "gemv", "lda"), one = 1;
  dgemv_(&t, &m32, &n32, &alpha, a, &lda32, x, &one, &beta, y, &one, 1);
}

namespace {

/// C (n, n) <- H_1 ... H_(n-1) C, the reflectors I - tau v v' that dsytrd leaves below the
/// subdiagonal of A. So many at a time are I - V T V' (Schreiber & Van Loan 1989), whose products
/// gemm() forms: LAPACK's dormtr takes 32 and packs V for each of its own.
void reflect(Index n, const double* a, Index lda, const double* tau, double* c) {
  constexpr Index kAtOnce = 64;
  std::vector<double> V(static_cast<std::size_t>(n * kAtOnce)), W(V.size()), TW(V.size());
  std::vector<double> G(kAtOnce * kAtOnce), T(kAtOnce * kAtOnce);
  for (Index block = (n - 2) / kAtOnce; block >= 0; --block) {
    const Index first = block * kAtOnce, count = std::min(kAtOnce, n - 1 - first);
    const Index m = n - 1 - first;  // rows of V; those above are left alone
    std::fill(V.begin(), V.end(), 0.0);
    for (Index k = 0; k < count; ++k) {
      double* v = V.data() + k * m;
      v[k] = 1.0;
      const double* below = a + (first + k) * lda + first + 1;
      std::copy(below + k + 1, below + m, v + k + 1);
    }
    gemm(true, false, count, count, m, 1.0, V.data(), m, V.data(), m, 0.0, G.data(), count);
    std::fill(T.begin(), T.end(), 0.0);
    for (Index k = 0; k < count; ++k) {
      const double t = tau[first + k];
      T[static_cast<std::size_t>(k * count + k)] = t;
      for (Index l = 0; l < k; ++l) {  // column k above the diagonal: -t T G
        const double g = -t * G[static_cast<std::size_t>(k * count + l)];
        for (Index i = 0; i <= l; ++i) {
          T[static_cast<std::size_t>(k * count + i)] +=
              T[static_cast<std::size_t>(l * count + i)] * g;
        }
      }
    }
    double* const rows = c + first + 1;
    gemm(true, false, count, n, m, 1.0, V.data(), m, rows, n, 0.0, W.data(), count);
    gemm(false, false, count, n, count, 1.0, T.data(), count, W.data(), count, 0.0, TW.data(),
         count);
    gemm(false, false, m, n, count, -1.0, V.data(), m, TW.data(), count, 1.0, rows, n);
  }
}

}  // namespace

bool symmetric_eigen(Index n, double* a, Index lda, double* w) {
  if (n == 0) return true;
  const int n32 = narrow(n, "symmetric_eigen", "n");
  const int lda32 = leading(lda, "symmetric_eigen", "lda");
  const int lwork = narrow(1 + 4 * n + n * n, "symmetric_eigen", "workspace");
  const int liwork = narrow(3 + 5 * n, "symmetric_eigen", "workspace");
  const auto size = static_cast<std::size_t>(n);
  const auto work = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(lwork));
  const auto vectors = std::make_unique_for_overwrite<double[]>(size * size);
  std::vector<double> off(size), tau(size);
  std::vector<int> iwork(static_cast<std::size_t>(liwork));
  int info = 0;
  dsytrd_("L", &n32, a, &lda32, w, off.data(), tau.data(), work.get(), &lwork, &info, 1);
  dstedc_("I", &n32, w, off.data(), vectors.get(), &n32, work.get(), &lwork, iwork.data(), &liwork,
          &info, 1);
  if (info != 0) return false;
  if (n > 1) reflect(n, a, lda, tau.data(), vectors.get());
  for (Index j = 0; j < n; ++j) std::copy_n(vectors.get() + j * n, n, a + j * lda);
  return true;
}

bool cholesky_upper(Index n, double* a, Index lda) {
  const int n32 = narrow(n, "cholesky_upper", "n");
  const int lda32 = leading(lda, "cholesky_upper", "lda");
  int info = 0;
  dpotrf_("U", &n32, a, &lda32, &info, 1);
  return info == 0;
}

const char* description() {
  static const std::string text =
      std::string(openblas_get_config()) + ", kernels " + openblas_get_corename();
  return text.c_str();
}

}  // namespace thresher::blas

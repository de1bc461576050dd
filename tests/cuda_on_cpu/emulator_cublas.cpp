// cuBLAS in plain loops: handles, statuses and order on the stream as the real one has them.
// Products of low precision are accumulated the way tensor cores do it, by truncation, so that an
// error bound which assumes rounding to nearest is found out.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <set>
#include <vector>

#include "backend/blas.hpp"
#include "emulator_core.hpp"

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math_mode = CUBLAS_DEFAULT_MATH;
};

namespace thresher::emulator {
namespace {

struct Handles {
  std::set<cublasHandle_t> live;
  std::uint64_t generation = 0;
};

Handles& handles() {
  static Handles& instance = *new Handles;
  if (instance.generation != device_generation()) {
    instance.live.clear();
    instance.generation = device_generation();
  }
  return instance;
}

std::size_t element_bytes(cudaDataType type) {
  switch (type) {
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_64F:
      return 8;
    default:
      return 0;
  }
}

template <class T>
constexpr cudaDataType kTypeOf = std::is_same_v<T, double> ? CUDA_R_64F : CUDA_R_32F;

/// A batch of column-major matrices in device memory.
struct Operand {
  const void* data;
  cudaDataType type;
  std::int64_t rows, cols, ld, stride;

  std::size_t offset(std::int64_t batch, std::int64_t col) const {
    return static_cast<std::size_t>(batch * stride + col * ld) * element_bytes(type);
  }
  const char* column(std::int64_t batch, std::int64_t col) const {
    return static_cast<const char*>(data) + offset(batch, col);
  }
  std::size_t column_bytes() const { return static_cast<std::size_t>(rows) * element_bytes(type); }
};

bool lies_in_memory(const Operand& matrix, std::int64_t batches, const char* what) {
  if (matrix.rows == 0 || matrix.cols == 0 || batches == 0) return true;
  const std::size_t bytes = matrix.offset(batches - 1, matrix.cols - 1) + matrix.column_bytes();
  return arena_check(matrix.data, bytes, what);
}

void check_initialised(const Operand& matrix, std::int64_t batch, const char* what) {
  for (std::int64_t j = 0; j < matrix.cols; ++j) {
    if (!shadow_check_initialised(matrix.column(batch, j), matrix.column_bytes(), what)) return;
  }
}

void set_initialised(const Operand& matrix, std::int64_t batch) {
  for (std::int64_t j = 0; j < matrix.cols; ++j) {
    shadow_set_initialised(matrix.column(batch, j), matrix.column_bytes(), true);
  }
}

template <class T>
T* pointer(const Operand& matrix, std::int64_t batch) {
  return reinterpret_cast<T*>(const_cast<char*>(matrix.column(batch, 0)));
}

/// A scalar argument: read at the call in host mode, when the work runs in device mode.
class Scalar {
 public:
  Scalar(cublasHandle_t handle, const void* p, bool is_double)
      : p_(p),
        on_device_(handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE),
        is_double_(is_double) {
    if (p && !on_device_ && !arena_contains(p)) value_ = load();
  }
  /// Reports and returns false if the pointer is missing or not where the pointer mode says.
  bool is_valid(const char* api) const {
    if (!p_) return false;
    if (arena_contains(p_) == on_device_) return true;
    report(std::string(api) + ": a scalar's pointer does not match the pointer mode");
    return false;
  }
  double value(const char* api) const {
    if (!on_device_) return value_;
    shadow_check_initialised(p_, is_double_ ? sizeof(double) : sizeof(float), api);
    return load();
  }

 private:
  double load() const {
    return is_double_ ? *static_cast<const double*>(p_)
                      : static_cast<double>(*static_cast<const float*>(p_));
  }

  const void* p_;
  bool on_device_;
  bool is_double_;
  double value_ = 0.0;
};

/// Rounded to the 10 explicit mantissa bits of TF32, to nearest, ties to even.
float round_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0xFFFu + ((bits >> 13) & 1u)) & ~0x1FFFu);
}

float load_element(const void* p, std::int64_t i, cudaDataType type, bool tf32) {
  switch (type) {
    case CUDA_R_16F:
      return __half2float(static_cast<const __half*>(p)[i]);
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
    default: {
      const float x = static_cast<const float*>(p)[i];
      return tf32 ? round_to_tf32(x) : x;
    }
  }
}

/// The nearest float towards zero: a double's mantissa has 29 bits more.
inline float truncate_to_float(double x) {
  if (!std::isfinite(x)) return static_cast<float>(x);
  return static_cast<float>(
      std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) & ~std::uint64_t{0x1FFFFFFF}));
}

struct Product {
  cublasOperation_t trans_a, trans_b;
  std::int64_t m, n, k;
  Operand a, b, c;
  std::int64_t batches;
  cublasComputeType_t compute;
};

/// C = alpha op(A) op(B) + beta C as tensor cores work: products exact, sums in float, every
/// addition truncated (Fasi, Higham, Mikaitis & Pranesh 2021).
void multiply_truncating(const Product& p, std::int64_t batch, float alpha, float beta) {
  const bool tf32 = p.a.type == CUDA_R_32F;
  const auto unpack = [&](const Operand& from, cublasOperation_t trans, std::int64_t rows,
                          std::int64_t cols) {
    std::vector<float> out(static_cast<std::size_t>(rows * cols));
    const void* data = pointer<void>(from, batch);
    for (std::int64_t j = 0; j < cols; ++j) {
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::int64_t at = trans == CUBLAS_OP_N ? j * from.ld + i : i * from.ld + j;
        out[static_cast<std::size_t>(j * rows + i)] = load_element(data, at, from.type, tf32);
      }
    }
    return out;
  };
  const std::vector<float> a = unpack(p.a, p.trans_a, p.m, p.k);
  const std::vector<float> b = unpack(p.b, p.trans_b, p.k, p.n);
  float* c = pointer<float>(p.c, batch);
  std::vector<float> sum(static_cast<std::size_t>(p.m));
  for (std::int64_t j = 0; j < p.n; ++j) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (std::int64_t l = 0; l < p.k; ++l) {
      const double factor = b[static_cast<std::size_t>(j * p.k + l)];
      const float* column = a.data() + l * p.m;
      for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] = truncate_to_float(static_cast<double>(sum[i]) +
                                   static_cast<double>(column[i]) * factor);
      }
    }
    for (std::size_t i = 0; i < sum.size(); ++i) {
      float& out = c[static_cast<std::size_t>(j * p.c.ld) + i];
      out = beta == 0.0f ? alpha * sum[i] : alpha * sum[i] + beta * out;
    }
  }
}

void multiply(const Product& p, std::int64_t batch, double alpha, double beta) {
  const bool ta = p.trans_a != CUBLAS_OP_N, tb = p.trans_b != CUBLAS_OP_N;
  if (p.a.type == CUDA_R_64F) {
    blas::gemm(ta, tb, p.m, p.n, p.k, alpha, pointer<const double>(p.a, batch), p.a.ld,
               pointer<const double>(p.b, batch), p.b.ld, beta, pointer<double>(p.c, batch),
               p.c.ld);
  } else if (p.a.type == CUDA_R_32F && p.compute != CUBLAS_COMPUTE_32F_FAST_TF32) {
    blas::gemm(ta, tb, p.m, p.n, p.k, static_cast<float>(alpha), pointer<const float>(p.a, batch),
               p.a.ld, pointer<const float>(p.b, batch), p.b.ld, static_cast<float>(beta),
               pointer<float>(p.c, batch), p.c.ld);
  } else {
    multiply_truncating(p, batch, static_cast<float>(alpha), static_cast<float>(beta));
  }
}

bool is_supported(const Product& p) {
  if (p.a.type != p.b.type) return false;
  switch (p.compute) {
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return p.a.type == CUDA_R_64F && p.c.type == CUDA_R_64F;
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return p.a.type != CUDA_R_64F && element_bytes(p.a.type) != 0 && p.c.type == CUDA_R_32F;
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return p.a.type == CUDA_R_32F && p.c.type == CUDA_R_32F;
    default:
      return false;
  }
}

cublasStatus_t run_product(cublasHandle_t handle, const char* api, const Product& p,
                           const void* alpha_pointer, const void* beta_pointer) {
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batches < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (p.a.ld < std::max<std::int64_t>(1, p.a.rows) ||
      p.b.ld < std::max<std::int64_t>(1, p.b.rows) ||
      p.c.ld < std::max<std::int64_t>(1, p.c.rows)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!is_supported(p)) {
    report(std::string(api) + ": combination of types is not emulated");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool is_double = p.c.type == CUDA_R_64F;
  const Scalar alpha(handle, alpha_pointer, is_double), beta(handle, beta_pointer, is_double);
  if (!alpha.is_valid(api) || !beta.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (p.m == 0 || p.n == 0 || p.batches == 0) return CUBLAS_STATUS_SUCCESS;
  if (p.batches > 1 && p.c.stride < p.c.ld * (p.n - 1) + p.m) {
    report(std::string(api) + ": output matrices overlap");
  }
  if (!lies_in_memory(p.a, p.batches, api) || !lies_in_memory(p.b, p.batches, api) ||
      !lies_in_memory(p.c, p.batches, api)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    const double al = alpha.value(api), be = beta.value(api);
    for (std::int64_t batch = 0; batch < p.batches; ++batch) {
      check_initialised(p.a, batch, api);
      check_initialised(p.b, batch, api);
      if (be != 0.0) check_initialised(p.c, batch, api);
      multiply(p, batch, al, be);
      set_initialised(p.c, batch);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

/// The shapes of op(A) (m, k), op(B) (k, n) and C (m, n) in memory.
Product make_product(cublasOperation_t trans_a, cublasOperation_t trans_b, std::int64_t m,
                     std::int64_t n, std::int64_t k, Operand a, Operand b, Operand c,
                     std::int64_t batches, cublasComputeType_t compute) {
  const bool ta = trans_a != CUBLAS_OP_N, tb = trans_b != CUBLAS_OP_N;
  a.rows = ta ? k : m;
  a.cols = ta ? m : k;
  b.rows = tb ? n : k;
  b.cols = tb ? k : n;
  c.rows = m;
  c.cols = n;
  return {trans_a, trans_b, m, n, k, a, b, c, batches, compute};
}

template <class T>
cublasStatus_t gemm(cublasHandle_t handle, const char* api, cublasOperation_t trans_a,
                    cublasOperation_t trans_b, std::int64_t m, std::int64_t n, std::int64_t k,
                    const T* alpha, const T* a, std::int64_t lda, long long stride_a, const T* b,
                    std::int64_t ldb, long long stride_b, const T* beta, T* c, std::int64_t ldc,
                    long long stride_c, std::int64_t batches) {
  constexpr cudaDataType type = kTypeOf<T>;
  cublasComputeType_t compute = CUBLAS_COMPUTE_64F;
  if (type == CUDA_R_32F) {
    compute = handle->math_mode == CUBLAS_TF32_TENSOR_OP_MATH ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                              : CUBLAS_COMPUTE_32F;
  }
  return run_product(handle, api,
                     make_product(trans_a, trans_b, m, n, k, {a, type, 0, 0, lda, stride_a},
                                  {b, type, 0, 0, ldb, stride_b}, {c, type, 0, 0, ldc, stride_c},
                                  batches, compute),
                     alpha, beta);
}

/// n elements `step` apart.
struct Strided {
  const void* data;
  cudaDataType type;
  std::int64_t n, step;

  Operand as_row() const { return {data, type, 1, n, step, 0}; }
};

template <class T>
cublasStatus_t gemv(cublasHandle_t handle, const char* api, cublasOperation_t trans, std::int64_t m,
                    std::int64_t n, const T* alpha_pointer, const T* a, std::int64_t lda,
                    const T* x, std::int64_t incx, const T* beta_pointer, T* y, std::int64_t incy) {
  if (m < 0 || n < 0 || lda < std::max<std::int64_t>(1, m) || incx == 0 || incy == 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (incx < 0 || incy < 0) {
    report(std::string(api) + ": negative increments are not emulated");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool transposed = trans != CUBLAS_OP_N;
  const Scalar alpha(handle, alpha_pointer, std::is_same_v<T, double>);
  const Scalar beta(handle, beta_pointer, std::is_same_v<T, double>);
  if (!alpha.is_valid(api) || !beta.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  const Operand matrix{a, kTypeOf<T>, m, n, lda, 0};
  const Operand in = Strided{x, kTypeOf<T>, transposed ? m : n, incx}.as_row();
  const Operand out = Strided{y, kTypeOf<T>, transposed ? n : m, incy}.as_row();
  if (!lies_in_memory(matrix, 1, api) || !lies_in_memory(in, 1, api) ||
      !lies_in_memory(out, 1, api)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    const T al = static_cast<T>(alpha.value(api)), be = static_cast<T>(beta.value(api));
    check_initialised(matrix, 0, api);
    check_initialised(in, 0, api);
    if (be != T(0)) check_initialised(out, 0, api);
    for (std::int64_t i = 0; i < out.cols; ++i) {
      T sum = T(0);
      for (std::int64_t l = 0; l < in.cols; ++l) {
        sum += (transposed ? a[i * lda + l] : a[l * lda + i]) * x[l * incx];
      }
      T& result = y[i * incy];
      result = be == T(0) ? al * sum : al * sum + be * result;
    }
    set_initialised(out, 0);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t syrk(cublasHandle_t handle, const char* api, cublasFillMode_t uplo,
                    cublasOperation_t trans, std::int64_t n, std::int64_t k,
                    const double* alpha_pointer, const double* a, std::int64_t lda,
                    const double* beta_pointer, double* c, std::int64_t ldc) {
  const bool transposed = trans != CUBLAS_OP_N;
  if (n < 0 || k < 0 || lda < std::max<std::int64_t>(1, transposed ? k : n) ||
      ldc < std::max<std::int64_t>(1, n)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Scalar alpha(handle, alpha_pointer, true), beta(handle, beta_pointer, true);
  if (!alpha.is_valid(api) || !beta.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (n == 0) return CUBLAS_STATUS_SUCCESS;
  const Operand in{a, CUDA_R_64F, transposed ? k : n, transposed ? n : k, lda, 0};
  const Operand out{c, CUDA_R_64F, n, n, ldc, 0};
  if (!lies_in_memory(in, 1, api) || !lies_in_memory(out, 1, api)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    const double al = alpha.value(api), be = beta.value(api);
    check_initialised(in, 0, api);
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t begin = uplo == CUBLAS_FILL_MODE_LOWER ? j : 0;
      const std::int64_t end = uplo == CUBLAS_FILL_MODE_LOWER ? n : j + 1;
      double* column = c + j * ldc;
      const std::size_t bytes = static_cast<std::size_t>(end - begin) * sizeof(double);
      if (be != 0.0) shadow_check_initialised(column + begin, bytes, api);
      for (std::int64_t i = begin; i < end; ++i) {
        double sum = 0.0;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += transposed ? a[i * lda + l] * a[j * lda + l] : a[l * lda + i] * a[l * lda + j];
        }
        column[i] = be == 0.0 ? al * sum : al * sum + be * column[i];
      }
      shadow_set_initialised(column + begin, bytes, true);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

/// Solves T x = b in place: T triangular of order n, op applied, elements of x `step` apart.
void solve_triangular(bool lower, bool transposed, bool unit, std::int64_t n, const double* t,
                      std::int64_t ldt, double* x, std::int64_t step) {
  const auto entry = [=](std::int64_t i, std::int64_t j) {
    return transposed ? t[i * ldt + j] : t[j * ldt + i];
  };
  const bool forward = lower != transposed;
  for (std::int64_t s = 0; s < n; ++s) {
    const std::int64_t i = forward ? s : n - 1 - s;
    double value = x[i * step];
    const std::int64_t begin = forward ? 0 : i + 1, end = forward ? i : n;
    for (std::int64_t j = begin; j < end; ++j) value -= entry(i, j) * x[j * step];
    x[i * step] = unit ? value : value / entry(i, i);
  }
}

cublasStatus_t trsm(cublasHandle_t handle, const char* api, cublasSideMode_t side,
                    cublasFillMode_t uplo, cublasOperation_t trans, cublasDiagType_t diag,
                    std::int64_t m, std::int64_t n, const double* alpha_pointer, const double* a,
                    std::int64_t lda, double* b, std::int64_t ldb) {
  const bool left = side == CUBLAS_SIDE_LEFT, lower = uplo == CUBLAS_FILL_MODE_LOWER;
  const bool transposed = trans != CUBLAS_OP_N, unit = diag == CUBLAS_DIAG_UNIT;
  const std::int64_t order = left ? m : n;
  if (m < 0 || n < 0 || lda < std::max<std::int64_t>(1, order) ||
      ldb < std::max<std::int64_t>(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Scalar alpha(handle, alpha_pointer, true);
  if (!alpha.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  const Operand triangle{a, CUDA_R_64F, order, order, lda, 0};
  const Operand out{b, CUDA_R_64F, m, n, ldb, 0};
  if (!lies_in_memory(triangle, 1, api) || !lies_in_memory(out, 1, api)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    const double al = alpha.value(api);
    for (std::int64_t j = 0; j < order; ++j) {
      const std::int64_t begin = lower ? j : 0, end = lower ? order : j + 1;
      if (!shadow_check_initialised(a + j * lda + begin,
                                    static_cast<std::size_t>(end - begin) * sizeof(double), api)) {
        break;
      }
    }
    check_initialised(out, 0, api);
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t i = 0; i < m; ++i) b[j * ldb + i] *= al;
    }
    // X op(T) = B is op(T)' X' = B': the rows of B are the right-hand sides.
    const std::int64_t n_systems = left ? n : m;
    for (std::int64_t s = 0; s < n_systems; ++s) {
      solve_triangular(lower, left ? transposed : !transposed, unit, order, a, lda,
                       left ? b + s * ldb : b + s, left ? 1 : ldb);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t geam(cublasHandle_t handle, const char* api, cublasOperation_t trans_a,
                    cublasOperation_t trans_b, std::int64_t m, std::int64_t n,
                    const double* alpha_pointer, const double* a, std::int64_t lda,
                    const double* beta_pointer, const double* b, std::int64_t ldb, double* c,
                    std::int64_t ldc) {
  const bool ta = trans_a != CUBLAS_OP_N, tb = trans_b != CUBLAS_OP_N;
  if (m < 0 || n < 0 || lda < std::max<std::int64_t>(1, ta ? n : m) ||
      ldb < std::max<std::int64_t>(1, tb ? n : m) || ldc < std::max<std::int64_t>(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if ((c == a && (ta || ldc != lda)) || (c == b && (tb || ldc != ldb))) {
    return CUBLAS_STATUS_INVALID_VALUE;  // in place only without transposition
  }
  const Scalar alpha(handle, alpha_pointer, true), beta(handle, beta_pointer, true);
  if (!alpha.is_valid(api) || !beta.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  const bool host_scalars = handle->pointer_mode == CUBLAS_POINTER_MODE_HOST;
  const bool uses_a = !host_scalars || alpha.value(api) != 0.0;
  const bool uses_b = !host_scalars || beta.value(api) != 0.0;
  const Operand in_a{a, CUDA_R_64F, ta ? n : m, ta ? m : n, lda, 0};
  const Operand in_b{b, CUDA_R_64F, tb ? n : m, tb ? m : n, ldb, 0};
  const Operand out{c, CUDA_R_64F, m, n, ldc, 0};
  if ((uses_a && !lies_in_memory(in_a, 1, api)) || (uses_b && !lies_in_memory(in_b, 1, api)) ||
      !lies_in_memory(out, 1, api)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    const double al = alpha.value(api), be = beta.value(api);
    if (al != 0.0) check_initialised(in_a, 0, api);
    if (be != 0.0) check_initialised(in_b, 0, api);
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t i = 0; i < m; ++i) {
        const double from_a = al == 0.0 ? 0.0 : al * (ta ? a[i * lda + j] : a[j * lda + i]);
        const double from_b = be == 0.0 ? 0.0 : be * (tb ? b[i * ldb + j] : b[j * ldb + i]);
        c[j * ldc + i] = from_a + from_b;
      }
    }
    set_initialised(out, 0);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t vector_status(std::initializer_list<Strided> vectors, const char* api) {
  for (const Strided& v : vectors) {
    if (v.step <= 0) {
      report(std::string(api) + ": increments below 1 are not emulated");
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (!lies_in_memory(v.as_row(), 1, api)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t axpy(cublasHandle_t handle, const char* api, std::int64_t n,
                    const double* alpha_pointer, const double* x, std::int64_t incx, double* y,
                    std::int64_t incy) {
  const Scalar alpha(handle, alpha_pointer, true);
  if (!alpha.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (n <= 0) return CUBLAS_STATUS_SUCCESS;
  const Strided in{x, CUDA_R_64F, n, incx}, out{y, CUDA_R_64F, n, incy};
  const cublasStatus_t status = vector_status({in, out}, api);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    check_initialised(in.as_row(), 0, api);
    check_initialised(out.as_row(), 0, api);
    const double al = alpha.value(api);
    for (std::int64_t i = 0; i < n; ++i) y[i * incy] += al * x[i * incx];
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t scal(cublasHandle_t handle, const char* api, std::int64_t n,
                    const double* alpha_pointer, double* x, std::int64_t incx) {
  const Scalar alpha(handle, alpha_pointer, true);
  if (!alpha.is_valid(api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (n <= 0) return CUBLAS_STATUS_SUCCESS;
  const Strided out{x, CUDA_R_64F, n, incx};
  const cublasStatus_t status = vector_status({out}, api);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    check_initialised(out.as_row(), 0, api);
    const double al = alpha.value(api);
    for (std::int64_t i = 0; i < n; ++i) x[i * incx] *= al;
  });
  return CUBLAS_STATUS_SUCCESS;
}

/// Stores combine(x, y) where the pointer mode says; with a host result it waits, as cuBLAS does.
template <class Function>
cublasStatus_t reduce(cublasHandle_t handle, const char* api, const Strided& x, const Strided& y,
                      double* result, Function combine) {
  const bool on_device = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
  if (!result) return CUBLAS_STATUS_INVALID_VALUE;
  if (arena_contains(result) != on_device) {
    report(std::string(api) + ": the result's pointer does not match the pointer mode");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (on_device && !arena_check(result, sizeof(double), api)) return CUBLAS_STATUS_INVALID_VALUE;
  if (x.n > 0) {
    const cublasStatus_t status = vector_status({x, y}, api);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    if (x.n > 0) {
      check_initialised(x.as_row(), 0, api);
      check_initialised(y.as_row(), 0, api);
    }
    *result = combine();
    if (on_device) shadow_set_initialised(result, sizeof(double), true);
  });
  if (!on_device) finish_stream(handle->stream);
  return sticky_error() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t dot(cublasHandle_t handle, const char* api, std::int64_t n, const double* x,
                   std::int64_t incx, const double* y, std::int64_t incy, double* result) {
  return reduce(handle, api, {x, CUDA_R_64F, std::max<std::int64_t>(n, 0), incx},
                {y, CUDA_R_64F, std::max<std::int64_t>(n, 0), incy}, result, [=] {
                  double sum = 0.0;
                  for (std::int64_t i = 0; i < n; ++i) sum += x[i * incx] * y[i * incy];
                  return sum;
                });
}

cublasStatus_t nrm2(cublasHandle_t handle, const char* api, std::int64_t n, const double* x,
                    std::int64_t incx, double* result) {
  const Strided in{x, CUDA_R_64F, std::max<std::int64_t>(n, 0), incx};
  return reduce(handle, api, in, in, result, [=] {
    double norm = 0.0;
    for (std::int64_t i = 0; i < n; ++i) norm = std::hypot(norm, x[i * incx]);
    return norm;
  });
}

}  // namespace
}  // namespace thresher::emulator

using namespace thresher::emulator;

#define THRESHER_BLAS_ENTER(API)                                               \
  constexpr const char* api = #API;                                            \
  const Entry entry(api, CUBLAS_STATUS_ALLOC_FAILED);                          \
  if (handles().live.count(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED; \
  if (entry.fault()) return static_cast<cublasStatus_t>(entry.fault())

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  const Entry entry("cublasCreate", CUBLAS_STATUS_ALLOC_FAILED);
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  if (entry.fault()) return static_cast<cublasStatus_t>(entry.fault());
  *handle = new cublasContext;
  handles().live.insert(*handle);
  count_handles("cuBLAS handles", 1);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  const Entry entry("cublasDestroy", CUBLAS_STATUS_ALLOC_FAILED);
  if (handles().live.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  count_handles("cuBLAS handles", -1);
  delete handle;
  return static_cast<cublasStatus_t>(entry.fault());
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  THRESHER_BLAS_ENTER(cublasSetStream);
  if (!stream_is_live(stream)) report("cublasSetStream: the stream is not alive");
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  THRESHER_BLAS_ENTER(cublasGetStream);
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  THRESHER_BLAS_ENTER(cublasSetPointerMode);
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  THRESHER_BLAS_ENTER(cublasSetMathMode);
  handle->math_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  THRESHER_BLAS_ENTER(cublasSetWorkspace);
  if (workspace && !arena_check(workspace, bytes, api)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int* version) {
  THRESHER_BLAS_ENTER(cublasGetVersion);
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
#define THRESHER_STATUS(NAME) \
  case NAME:                  \
    return #NAME
    THRESHER_STATUS(CUBLAS_STATUS_SUCCESS);
    THRESHER_STATUS(CUBLAS_STATUS_NOT_INITIALIZED);
    THRESHER_STATUS(CUBLAS_STATUS_ALLOC_FAILED);
    THRESHER_STATUS(CUBLAS_STATUS_INVALID_VALUE);
    THRESHER_STATUS(CUBLAS_STATUS_ARCH_MISMATCH);
    THRESHER_STATUS(CUBLAS_STATUS_MAPPING_ERROR);
    THRESHER_STATUS(CUBLAS_STATUS_EXECUTION_FAILED);
    THRESHER_STATUS(CUBLAS_STATUS_INTERNAL_ERROR);
    THRESHER_STATUS(CUBLAS_STATUS_NOT_SUPPORTED);
    THRESHER_STATUS(CUBLAS_STATUS_LICENSE_ERROR);
#undef THRESHER_STATUS
  }
  return "unknown cuBLAS status";
}
const char* cublasGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }

// ---- products; each with int and with 64-bit sizes ----

#define THRESHER_GEMM(LETTER, T, SUFFIX, INT)                                                      \
  cublasStatus_t cublas##LETTER##gemm_v2##SUFFIX(cublasHandle_t handle, cublasOperation_t trans_a, \
                                                 cublasOperation_t trans_b, INT m, INT n, INT k,   \
                                                 const T* alpha, const T* a, INT lda, const T* b,  \
                                                 INT ldb, const T* beta, T* c, INT ldc) {          \
    THRESHER_BLAS_ENTER(cublas##LETTER##gemm##SUFFIX);                                             \
    return gemm(handle, api, trans_a, trans_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, \
                0, 1);                                                                             \
  }                                                                                                \
  cublasStatus_t cublas##LETTER##gemmStridedBatched##SUFFIX(                                       \
      cublasHandle_t handle, cublasOperation_t trans_a, cublasOperation_t trans_b, INT m, INT n,   \
      INT k, const T* alpha, const T* a, INT lda, long long stride_a, const T* b, INT ldb,         \
      long long stride_b, const T* beta, T* c, INT ldc, long long stride_c, INT batches) {         \
    THRESHER_BLAS_ENTER(cublas##LETTER##gemmStridedBatched##SUFFIX);                               \
    return gemm(handle, api, trans_a, trans_b, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, \
                beta, c, ldc, stride_c, batches);                                                  \
  }                                                                                                \
  cublasStatus_t cublas##LETTER##gemv_v2##SUFFIX(                                                  \
      cublasHandle_t handle, cublasOperation_t trans, INT m, INT n, const T* alpha, const T* a,    \
      INT lda, const T* x, INT incx, const T* beta, T* y, INT incy) {                              \
    THRESHER_BLAS_ENTER(cublas##LETTER##gemv##SUFFIX);                                             \
    return gemv(handle, api, trans, m, n, alpha, a, lda, x, incx, beta, y, incy);                  \
  }
THRESHER_GEMM(S, float, , int)
THRESHER_GEMM(S, float, _64, std::int64_t)
THRESHER_GEMM(D, double, , int)
THRESHER_GEMM(D, double, _64, std::int64_t)

#define THRESHER_GEMM_EX(SUFFIX, INT)                                                             \
  cublasStatus_t cublasGemmEx##SUFFIX(                                                            \
      cublasHandle_t handle, cublasOperation_t trans_a, cublasOperation_t trans_b, INT m, INT n,  \
      INT k, const void* alpha, const void* a, cudaDataType a_type, INT lda, const void* b,       \
      cudaDataType b_type, INT ldb, const void* beta, void* c, cudaDataType c_type, INT ldc,      \
      cublasComputeType_t compute, cublasGemmAlgo_t) {                                            \
    THRESHER_BLAS_ENTER(cublasGemmEx##SUFFIX);                                                    \
    return run_product(                                                                           \
        handle, api,                                                                              \
        make_product(trans_a, trans_b, m, n, k, {a, a_type, 0, 0, lda, 0},                        \
                     {b, b_type, 0, 0, ldb, 0}, {c, c_type, 0, 0, ldc, 0}, 1, compute),           \
        alpha, beta);                                                                             \
  }                                                                                               \
  cublasStatus_t cublasGemmStridedBatchedEx##SUFFIX(                                              \
      cublasHandle_t handle, cublasOperation_t trans_a, cublasOperation_t trans_b, INT m, INT n,  \
      INT k, const void* alpha, const void* a, cudaDataType a_type, INT lda, long long stride_a,  \
      const void* b, cudaDataType b_type, INT ldb, long long stride_b, const void* beta, void* c, \
      cudaDataType c_type, INT ldc, long long stride_c, INT batches, cublasComputeType_t compute, \
      cublasGemmAlgo_t) {                                                                         \
    THRESHER_BLAS_ENTER(cublasGemmStridedBatchedEx##SUFFIX);                                      \
    return run_product(handle, api,                                                               \
                       make_product(trans_a, trans_b, m, n, k, {a, a_type, 0, 0, lda, stride_a},  \
                                    {b, b_type, 0, 0, ldb, stride_b},                             \
                                    {c, c_type, 0, 0, ldc, stride_c}, batches, compute),          \
                       alpha, beta);                                                              \
  }
THRESHER_GEMM_EX(, int)
THRESHER_GEMM_EX(_64, std::int64_t)

#define THRESHER_DOUBLE_ONLY(SUFFIX, INT)                                                          \
  cublasStatus_t cublasDsyrk_v2##SUFFIX(                                                           \
      cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, INT n, INT k,         \
      const double* alpha, const double* a, INT lda, const double* beta, double* c, INT ldc) {     \
    THRESHER_BLAS_ENTER(cublasDsyrk##SUFFIX);                                                      \
    return syrk(handle, api, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);                      \
  }                                                                                                \
  cublasStatus_t cublasDtrsm_v2##SUFFIX(cublasHandle_t handle, cublasSideMode_t side,              \
                                        cublasFillMode_t uplo, cublasOperation_t trans,            \
                                        cublasDiagType_t diag, INT m, INT n, const double* alpha,  \
                                        const double* a, INT lda, double* b, INT ldb) {            \
    THRESHER_BLAS_ENTER(cublasDtrsm##SUFFIX);                                                      \
    return trsm(handle, api, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);                \
  }                                                                                                \
  cublasStatus_t cublasDgeam##SUFFIX(cublasHandle_t handle, cublasOperation_t trans_a,             \
                                     cublasOperation_t trans_b, INT m, INT n, const double* alpha, \
                                     const double* a, INT lda, const double* beta,                 \
                                     const double* b, INT ldb, double* c, INT ldc) {               \
    THRESHER_BLAS_ENTER(cublasDgeam##SUFFIX);                                                      \
    return geam(handle, api, trans_a, trans_b, m, n, alpha, a, lda, beta, b, ldb, c, ldc);         \
  }                                                                                                \
  cublasStatus_t cublasDaxpy_v2##SUFFIX(cublasHandle_t handle, INT n, const double* alpha,         \
                                        const double* x, INT incx, double* y, INT incy) {          \
    THRESHER_BLAS_ENTER(cublasDaxpy##SUFFIX);                                                      \
    return axpy(handle, api, n, alpha, x, incx, y, incy);                                          \
  }                                                                                                \
  cublasStatus_t cublasDscal_v2##SUFFIX(cublasHandle_t handle, INT n, const double* alpha,         \
                                        double* x, INT incx) {                                     \
    THRESHER_BLAS_ENTER(cublasDscal##SUFFIX);                                                      \
    return scal(handle, api, n, alpha, x, incx);                                                   \
  }                                                                                                \
  cublasStatus_t cublasDdot_v2##SUFFIX(cublasHandle_t handle, INT n, const double* x, INT incx,    \
                                       const double* y, INT incy, double* result) {                \
    THRESHER_BLAS_ENTER(cublasDdot##SUFFIX);                                                       \
    return dot(handle, api, n, x, incx, y, incy, result);                                          \
  }                                                                                                \
  cublasStatus_t cublasDnrm2_v2##SUFFIX(cublasHandle_t handle, INT n, const double* x, INT incx,   \
                                        double* result) {                                          \
    THRESHER_BLAS_ENTER(cublasDnrm2##SUFFIX);                                                      \
    return nrm2(handle, api, n, x, incx, result);                                                  \
  }
THRESHER_DOUBLE_ONLY(, int)
THRESHER_DOUBLE_ONLY(_64, std::int64_t)

}  // extern "C"

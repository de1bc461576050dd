// cuSOLVER's dense eigendecomposition and Cholesky factorisation, in double, on the CPU.
#include <cusolverDn.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "backend/blas.hpp"
#include "emulator_core.hpp"

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};
struct cusolverDnParams {};

namespace thresher::emulator {
namespace {

constexpr int kWorkspacePerRow = 16;  // doubles; invented, but it must be asked for and given

struct Live {
  std::set<const void*> handles;
  std::uint64_t generation = 0;
};

Live& live() {
  static Live& instance = *new Live;
  if (instance.generation != device_generation()) {
    instance.handles.clear();
    instance.generation = device_generation();
  }
  return instance;
}

struct Matrix {
  double* data;
  std::int64_t rows, cols, ld;
};

bool lies_in_memory(const Matrix& matrix, const char* api) {
  if (matrix.rows == 0 || matrix.cols == 0) return true;
  const std::int64_t elements = matrix.ld * (matrix.cols - 1) + matrix.rows;
  return arena_check(matrix.data, static_cast<std::size_t>(elements) * sizeof(double), api);
}

/// Only the triangle that the routine may read.
void check_triangle(const Matrix& a, bool lower, const char* api) {
  for (std::int64_t j = 0; j < a.cols; ++j) {
    const std::int64_t begin = lower ? j : 0, end = lower ? a.rows : j + 1;
    if (!shadow_check_initialised(a.data + j * a.ld + begin,
                                  static_cast<std::size_t>(end - begin) * sizeof(double), api)) {
      return;
    }
  }
}

void write_info(int* info, int value) {
  *info = value;
  shadow_set_initialised(info, sizeof(int), true);
}

/// Runs `work`, which returns the info, in the stream's order, unless an info is planted.
template <class Work>
cusolverStatus_t run_solver(cusolverDnHandle_t handle, const char* api, int* info, void* workspace,
                            std::size_t workspace_bytes, Work work) {
  if (!arena_check(info, sizeof(int), api) || !arena_check(workspace, workspace_bytes, api)) {
    return CUSOLVER_STATUS_INVALID_VALUE;
  }
  enqueue(handle->stream, [=] {
    if (sticky_error() != cudaSuccess) return;
    if (workspace_bytes > 0) arena_forget_values(workspace, workspace_bytes);
    const int planted = planted_solver_info();
    write_info(info, planted != 0 ? planted : work());
  });
  return CUSOLVER_STATUS_SUCCESS;
}

int eigendecompose(bool vectors, bool lower, const Matrix& a, double* eigenvalues,
                   const char* api) {
  const std::int64_t n = a.rows;
  check_triangle(a, lower, api);
  std::vector<double> full(static_cast<std::size_t>(n * n));
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = j; i < n; ++i) {  // lower triangle
      full[static_cast<std::size_t>(j * n + i)] =
          lower ? a.data[j * a.ld + i] : a.data[i * a.ld + j];
    }
  }
  if (!blas::symmetric_eigen(n, full.data(), n, eigenvalues)) return static_cast<int>(n);
  shadow_set_initialised(eigenvalues, static_cast<std::size_t>(n) * sizeof(double), true);
  if (!vectors) return 0;
  for (std::int64_t j = 0; j < n; ++j) {
    double* column = a.data + j * a.ld;
    std::copy_n(full.data() + j * n, n, column);
    shadow_set_initialised(column, static_cast<std::size_t>(n) * sizeof(double), true);
  }
  return 0;
}

/// A = L L' or U'U in the given triangle; returns the order of the first minor that is not
/// positive, or 0.
int factorise(bool lower, const Matrix& a, const char* api) {
  check_triangle(a, lower, api);
  const auto at = [&](std::int64_t i, std::int64_t j) -> double& {  // of L, i >= j
    return lower ? a.data[j * a.ld + i] : a.data[i * a.ld + j];
  };
  for (std::int64_t j = 0; j < a.rows; ++j) {
    double pivot = at(j, j);
    for (std::int64_t l = 0; l < j; ++l) pivot -= at(j, l) * at(j, l);
    if (!(pivot > 0.0)) return static_cast<int>(j + 1);
    at(j, j) = std::sqrt(pivot);
    for (std::int64_t i = j + 1; i < a.rows; ++i) {
      double sum = at(i, j);
      for (std::int64_t l = 0; l < j; ++l) sum -= at(i, l) * at(j, l);
      at(i, j) = sum / at(j, j);
    }
  }
  return 0;
}

int solve_factored(bool lower, const Matrix& a, const Matrix& b, const char* api) {
  check_triangle(a, lower, api);
  const std::int64_t n = a.rows;
  const auto at = [&](std::int64_t i, std::int64_t j) {  // of L, i >= j
    return lower ? a.data[j * a.ld + i] : a.data[i * a.ld + j];
  };
  for (std::int64_t c = 0; c < b.cols; ++c) {
    double* x = b.data + c * b.ld;
    shadow_check_initialised(x, static_cast<std::size_t>(n) * sizeof(double), api);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t l = 0; l < i; ++l) x[i] -= at(i, l) * x[l];
      x[i] /= at(i, i);
    }
    for (std::int64_t i = n - 1; i >= 0; --i) {
      for (std::int64_t l = i + 1; l < n; ++l) x[i] -= at(l, i) * x[l];
      x[i] /= at(i, i);
    }
  }
  return 0;
}

bool is_square(std::int64_t n, std::int64_t ld) {
  return n >= 0 && ld >= std::max<std::int64_t>(1, n);
}

}  // namespace
}  // namespace thresher::emulator

using namespace thresher::emulator;

#define THRESHER_SOLVER_ENTER(API)                                               \
  constexpr const char* api = #API;                                              \
  const Entry entry(api, CUSOLVER_STATUS_ALLOC_FAILED);                          \
  if (live().handles.count(handle) == 0) return CUSOLVER_STATUS_NOT_INITIALIZED; \
  if (entry.fault()) return static_cast<cusolverStatus_t>(entry.fault())

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  const Entry entry("cusolverDnCreate", CUSOLVER_STATUS_ALLOC_FAILED);
  if (!handle) return CUSOLVER_STATUS_INVALID_VALUE;
  if (entry.fault()) return static_cast<cusolverStatus_t>(entry.fault());
  *handle = new cusolverDnContext;
  live().handles.insert(*handle);
  count_handles("cuSOLVER handles", 1);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  const Entry entry("cusolverDnDestroy", CUSOLVER_STATUS_ALLOC_FAILED);
  if (live().handles.erase(handle) == 0) return CUSOLVER_STATUS_NOT_INITIALIZED;
  count_handles("cuSOLVER handles", -1);
  delete handle;
  return static_cast<cusolverStatus_t>(entry.fault());
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  THRESHER_SOLVER_ENTER(cusolverDnSetStream);
  if (!stream_is_live(stream)) report(std::string(api) + ": the stream is not alive");
  handle->stream = stream;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
  const Entry entry("cusolverDnCreateParams", CUSOLVER_STATUS_ALLOC_FAILED);
  if (!params) return CUSOLVER_STATUS_INVALID_VALUE;
  if (entry.fault()) return static_cast<cusolverStatus_t>(entry.fault());
  *params = new cusolverDnParams;
  live().handles.insert(*params);
  count_handles("cuSOLVER parameter objects", 1);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
  const Entry entry("cusolverDnDestroyParams", CUSOLVER_STATUS_ALLOC_FAILED);
  if (live().handles.erase(params) == 0) return CUSOLVER_STATUS_INVALID_VALUE;
  count_handles("cuSOLVER parameter objects", -1);
  delete params;
  return static_cast<cusolverStatus_t>(entry.fault());
}

// ---- symmetric eigendecomposition ----

cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t,
                                             cublasFillMode_t, int n, const double*, int lda,
                                             const double*, int* lwork) {
  THRESHER_SOLVER_ENTER(cusolverDnDsyevd_bufferSize);
  if (!is_square(n, lda) || !lwork) return CUSOLVER_STATUS_INVALID_VALUE;
  *lwork = kWorkspacePerRow * n;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t jobz,
                                  cublasFillMode_t uplo, int n, double* a, int lda, double* w,
                                  double* work, int lwork, int* info) {
  THRESHER_SOLVER_ENTER(cusolverDnDsyevd);
  const Matrix matrix{a, n, n, lda}, values{w, n, 1, n};
  if (!is_square(n, lda) || lwork < kWorkspacePerRow * n || !lies_in_memory(matrix, api) ||
      !lies_in_memory(values, api)) {
    return CUSOLVER_STATUS_INVALID_VALUE;
  }
  return run_solver(handle, api, info, work, static_cast<std::size_t>(lwork) * sizeof(double), [=] {
    return eigendecompose(jobz == CUSOLVER_EIG_MODE_VECTOR, uplo == CUBLAS_FILL_MODE_LOWER, matrix,
                          w, api);
  });
}
cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cusolverEigMode_t, cublasFillMode_t, std::int64_t n,
                                             cudaDataType a_type, const void*, std::int64_t lda,
                                             cudaDataType w_type, const void*,
                                             cudaDataType compute_type, std::size_t* device_bytes,
                                             std::size_t* host_bytes) {
  THRESHER_SOLVER_ENTER(cusolverDnXsyevd_bufferSize);
  if (live().handles.count(params) == 0 || !is_square(n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
  if (a_type != CUDA_R_64F || w_type != CUDA_R_64F || compute_type != CUDA_R_64F) {
    report(std::string(api) + ": only double is emulated");
    return CUSOLVER_STATUS_NOT_SUPPORTED;
  }
  *device_bytes = static_cast<std::size_t>(kWorkspacePerRow * n) * sizeof(double);
  *host_bytes = static_cast<std::size_t>(n) * sizeof(double);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                  cusolverEigMode_t jobz, cublasFillMode_t uplo, std::int64_t n,
                                  cudaDataType a_type, void* a, std::int64_t lda,
                                  cudaDataType w_type, void* w, cudaDataType compute_type,
                                  void* device_workspace, std::size_t device_bytes,
                                  void* host_workspace, std::size_t host_bytes, int* info) {
  THRESHER_SOLVER_ENTER(cusolverDnXsyevd);
  if (a_type != CUDA_R_64F || w_type != CUDA_R_64F || compute_type != CUDA_R_64F) {
    report(std::string(api) + ": only double is emulated");
    return CUSOLVER_STATUS_NOT_SUPPORTED;
  }
  double* values = static_cast<double*>(w);
  const Matrix matrix{static_cast<double*>(a), n, n, lda};
  if (live().handles.count(params) == 0 || !is_square(n, lda) ||
      device_bytes < static_cast<std::size_t>(kWorkspacePerRow * n) * sizeof(double) ||
      host_bytes < static_cast<std::size_t>(n) * sizeof(double) ||
      (n > 0 && host_workspace == nullptr) || !lies_in_memory(matrix, api) ||
      !lies_in_memory({values, n, 1, n}, api)) {
    return CUSOLVER_STATUS_INVALID_VALUE;
  }
  std::fill_n(static_cast<char*>(host_workspace), host_bytes, char{0});  // it must be writable
  return run_solver(handle, api, info, device_workspace, device_bytes, [=] {
    return eigendecompose(jobz == CUSOLVER_EIG_MODE_VECTOR, uplo == CUBLAS_FILL_MODE_LOWER, matrix,
                          values, api);
  });
}

// ---- Cholesky ----

cusolverStatus_t cusolverDnDpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t, int n,
                                             double*, int lda, int* lwork) {
  THRESHER_SOLVER_ENTER(cusolverDnDpotrf_bufferSize);
  if (!is_square(n, lda) || !lwork) return CUSOLVER_STATUS_INVALID_VALUE;
  *lwork = kWorkspacePerRow * n;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDpotrf(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n,
                                  double* a, int lda, double* work, int lwork, int* info) {
  THRESHER_SOLVER_ENTER(cusolverDnDpotrf);
  const Matrix matrix{a, n, n, lda};
  if (!is_square(n, lda) || lwork < kWorkspacePerRow * n || !lies_in_memory(matrix, api)) {
    return CUSOLVER_STATUS_INVALID_VALUE;
  }
  return run_solver(handle, api, info, work, static_cast<std::size_t>(lwork) * sizeof(double),
                    [=] { return factorise(uplo == CUBLAS_FILL_MODE_LOWER, matrix, api); });
}
cusolverStatus_t cusolverDnDpotrs(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n,
                                  int n_columns, const double* a, int lda, double* b, int ldb,
                                  int* info) {
  THRESHER_SOLVER_ENTER(cusolverDnDpotrs);
  const Matrix factor{const_cast<double*>(a), n, n, lda}, right{b, n, n_columns, ldb};
  if (!is_square(n, lda) || !is_square(n, ldb) || n_columns < 0 || !lies_in_memory(factor, api) ||
      !lies_in_memory(right, api)) {
    return CUSOLVER_STATUS_INVALID_VALUE;
  }
  return run_solver(handle, api, info, nullptr, 0, [=] {
    return solve_factored(uplo == CUBLAS_FILL_MODE_LOWER, factor, right, api);
  });
}

}  // extern "C"

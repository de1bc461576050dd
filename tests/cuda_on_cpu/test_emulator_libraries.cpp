#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cusolverDn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "emulated_case.hpp"

// The emulated cuBLAS and cuSOLVER against sums written out here.
namespace thresher::emulator {
namespace {

using cuda::DeviceArray;

template <class T>
std::vector<T> normals(std::size_t n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> out(n);
  for (T& v : out) v = static_cast<T>(normal(engine));
  return out;
}

class LibraryTest : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    ASSERT_EQ(cublasCreate(&blas_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cusolverDnCreate(&solver_), CUSOLVER_STATUS_SUCCESS);
    ASSERT_EQ(cusolverDnCreateParams(&params_), CUSOLVER_STATUS_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cublasDestroy(blas_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cusolverDnDestroy(solver_), CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(cusolverDnDestroyParams(params_), CUSOLVER_STATUS_SUCCESS);
    EmulatedTest::TearDown();
  }
  /// Looks at what was reported, so that TearDown does not.
  void expect_report(const char* text) {
    std::string all;
    for (const std::string& report : control().reports()) all += report + "\n";
    EXPECT_NE(all.find(text), std::string::npos) << all;
    control().clear_reports();
  }

  cublasHandle_t blas_ = nullptr;
  cusolverDnHandle_t solver_ = nullptr;
  cusolverDnParams_t params_ = nullptr;
};

constexpr double kOne = 1.0, kZero = 0.0;
constexpr float kOneF = 1.0f, kZeroF = 0.0f;

/// Entry (i, j) of op(A).
double at(const std::vector<double>& a, std::int64_t ld, bool trans, std::int64_t i,
          std::int64_t j) {
  return a[static_cast<std::size_t>(trans ? i * ld + j : j * ld + i)];
}

TEST_F(LibraryTest, GemmMatchesItsDefinitionForEveryTransposition) {
  const int m = 5, n = 4, k = 7, ld = 9;
  const std::vector<double> a = normals<double>(ld * 9, 1), b = normals<double>(ld * 9, 2);
  const std::vector<double> c0 = normals<double>(ld * 9, 3);
  const DeviceArray<double> device_a = on_device(a), device_b = on_device(b);
  const double alpha = 1.5, beta = -0.5;

  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const DeviceArray<double> device_c = on_device(c0);
      ASSERT_EQ(cublasDgemm_64(blas_, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                               tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha, device_a.data(), ld,
                               device_b.data(), ld, &beta, device_c.data(), ld),
                CUBLAS_STATUS_SUCCESS);
      const std::vector<double> c = on_host(device_c);
      for (int j = 0; j < n; ++j) {
        for (int i = 0; i < m; ++i) {
          double sum = 0.0;
          for (int l = 0; l < k; ++l) sum += at(a, ld, ta, i, l) * at(b, ld, tb, l, j);
          EXPECT_NEAR(at(c, ld, false, i, j), alpha * sum + beta * at(c0, ld, false, i, j), 1e-14);
        }
      }
      EXPECT_EQ(c[m], c0[m]) << "rows beyond m must stay";
    }
  }
}

TEST_F(LibraryTest, BetaZeroDoesNotReadC) {
  const DeviceArray<double> a = on_device(normals<double>(16, 1));
  DeviceArray<double> c(16), y(4);

  ASSERT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &kOne, a.data(), 4, a.data(), 4,
                        &kZero, c.data(), 4),
            CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(
      cublasDgemv(blas_, CUBLAS_OP_T, 4, 4, &kOne, a.data(), 4, a.data(), 1, &kZero, y.data(), 1),
      CUBLAS_STATUS_SUCCESS);

  for (const double v : on_host(c)) EXPECT_TRUE(std::isfinite(v));
  for (const double v : on_host(y)) EXPECT_TRUE(std::isfinite(v));
}

TEST_F(LibraryTest, BetaOneReadsUninitialisedC) {
  const DeviceArray<double> a = on_device(normals<double>(16, 1));
  DeviceArray<double> c(16);

  ASSERT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &kOne, a.data(), 4, a.data(), 4,
                        &kOne, c.data(), 4),
            CUBLAS_STATUS_SUCCESS);

  EXPECT_TRUE(std::isnan(on_host(c)[0]));
  if (control().checks_accesses()) expect_report("cublasDgemm reads uninitialised device memory");
}

TEST_F(LibraryTest, StridedBatchIsOneProductAfterAnother) {
  const int n = 3, batches = 4;
  const std::vector<float> a = normals<float>(n * n * batches, 1);
  const DeviceArray<float> device_a = on_device(a);
  DeviceArray<float> c(n * n * batches);

  ASSERT_EQ(cublasSgemmStridedBatched(blas_, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &kOneF,
                                      device_a.data(), n, n * n, device_a.data(), n, n * n, &kZeroF,
                                      c.data(), n, n * n, batches),
            CUBLAS_STATUS_SUCCESS);

  const std::vector<float> got = on_host(c);
  for (std::size_t b = 0; b < batches; ++b) {
    const float* x = a.data() + b * n * n;
    EXPECT_NEAR(got[b * n * n], x[0] * x[0] + x[1] * x[1] + x[2] * x[2], 1e-5f);
  }
}

TEST_F(LibraryTest, OperandOutsideItsAllocation) {
  DeviceArray<double> a(15), c(16);
  a.zero(nullptr);

  EXPECT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &kOne, a.data(), 4, a.data(), 4,
                        &kZero, c.data(), 4),
            CUBLAS_STATUS_INVALID_VALUE);
  expect_report("cublasDgemm: 128 bytes at device allocation");
}

TEST_F(LibraryTest, WorkWaitsForItsStream) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cublasSetStream(blas_, stream), CUBLAS_STATUS_SUCCESS);
  {
    const DeviceArray<double> a = on_device(std::vector<double>{2.0}, stream);
    DeviceArray<double> c(1);
    cuda::PinnedArray<double> result(1);
    ASSERT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &kOne, a.data(), 1, a.data(), 1,
                          &kZero, c.data(), 1),
              CUBLAS_STATUS_SUCCESS);
    cuda::copy_to_host(c.data(), 1, result.data(), stream);

    EXPECT_TRUE(std::isnan(result[0])) << "nothing has waited yet";
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(result[0], 4.0);
  }
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

/// The largest error of x'y in the given types over the bound n u |x| |y|, u = 2^-24: above 1 if a
/// claim of rounding to nearest with unlimited luck fails.
template <class Half>
double relative_error(cublasHandle_t handle, cudaDataType type, cublasComputeType_t compute,
                      const std::vector<Half>& x, double exact, double scale) {
  const auto n = static_cast<int>(x.size());
  const DeviceArray<Half> device_x = on_device(x);
  DeviceArray<float> c(1);
  EXPECT_EQ(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, n, &kOneF, device_x.data(), type,
                         n, device_x.data(), type, n, &kZeroF, c.data(), CUDA_R_32F, 1, compute,
                         CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_SUCCESS);
  return (static_cast<double>(on_host(c)[0]) - exact) / scale;
}

TEST_F(LibraryTest, LowPrecisionSumsAreTruncated) {
  const std::size_t n = 4096;
  std::vector<__half> halves(n);
  std::vector<__nv_bfloat16> bfloats(n);
  double exact_half = 0.0, exact_bfloat = 0.0;
  const std::vector<float> values = normals<float>(n, 4);
  for (std::size_t i = 0; i < n; ++i) {
    halves[i] = __float2half_rn(values[i]);
    bfloats[i] = __float2bfloat16_rn(values[i]);
    exact_half += std::pow(static_cast<double>(__half2float(halves[i])), 2.0);
    exact_bfloat += std::pow(static_cast<double>(__bfloat162float(bfloats[i])), 2.0);
  }
  const double unit = std::ldexp(1.0, -24);

  const double half =
      relative_error(blas_, CUDA_R_16F, CUBLAS_COMPUTE_32F, halves, exact_half, unit * exact_half);
  const double bfloat = relative_error(blas_, CUDA_R_16BF, CUBLAS_COMPUTE_32F, bfloats,
                                       exact_bfloat, unit * exact_bfloat);

  // Every sum of positive terms is cut: far below zero, beyond what rounding to nearest would do
  // (about sqrt(n) = 64), within 2 n.
  for (const double error : {half, bfloat}) {
    EXPECT_LT(error, -500.0);
    EXPECT_GT(error, -2.0 * static_cast<double>(n));
  }
}

TEST_F(LibraryTest, Tf32RoundsItsInputs) {
  const float x = 1.0f + std::ldexp(1.0f, -11) + std::ldexp(1.0f, -20);  // just above the middle
  const std::vector<float> values{x};

  EXPECT_EQ(relative_error(blas_, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, values,
                           std::pow(1.0 + std::ldexp(1.0, -10), 2.0), 1.0),
            0.0);
  EXPECT_NEAR(relative_error(blas_, CUDA_R_32F, CUBLAS_COMPUTE_32F, values,
                             static_cast<double>(x) * static_cast<double>(x), 1.0),
              0.0, 1e-7);
}

TEST_F(LibraryTest, SyrkFillsItsTriangleAlone) {
  const int n = 4, k = 6;
  const std::vector<double> a = normals<double>(k * n, 1);
  const DeviceArray<double> device_a = on_device(a);
  const DeviceArray<double> device_c = on_device(std::vector<double>(n * n, 7.0));

  ASSERT_EQ(cublasDsyrk_64(blas_, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, n, k, &kOne, device_a.data(),
                           k, &kZero, device_c.data(), n),
            CUBLAS_STATUS_SUCCESS);

  const std::vector<double> c = on_host(device_c);
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) {
      double sum = 0.0;
      for (int l = 0; l < k; ++l) sum += at(a, k, true, i, l) * at(a, k, false, l, j);
      EXPECT_NEAR(at(c, n, false, i, j), i >= j ? sum : 7.0, 1e-14);
    }
  }
}

TEST_F(LibraryTest, TrsmSolvesFromBothSides) {
  const int n = 5;
  std::vector<double> a = normals<double>(n * n, 1);
  for (int i = 0; i < n; ++i) a[static_cast<std::size_t>(i * n + i)] += 5.0;
  const std::vector<double> b = normals<double>(n * n, 2);
  const DeviceArray<double> device_a = on_device(a);

  for (const bool left : {false, true}) {
    for (const bool lower : {false, true}) {
      for (const bool trans : {false, true}) {
        const DeviceArray<double> device_x = on_device(b);
        ASSERT_EQ(cublasDtrsm(blas_, left ? CUBLAS_SIDE_LEFT : CUBLAS_SIDE_RIGHT,
                              lower ? CUBLAS_FILL_MODE_LOWER : CUBLAS_FILL_MODE_UPPER,
                              trans ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, n, &kOne,
                              device_a.data(), n, device_x.data(), n),
                  CUBLAS_STATUS_SUCCESS);
        const std::vector<double> x = on_host(device_x);
        const auto triangle = [&](int i, int j) {  // of op(A)
          const bool kept = trans ? (lower ? j >= i : j <= i) : (lower ? i >= j : i <= j);
          return kept ? at(a, n, trans, i, j) : 0.0;
        };
        for (int j = 0; j < n; ++j) {
          for (int i = 0; i < n; ++i) {
            double sum = 0.0;
            for (int l = 0; l < n; ++l) {
              sum += left ? triangle(i, l) * at(x, n, false, l, j)
                          : at(x, n, false, i, l) * triangle(l, j);
            }
            EXPECT_NEAR(sum, at(b, n, false, i, j), 1e-13);
          }
        }
      }
    }
  }
}

TEST_F(LibraryTest, VectorOperations) {
  const DeviceArray<double> x = on_device(std::vector<double>{3.0, -4.0, 1.0});
  const DeviceArray<double> y = on_device(std::vector<double>{1.0, 2.0, 3.0});
  DeviceArray<double> z(6);
  double dot = 0.0, norm = 0.0;
  const double two = 2.0;

  ASSERT_EQ(cublasDdot(blas_, 3, x.data(), 1, y.data(), 1, &dot), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasDnrm2(blas_, 2, x.data(), 1, &norm), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasDaxpy(blas_, 3, &two, x.data(), 1, y.data(), 1), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasDscal(blas_, 3, &two, x.data(), 1), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasDgeam(blas_, CUBLAS_OP_T, CUBLAS_OP_N, 3, 1, &kOne, x.data(), 1, &two, y.data(),
                        3, z.data(), 3),
            CUBLAS_STATUS_SUCCESS);

  EXPECT_EQ(dot, -2.0);
  EXPECT_NEAR(norm, 5.0, 1e-15);
  EXPECT_EQ(on_host(y), (std::vector<double>{7.0, -6.0, 5.0}));
  EXPECT_EQ(on_host(x), (std::vector<double>{6.0, -8.0, 2.0}));
  const std::vector<double> sum{20.0, -20.0, 12.0};
  std::vector<double> got(3);
  cuda::copy_to_host(z.data(), 3, got.data(), nullptr);
  EXPECT_EQ(got, sum);
}

TEST_F(LibraryTest, DeviceResultsAreWrittenInOrder) {
  ASSERT_EQ(cublasSetPointerMode(blas_, CUBLAS_POINTER_MODE_DEVICE), CUBLAS_STATUS_SUCCESS);
  const DeviceArray<double> x = on_device(std::vector<double>{3.0, 4.0});
  DeviceArray<double> norm(1);
  double on_the_host = 0.0;

  ASSERT_EQ(cublasDnrm2(blas_, 2, x.data(), 1, norm.data()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasDnrm2(blas_, 2, x.data(), 1, &on_the_host), CUBLAS_STATUS_INVALID_VALUE);

  EXPECT_NEAR(on_host(norm)[0], 5.0, 1e-15);
  expect_report("does not match the pointer mode");
}

// ---- cuSOLVER ----

std::vector<double> symmetric(int n, std::uint64_t seed) {
  std::vector<double> a = normals<double>(static_cast<std::size_t>(n * n), seed);
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < j; ++i) {
      a[static_cast<std::size_t>(j * n + i)] = a[static_cast<std::size_t>(i * n + j)];
    }
  }
  return a;
}

TEST_F(LibraryTest, EigenvectorsSatisfyTheirEquation) {
  const int n = 60;
  const std::vector<double> a = symmetric(n, 5);
  for (const cublasFillMode_t uplo : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
    const DeviceArray<double> vectors = on_device(a);
    DeviceArray<double> values(n);
    DeviceArray<int> info(1);
    std::size_t device_bytes = 0, host_bytes = 0;
    ASSERT_EQ(cusolverDnXsyevd_bufferSize(solver_, params_, CUSOLVER_EIG_MODE_VECTOR, uplo, n,
                                          CUDA_R_64F, vectors.data(), n, CUDA_R_64F, values.data(),
                                          CUDA_R_64F, &device_bytes, &host_bytes),
              CUSOLVER_STATUS_SUCCESS);
    DeviceArray<char> workspace(static_cast<Index>(device_bytes));
    std::vector<char> host_workspace(host_bytes);

    ASSERT_EQ(
        cusolverDnXsyevd(solver_, params_, CUSOLVER_EIG_MODE_VECTOR, uplo, n, CUDA_R_64F,
                         vectors.data(), n, CUDA_R_64F, values.data(), CUDA_R_64F, workspace.data(),
                         device_bytes, host_workspace.data(), host_bytes, info.data()),
        CUSOLVER_STATUS_SUCCESS);

    EXPECT_EQ(on_host(info)[0], 0);
    const std::vector<double> v = on_host(vectors), w = on_host(values);
    for (int j = 0; j < n; ++j) {
      const auto column = static_cast<std::size_t>(j);
      EXPECT_LE(w[column > 0 ? column - 1 : 0], w[column]);
      for (int i = 0; i < n; ++i) {
        double sum = 0.0;
        for (int l = 0; l < n; ++l) sum += at(a, n, false, i, l) * at(v, n, false, l, j);
        EXPECT_NEAR(sum, w[column] * at(v, n, false, i, j), 1e-13 * n);
      }
    }
  }
}

TEST_F(LibraryTest, EigensolverNeedsItsWorkspace) {
  DeviceArray<double> a(4), w(2), work(1);
  DeviceArray<int> info(1);
  a.zero(nullptr);

  EXPECT_EQ(cusolverDnDsyevd(solver_, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 2, a.data(),
                             2, w.data(), work.data(), 1, info.data()),
            CUSOLVER_STATUS_INVALID_VALUE);
}

TEST_F(LibraryTest, CholeskySolvesAndSaysWhereItFails) {
  const int n = 6;
  std::vector<double> a = symmetric(n, 6);
  for (int i = 0; i < n; ++i) a[static_cast<std::size_t>(i * n + i)] += 10.0;
  const std::vector<double> b = normals<double>(n, 7);
  DeviceArray<int> info(1);
  for (const cublasFillMode_t uplo : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
    const DeviceArray<double> factor = on_device(a), x = on_device(b);
    int size = 0;
    ASSERT_EQ(cusolverDnDpotrf_bufferSize(solver_, uplo, n, factor.data(), n, &size),
              CUSOLVER_STATUS_SUCCESS);
    DeviceArray<double> work(size);
    ASSERT_EQ(cusolverDnDpotrf(solver_, uplo, n, factor.data(), n, work.data(), size, info.data()),
              CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(on_host(info)[0], 0);
    ASSERT_EQ(cusolverDnDpotrs(solver_, uplo, n, 1, factor.data(), n, x.data(), n, info.data()),
              CUSOLVER_STATUS_SUCCESS);

    const std::vector<double> got = on_host(x);
    for (int i = 0; i < n; ++i) {
      double sum = 0.0;
      for (int l = 0; l < n; ++l) sum += at(a, n, false, i, l) * got[static_cast<std::size_t>(l)];
      EXPECT_NEAR(sum, b[static_cast<std::size_t>(i)], 1e-13);
    }

    std::vector<double> indefinite = a;
    indefinite[2 * n + 2] = -1.0;
    const DeviceArray<double> bad = on_device(indefinite);
    ASSERT_EQ(cusolverDnDpotrf(solver_, uplo, n, bad.data(), n, work.data(), size, info.data()),
              CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(on_host(info)[0], 3);
  }
}

TEST_F(LibraryTest, FaultsReachEveryLibrary) {
  DeviceArray<double> a(16), work(256);
  DeviceArray<int> info(1);
  a.zero(nullptr);

  control().fail("cublasDgemm", 1, CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &kOne, a.data(), 1, a.data(), 1,
                        &kZero, a.data() + 1, 1),
            CUBLAS_STATUS_EXECUTION_FAILED);
  control().fail_any(1);
  EXPECT_EQ(cublasSetStream(blas_, nullptr), CUBLAS_STATUS_ALLOC_FAILED);
  control().fail_any(1);
  EXPECT_EQ(cusolverDnSetStream(solver_, nullptr), CUSOLVER_STATUS_ALLOC_FAILED);
  control().fail_solver(1, 2);
  ASSERT_EQ(cusolverDnDpotrf(solver_, CUBLAS_FILL_MODE_LOWER, 1, a.data(), 1, work.data(), 256,
                             info.data()),
            CUSOLVER_STATUS_SUCCESS);
  EXPECT_EQ(on_host(info)[0], 2);
}

}  // namespace
}  // namespace thresher::emulator

#include "half_sum_probe.hpp"

#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "cuda_check.hpp"
#include "device_memory.hpp"
#include "device_timing.hpp"
#include "half_columns.cuh"

namespace thresher::bench {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// X (k, p) and Z (k, s), columns without gaps.
struct Inputs {
  std::string name;
  std::function<void(std::mt19937_64&, Index k, std::vector<double>& x, std::vector<double>& z)>
      fill;
};

double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

// One product dominates, at a random place; the others are `sign` 2^-e, each less than what an
// aligned addition keeps: if they are truncated, the errors add up.
void one_large(std::mt19937_64& random, Index k, std::vector<double>& x, std::vector<double>& z,
               double sign) {
  for (Index c = 0; c < static_cast<Index>(x.size()) / k; ++c) {
    const double small = std::ldexp(1.0 + std::floor(1024.0 * uniform(random)) / 1024.0,
                                    -static_cast<int>(4 + random() % 10));
    for (Index i = 0; i < k; ++i) x[at(c * k + i)] = small;
    x[at(c * k + static_cast<Index>(random() % static_cast<std::uint64_t>(k)))] = 1.0;
  }
  for (Index c = 0; c < static_cast<Index>(z.size()) / k; ++c) {
    const double small = sign * std::ldexp(1.0 + std::floor(1024.0 * uniform(random)) / 1024.0,
                                           -static_cast<int>(8 + random() % 6));
    for (Index i = 0; i < k; ++i) z[at(c * k + i)] = small;
    z[at(c * k + static_cast<Index>(random() % static_cast<std::uint64_t>(k)))] = 1.0;
  }
}

std::vector<Inputs> families() {
  const auto each = [](auto value) {
    return [value](std::mt19937_64& random, Index, std::vector<double>& x, std::vector<double>& z) {
      for (double& v : x) v = value(random);
      for (double& v : z) v = value(random);
    };
  };
  return {
      {"normal",
       each([](std::mt19937_64& random) { return std::normal_distribution<double>()(random); })},
      // Sums grow and every addition rounds, or truncates, in one direction.
      {"positive", each([](std::mt19937_64& random) { return 0.5 + 0.5 * uniform(random); })},
      {"all bits set", each([](std::mt19937_64& random) {
         return std::ldexp(2047.0, -10 - static_cast<int>(random() % 2));
       })},
      {"wide range", each([](std::mt19937_64& random) {
         const double size = std::ldexp(1.0 + uniform(random), -static_cast<int>(random() % 13));
         return random() % 2 == 0 ? size : -size;
       })},
      {"one large, rest added", [](std::mt19937_64& random, Index k, std::vector<double>& x,
                                   std::vector<double>& z) { one_large(random, k, x, z, 1.0); }},
      {"one large, rest subtracted",
       [](std::mt19937_64& random, Index k, std::vector<double>& x, std::vector<double>& z) {
         one_large(random, k, x, z, -1.0);
       }},
  };
}

/// A product, of which every `stride`-th row and column is looked at.
struct Shape {
  Index terms, p, s, stride;
};

std::vector<__half> rounded(std::vector<double>& values) {
  std::vector<__half> out;
  out.reserve(values.size());
  for (double& v : values) {
    out.push_back(__float2half_rn(static_cast<float>(v)));
    v = static_cast<double>(__half2float(out.back()));
  }
  return out;
}

}  // namespace

bool probe_half_sums(cudaStream_t stream, const cuda::Blas& blas, bool small) {
  // The library takes other kernels for other shapes; the last is that of a round.
  const std::vector<Shape> shapes =
      small
          ? std::vector<Shape>{{16, 24, 8, 1}, {104, 200, 16, 4}}
          : std::vector<Shape>{
                {16, 512, 256, 1}, {104, 512, 256, 1}, {3000, 256, 128, 1}, {504, 20000, 1024, 12}};
  bool within = true;
  std::mt19937_64 random(7);
  for (const Inputs& family : families()) {
    for (const auto& [k, p, s, stride] : shapes) {
      std::vector<double> x(at(k * p)), z(at(k * s));
      family.fill(random, k, x, z);
      const std::vector<__half> half_x = rounded(x), half_z = rounded(z);
      const auto device_x = cuda::to_device<__half>(half_x, stream);
      const auto device_z = cuda::to_device<__half>(half_z, stream);
      const cuda::DeviceArray<float> product(p * s);
      const float one = 1.0F, zero = 0.0F;
      cuda::check(
          cublasGemmEx_64(blas, CUBLAS_OP_T, CUBLAS_OP_N, p, s, k, &one, device_x.data(),
                          CUDA_R_16F, k, device_z.data(), CUDA_R_16F, k, &zero, product.data(),
                          CUDA_R_32F, p, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx_64 (probe)");
      const std::vector<float> got = fetch(product.data(), p * s, stream);
      // Products of halves are exact in double, and so, to 2^-40 of it, is their sum.
      double by_norms = 0.0, by_sizes = 0.0;
      Index looked_at = 0;
      for (Index c = 0; c < s; c += stride) {
        for (Index j = 0; j < p; j += stride, ++looked_at) {
          double sum = 0.0, sizes = 0.0, xx = 0.0, zz = 0.0;
          for (Index i = 0; i < k; ++i) {
            const double a = x[at(j * k + i)], b = z[at(c * k + i)];
            sum += a * b;
            sizes += std::fabs(a * b);
            xx += a * a;
            zz += b * b;
          }
          const double error = std::fabs(static_cast<double>(got[at(c * p + j)]) - sum);
          const double terms = static_cast<double>(k + 2);
          by_norms = std::max(by_norms, error / (terms * std::sqrt(xx * zz)));
          by_sizes = std::max(by_sizes, error / (terms * sizes));
          if (!(error <= terms * cuda::kHalfSumError * std::sqrt(xx * zz))) within = false;
        }
      }
      Line("half_sum_probe")
          .text("inputs", family.name)
          .whole("terms", k)
          .whole("p", p)
          .whole("columns", s)
          .whole("looked_at", looked_at)
          .number("error_by_norms", by_norms)  // what the certificate bounds
          .number("error_by_sizes", by_sizes)  // the sharper form, of one addition
          .number("assumed", cuda::kHalfSumError)
          .number("share_of_assumed", by_norms / cuda::kHalfSumError)
          .number("share_by_sizes", by_sizes / cuda::kHalfSumError)
          .flag("within", by_norms <= cuda::kHalfSumError)
          .print();
    }
  }
  return within;
}

}  // namespace thresher::bench

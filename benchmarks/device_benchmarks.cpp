// Checks and times the kernels on the device of this machine; benchmarks/gpu_check runs it.
//
//     device_benchmarks probe|ceilings|elementwise|checks|replay [--small] [--slots N]
//                       [--last SHARE]
//
// Every result is one JSON object on a line. A kernel is compared with a plain loop before it is
// timed. Exit status: 0; 1 for a wrong kernel or an error of sums beyond what is assumed; 2 for
// errors of CUDA and of the arguments.

#include <cublas_v2.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/proximal_backend.hpp"
#include "cuda_check.hpp"
#include "cuda_context.hpp"
#include "device_memory.hpp"
#include "device_timing.hpp"
#include "half_sum_probe.hpp"
#include "prox.hpp"
#include "prox_step.cuh"
#include "random_case.hpp"
#include "residual_step.cuh"
#include "round_replay.hpp"

namespace thresher::bench {
namespace {

struct Device {
  cuda::DeviceLimits limits;
  cudaDeviceProp properties{};
};

Device open_device() {
  Device out;
  cuda::use_device(out.limits);
  cuda::check(cudaGetDeviceProperties(&out.properties, 0), "cudaGetDeviceProperties");
  out.limits.multiprocessors = out.properties.multiProcessorCount;
  int shared = 0;
  cuda::check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
              "cudaDeviceGetAttribute");
  out.limits.shared_bytes = static_cast<std::size_t>(shared);
  return out;
}

template <class T>
cuda::DeviceArray<T> random_array(Index size, double least, double most, unsigned seed,
                                  cudaStream_t stream) {
  const std::vector<double> values = random_values(size, least, most, seed);
  const std::vector<T> cast(values.begin(), values.end());
  return cuda::to_device<T>(cast, stream);
}

// More than any L2 in use.
cuda::DeviceArray<unsigned char> flush_array(const Device& device) {
  return cuda::DeviceArray<unsigned char>(2 * Index{device.properties.l2CacheSize} + 1024);
}

void measure_copy(const cuda::Stream& stream, bool small) {
  const Index bytes = small ? Index{1} << 16 : Index{1} << 30;
  cuda::DeviceArray<unsigned char> from(bytes), to(bytes);
  from.zero(stream);
  DeviceTimer timer;
  const Timing t = time_repeatedly(
      timer, stream, 15, [&] { cuda::copy_on_device(from.data(), bytes, to.data(), stream); });
  const double moved = 2.0 * static_cast<double>(bytes);
  Line("ceiling")
      .text("name", "copy")
      .number("bytes", moved)
      .timing(t)
      .number("bytes_a_second", moved / t.median)
      .print();
}

// `label` names the shape: op(A) is (m, k), as the library calls it.
void print_product(const char* label, Index m, Index n, Index k, const Timing& t) {
  const double flops =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  Line("ceiling")
      .text("name", label)
      .whole("m", m)
      .whole("n", n)
      .whole("k", k)
      .timing(t)
      .number("flops_a_second", flops / t.median)
      .print();
}

void measure_dgemm(const cuda::Stream& stream, const cuda::Blas& blas, const char* label, Index m,
                   Index n, Index k) {
  const auto a = random_array<double>(k * m, -1.0, 1.0, 1, stream);
  const auto b = random_array<double>(k * n, -1.0, 1.0, 2, stream);
  const cuda::DeviceArray<double> c(m * n);
  const double one = 1.0, zero = 0.0;
  DeviceTimer timer;
  const Timing t = time_repeatedly(timer, stream, 10, [&] {
    cuda::check(cublasDgemm_64(blas, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &one, a.data(), k, b.data(),
                               k, &zero, c.data(), m),
                "cublasDgemm_64");
  });
  print_product(label, m, n, k, t);
}

void measure_half_gemm(const cuda::Stream& stream, const cuda::Blas& blas, const char* label,
                       Index m, Index n, Index k) {
  const auto halves = [&](Index size, unsigned seed) {
    std::vector<__half> out;
    out.reserve(at(size));
    for (const double v : random_values(size, -1.0, 1.0, seed)) {
      out.push_back(__float2half_rn(static_cast<float>(v)));
    }
    return cuda::to_device<__half>(out, stream);
  };
  const auto a = halves(k * m, 1), b = halves(k * n, 2);
  const cuda::DeviceArray<float> c(m * n);
  const float one = 1.0F, zero = 0.0F;
  DeviceTimer timer;
  const Timing t = time_repeatedly(timer, stream, 10, [&] {
    cuda::check(cublasGemmEx_64(blas, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &one, a.data(), CUDA_R_16F,
                                k, b.data(), CUDA_R_16F, k, &zero, c.data(), CUDA_R_32F, m,
                                CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                "cublasGemmEx_64");
  });
  print_product(label, m, n, k, t);
}

bool ceilings(const Device& device, const cuda::Stream& stream, const cuda::Blas& blas,
              bool small) {
  Line("device")
      .text("name", device.properties.name)
      .whole("multiprocessors", device.properties.multiProcessorCount)
      .whole("l2_bytes", device.properties.l2CacheSize)
      .whole("memory_bytes", static_cast<Index>(device.properties.totalGlobalMem))
      .whole("shared_bytes_a_block", static_cast<Index>(device.limits.shared_bytes))
      .print();
  measure_copy(stream, small);
  if (small) {
    measure_dgemm(stream, blas, "dgemm", 48, 48, 48);
    measure_half_gemm(stream, blas, "half_gemm", 48, 48, 48);
    measure_half_gemm(stream, blas, "half_gemm_certification", 200, 16, 64);
    return true;
  }
  measure_dgemm(stream, blas, "dgemm", 8192, 8192, 8192);
  measure_dgemm(stream, blas, "dgemm_certification", 20000, 1024, 500);
  measure_half_gemm(stream, blas, "half_gemm", 8192, 8192, 8192);
  measure_half_gemm(stream, blas, "half_gemm_certification", 20000, 1024, 504);
  measure_half_gemm(stream, blas, "half_gemm_certification_full", 20000, 4096, 504);
  return true;
}

template <class T>
struct Relative;  // error allowed, of values near 1: a few roundings
template <>
struct Relative<double> {
  static constexpr double kBound = 1e-14;
};
template <>
struct Relative<float> {
  static constexpr double kBound = 4e-6;
};

bool wrong(const char* kernel, double got, double want) {
  Line("wrong").text("step", kernel).number("got", got).number("want", want).print();
  return false;
}

template <class T>
bool time_prox_step(const Device& device, const cuda::Stream& stream, const char* name, Index p,
                    Index s) {
  const Index size = p * s;
  auto coef = random_array<T>(size, -1.0, 1.0, 1, stream);
  auto previous = random_array<T>(size, -1.0, 1.0, 2, stream);
  const auto grad = random_array<T>(size, -1.0, 1.0, 3, stream);
  const auto step_size = random_array<T>(size, 0.5, 1.0, 4, stream);
  const auto l1 = random_array<T>(size, 0.0, 1.0, 5, stream);
  const auto l2 = random_array<T>(size, 0.0, 1.0, 6, stream);
  const auto momentum = random_array<T>(s, 0.0, 0.9, 7, stream);
  const cuda::DeviceArray<double> sums(2 * s), scratch(cuda::prox_step_scratch(p, s));
  const ProxStep<T> step{MatrixView<T>::column_major(coef.data(), p, s),
                         MatrixView<T>::column_major(previous.data(), p, s),
                         MatrixView<const T>::column_major(grad.data(), p, s),
                         MatrixView<const T>::column_major(step_size.data(), p, s),
                         MatrixView<const T>::column_major(l1.data(), p, s),
                         MatrixView<const T>::column_major(l2.data(), p, s),
                         {momentum.data(), at(s)},
                         {sums.data(), at(s)},
                         {sums.data() + s, at(s)}};
  const auto host = [&](const cuda::DeviceArray<T>& a) {
    return fetch(a.data(), a.size(), stream);
  };
  const auto b0 = host(coef), b1 = host(previous), g = host(grad), t = host(step_size);
  const auto u = host(l1), v = host(l2), m = host(momentum);
  cuda::prox_step(step, scratch.data(), stream);
  const auto next = host(coef);
  for (Index k = 0; k < size; ++k) {
    const T z = b0[at(k)] + m[at(k / p)] * (b0[at(k)] - b1[at(k)]);
    const T want = prox_elastic_net(z - t[at(k)] * g[at(k)], t[at(k)], u[at(k)], v[at(k)]);
    if (!(std::fabs(static_cast<double>(next[at(k)] - want)) <= Relative<T>::kBound)) {
      return wrong(name, static_cast<double>(next[at(k)]), static_cast<double>(want));
    }
  }
  const auto flush = flush_array(device);
  DeviceTimer timer;
  const Timing timing = time_repeatedly(
      timer, stream, 20, [&] { cuda::prox_step(step, scratch.data(), stream); }, &flush);
  const double bytes = 8.0 * static_cast<double>(sizeof(T)) * static_cast<double>(size);
  Line("kernel")
      .text("name", name)
      .whole("rows", p)
      .whole("columns", s)
      .timing(timing)
      .number("bytes", bytes)
      .number("bytes_a_second", bytes / timing.median)
      .print();
  return true;
}

template <class T>
bool time_residual_step(const Device& device, const cuda::Stream& stream, const char* name, Index n,
                        Index s) {
  const Index size = n * s;
  const auto fitted = random_array<T>(size, -1.0, 1.0, 1, stream);
  const auto before = random_array<T>(size, -1.0, 1.0, 2, stream);
  const auto response = random_array<T>(size, -1.0, 1.0, 3, stream);
  const cuda::DeviceArray<T> residual(size), momentum(s);
  const std::vector<T> weights(at(size), T(1) / static_cast<T>(n));
  const auto weight = cuda::to_device<T>(weights, stream);
  const auto factor = random_array<T>(s, 0.0, 0.9, 4, stream);
  const cuda::DeviceArray<double> half_loss(s);
  Correlate<T> step;
  step.fitted = MatrixView<const T>::column_major(fitted.data(), n, s);
  step.fitted_previous = MatrixView<const T>::column_major(before.data(), n, s);
  step.momentum = {factor.data(), at(s)};
  step.response = MatrixView<const T>::column_major(response.data(), n, s);
  step.weight = MatrixView<const T>::column_major(weight.data(), n, s);
  step.residual = MatrixView<T>::column_major(residual.data(), n, s);
  step.half_loss = {half_loss.data(), at(s)};
  cuda::residual_step(step, stream);
  const auto host = [&](const cuda::DeviceArray<T>& a) {
    return fetch(a.data(), a.size(), stream);
  };
  const auto f = host(fitted), f0 = host(before), y = host(response), r = host(residual);
  const auto m = host(factor);
  for (Index b = 0; b < s; ++b) {
    std::vector<double> want(at(n));
    double mean = 0.0;
    for (Index i = 0; i < n; ++i) {
      const Index k = b * n + i;
      const auto z = static_cast<double>(f[at(k)]) +
                     static_cast<double>(m[at(b)]) *
                         (static_cast<double>(f[at(k)]) - static_cast<double>(f0[at(k)]));
      want[at(i)] = static_cast<double>(y[at(k)]) - z;
      mean += want[at(i)] / static_cast<double>(n);
    }
    for (Index i = 0; i < n; ++i) {
      const double wanted = (want[at(i)] - mean) / static_cast<double>(n);
      const auto got = static_cast<double>(r[at(b * n + i)]);
      if (!(std::fabs(got - wanted) <= 4.0 * Relative<T>::kBound)) {
        return wrong(name, got, wanted);
      }
    }
  }
  const auto flush = flush_array(device);
  DeviceTimer timer;
  const Timing timing = time_repeatedly(
      timer, stream, 20, [&] { cuda::residual_step(step, stream); }, &flush);
  // The second pass of the three that the header counts finds its columns in the cache.
  const double bytes = 5.0 * static_cast<double>(sizeof(T)) * static_cast<double>(size);
  Line("kernel")
      .text("name", name)
      .whole("rows", n)
      .whole("columns", s)
      .timing(timing)
      .number("bytes", bytes)
      .number("bytes_a_second", bytes / timing.median)
      .print();
  return true;
}

bool elementwise(const Device& device, const cuda::Stream& stream, bool small) {
  const Index p = small ? 300 : 20000, s = small ? 3 : 512, n = small ? 70 : 5000;
  return time_prox_step<double>(device, stream, "prox_step double", p, s) &&
         time_prox_step<float>(device, stream, "prox_step float", p, s) &&
         time_residual_step<double>(device, stream, "residual_step double", n, 4 * s) &&
         time_residual_step<float>(device, stream, "residual_step float", n, 4 * s);
}

bool run(std::string_view part, bool small, Index n_slots, double last) {
  const Device device = open_device();
  const cuda::Stream stream;
  const cuda::Blas blas(stream);
  if (part == "probe") return probe_half_sums(stream, blas, small);
  if (part == "ceilings") return ceilings(device, stream, blas, small);
  if (part == "elementwise") return elementwise(device, stream, small);
  ReplayShape shape;
  if (part == "checks" || small) {
    shape.n = small ? 40 : 200;
    shape.p = small ? 150 : 3000;
    shape.n_slots = small ? 4 : 40;
    shape.n_folds = 3;
    shape.n_lambdas = small ? 5 : 30;
    shape.last = small ? 0.1 : 0.01;
    shape.support = small ? 5 : 20;
    shape.compared = part == "checks" ? 4 : 0;
  }
  if (n_slots > 0) shape.n_slots = n_slots;
  if (last > 0.0) shape.last = last;
  return replay_rounds(device.limits, stream, blas, shape);
}

}  // namespace
}  // namespace thresher::bench

int main(int argc, char** argv) {
  std::string part;
  bool small = false;
  thresher::Index n_slots = 0;
  double last = 0.0;
  for (int k = 1; k < argc; ++k) {
    const std::string word = argv[k];
    if (word == "--small") {
      small = true;
    } else if (word == "--slots" && k + 1 < argc) {
      n_slots = std::atoll(argv[++k]);
    } else if (word == "--last" && k + 1 < argc) {
      last = std::atof(argv[++k]);
    } else if (part.empty()) {
      part = word;
    }
  }
  if (part != "probe" && part != "ceilings" && part != "elementwise" && part != "checks" &&
      part != "replay") {
    std::fprintf(stderr,
                 "usage: device_benchmarks probe|ceilings|elementwise|checks|replay [--small] "
                 "[--slots N] [--last SHARE]\n");
    return 2;
  }
  try {
    return thresher::bench::run(part, small, n_slots, last) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "device_benchmarks: %s\n", error.what());
    return 2;
  }
}

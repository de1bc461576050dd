// Times steps of the CPU backends on one core. Each step is compared with plain loops, or each fit
// certified from X, y and its coefficients, before a time is believed. Kernels on a GPU:
// device_benchmarks.
//
//     step_benchmarks [--small] [--wrong] [options of Google Benchmark]
//
// --small: tiny sizes; --wrong: adds steps that are wrong on purpose. Exit status: 0; 1 if a step
// was wrong; 2 for other errors.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <exception>

#include "backend/blas.hpp"
#include "backend/simd.hpp"
#include "step.hpp"

namespace thresher::bench {
namespace {

void add_context(const char* name, double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", value);
  benchmark::AddCustomContext(name, text);
}

int run(bool small, bool wrong) {
  const Ceilings& best = measure_ceilings(small);
  add_context("copy_l2_bytes_a_second", best.copy_l2);
  add_context("copy_l3_bytes_a_second", best.copy_l3);
  add_context("copy_memory_bytes_a_second", best.copy_memory);
  add_context("dgemm_flops_a_second", best.dgemm);
  add_context("sgemm_flops_a_second", best.sgemm);
  benchmark::AddCustomContext("loops", simd().name);
  benchmark::AddCustomContext("blas", blas::description());

  const Sizes sizes{small};
  register_primitive_steps(sizes);
  register_working_set_steps(sizes);
  register_proximal_steps(sizes);
  register_spectrum_steps(sizes);
  if (wrong) {
    register_spoilt_path();
    register_step("wrong_on_purpose", [] {
      return Step{{}, {}, [] {}, [] { return compare("nothing", 0, 1, 0, 0); }};
    });
  }

  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return any_refused() ? 1 : 0;
}

}  // namespace
}  // namespace thresher::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  bool small = false, wrong = false;
  for (int k = 1; k < argc; ++k) {
    if (std::strcmp(argv[k], "--small") == 0) {
      small = true;
    } else if (std::strcmp(argv[k], "--wrong") == 0) {
      wrong = true;
    } else {
      std::fprintf(stderr, "usage: step_benchmarks [--small] [--wrong] [--benchmark_...]\n");
      return 2;
    }
  }
  try {
    return thresher::bench::run(small, wrong);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "step_benchmarks: %s\n", error.what());
    return 2;
  }
}

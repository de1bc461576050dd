#include "step.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>

#include "backend/blas.hpp"

namespace thresher::bench {
namespace {

// Per core: 1 MB of L2 and a share of 32 MB of L3 where the committed record was made.
constexpr double kL2Bytes = 0.75e6;
constexpr double kL3Bytes = 24e6;

bool some_step_was_refused = false;
Ceilings ceilings;

/// Least seconds of `work` over `repetitions`.
template <class F>
double least_seconds(int repetitions, F&& work) {
  work();
  double least = std::numeric_limits<double>::infinity();
  for (int k = 0; k < repetitions; ++k) {
    const double start = processor_seconds();
    work();
    least = std::min(least, processor_seconds() - start);
  }
  return least;
}

double copy_rate(std::size_t bytes) {
  std::vector<char> from(bytes, 1), to(bytes, 2);
  // Small copies are too short for the clock one by one.
  const std::size_t times = std::max<std::size_t>(1, (std::size_t{64} << 20) / bytes);
  const double seconds = least_seconds(9, [&] {
    for (std::size_t k = 0; k < times; ++k) {
      std::memcpy(to.data(), from.data(), bytes);
      benchmark::ClobberMemory();
    }
  });
  return 2.0 * static_cast<double>(bytes * times) / seconds;
}

/// Rate of a square product. Every 37th entry is compared with a plain sum.
template <class T>
double gemm_rate(Index size) {
  const auto values = [&](unsigned seed) {
    const std::vector<double> v = random_values(size * size, -1.0, 1.0, seed);
    return std::vector<T>(v.begin(), v.end());
  };
  const std::vector<T> a = values(1), b = values(2);
  std::vector<T> c(at(size * size));
  const double seconds = least_seconds(5, [&] {
    blas::gemm(false, false, size, size, size, T(1), a.data(), size, b.data(), size, T(0), c.data(),
               size);
  });
  for (Index e = 0; e < size * size; e += 37) {
    double want = 0.0, magnitude = 0.0;
    for (Index k = 0; k < size; ++k) {
      const double term = static_cast<double>(a[at(k * size + e % size)]) *
                          static_cast<double>(b[at(e / size * size + k)]);
      want += term;
      magnitude += std::fabs(term);
    }
    const double bound = 2.0 * static_cast<double>(size + 2) *
                         static_cast<double>(std::numeric_limits<T>::epsilon()) * magnitude;
    const std::string wrong = compare("gemm", e, static_cast<double>(c[at(e)]), want, bound);
    if (!wrong.empty()) throw std::runtime_error(wrong);
  }
  const double n = static_cast<double>(size);
  return 2.0 * n * n * n / seconds;
}

void declare_work(benchmark::State& state, const Work& work) {
  using benchmark::Counter;
  const auto add = [&](const char* name, double amount) {
    if (amount > 0.0) state.counters[name] = Counter(amount, Counter::kIsIterationInvariantRate);
  };
  add("GB/s", 1e-9 * work.bytes);
  add("Gflop/s", 1e-9 * work.flops);
  const double distinct = work.distinct_bytes > 0.0 ? work.distinct_bytes : work.bytes;
  const double copy = distinct <= kL2Bytes   ? ceilings.copy_l2
                      : distinct <= kL3Bytes ? ceilings.copy_l3
                                             : ceilings.copy_memory;
  add("of_copy", 100.0 * work.bytes / copy);
  add("of_gemm", 100.0 * work.flops / (work.single ? ceilings.sgemm : ceilings.dgemm));
}

void refuse(benchmark::State& state, const std::string& what) {
  some_step_was_refused = true;
  state.SkipWithError(("wrong, not timed: " + what).c_str());
}

/// The step at hand: repetitions of a benchmark share it, the next benchmark replaces it.
struct Current {
  std::string name;
  Step step;
  std::string wrong;
};

Current& current_step(const std::string& name, const std::function<Step()>& make) {
  static Current current;
  if (current.name == name) return current;
  current = {};
  current.step = make();
  current.name = name;
  const Step& step = current.step;
  if (step.prepare) step.prepare();
  step.run();
  current.wrong = step.check();
  return current;
}

/// The workload at hand, replaced by the next one. Run 0 comes before the first timing.
struct CurrentWorkload {
  std::string name;
  Workload workload;
  std::vector<std::vector<Verb>> runs;
  std::string wrong;
};

/// Makes sure of `n_runs` runs, unless one is wrong.
CurrentWorkload& current_workload(const std::string& name, const std::function<Workload()>& make,
                                  std::size_t n_runs) {
  static CurrentWorkload current;
  if (current.name != name) {
    current = {};
    current.workload = make();
    current.name = name;
  }
  while (current.wrong.empty() && current.runs.size() < n_runs) {
    current.runs.push_back(current.workload.run());
    current.wrong = current.workload.check();
  }
  return current;
}

}  // namespace

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

const Ceilings& measure_ceilings(bool small) {
  ceilings.copy_l2 = copy_rate(std::size_t{256} << 10);
  ceilings.copy_l3 = copy_rate(std::size_t{4} << 20);
  ceilings.copy_memory = copy_rate(std::size_t{small ? 16U : 256U} << 20);
  ceilings.dgemm = gemm_rate<double>(small ? 64 : 2048);
  ceilings.sgemm = gemm_rate<float>(small ? 64 : 2048);
  return ceilings;
}

void register_step(const std::string& name, std::function<Step()> make) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [name, make](benchmark::State& state) {
                                 const Current& current = current_step(name, make);
                                 if (!current.wrong.empty()) {
                                   refuse(state, current.wrong);
                                   return;
                                 }
                                 const Step& step = current.step;
                                 while (state.KeepRunning()) {
                                   if (step.prepare) step.prepare();
                                   const double start = processor_seconds();
                                   step.run();
                                   state.SetIterationTime(processor_seconds() - start);
                                 }
                                 declare_work(state, step.work);
                               })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void register_workload(const std::string& name, const std::vector<std::string>& verbs,
                       std::function<Workload()> make) {
  for (std::size_t verb = 0; verb < verbs.size(); ++verb) {
    std::size_t run = 0;  // the library calls a benchmark once for each repetition
    benchmark::RegisterBenchmark((verbs[verb] + "/" + name).c_str(),
                                 [name, make, verb, run](benchmark::State& state) mutable {
                                   const CurrentWorkload& current =
                                       current_workload(name, make, ++run + 1);
                                   if (!current.wrong.empty()) {
                                     refuse(state, current.wrong);
                                     return;
                                   }
                                   const Verb& found = current.runs[run][verb];
                                   while (state.KeepRunning())
                                     state.SetIterationTime(found.seconds);
                                   declare_work(state, found.work);
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  }
}

bool any_refused() { return some_step_was_refused; }

std::string compare(const char* what, Index index, double got, double want, double bound) {
  if (std::fabs(got - want) <= bound) return {};
  char text[200];
  std::snprintf(text, sizeof text, "%s, entry %lld: got %.17g, want %.17g to %.3g", what,
                static_cast<long long>(index), got, want, bound);
  return text;
}

}  // namespace thresher::bench

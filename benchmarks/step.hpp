#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "random_case.hpp"

namespace thresher::bench {

/// What a step has to move and to compute at least; 0: not counted.
struct Work {
  double bytes = 0.0;
  double flops = 0.0;
  double distinct_bytes = 0.0;  ///< decides which cache the bytes can come from; 0: as `bytes`
  bool single = false;          ///< flops in single precision
};

/// One step of the CPU backends, on operands of its own.
struct Step {
  Work work;
  std::function<void()> prepare;  ///< before each run, outside the clock; may be empty
  std::function<void()> run;
  /// After a run: empty, or what is wrong with its results.
  std::function<std::string()> check;
};

/// A verb of a seam: what all its calls took and did while an engine solved a workload.
struct Verb {
  std::string name;
  double seconds = 0.0;
  Work work;
};

/// A workload that an engine solves through a seam.
struct Workload {
  std::function<std::vector<Verb>()> run;  ///< the verbs in the order they were registered in
  std::function<std::string()> check;      ///< as Step::check
};

/// Best rates of this machine, measured by measure_ceilings().
struct Ceilings {
  double copy_l2 = 0.0, copy_l3 = 0.0, copy_memory = 0.0;  ///< bytes read and written a second
  double dgemm = 0.0, sgemm = 0.0;                         ///< flops a second
};

/// Throws std::runtime_error if a product is wrong.
const Ceilings& measure_ceilings(bool small);

/// Processor time of this process: other jobs on the machine do not count.
double processor_seconds();

/// Registers a benchmark. The step is made, run and checked before the first timing; a wrong
/// one is reported and never timed.
void register_step(const std::string& name, std::function<Step()> make);

/// Registers a benchmark for each verb; the runs of the workload are shared by all of them. Each
/// run is checked; a wrong one is reported for every verb, and no time is.
void register_workload(const std::string& name, const std::vector<std::string>& verbs,
                       std::function<Workload()> make);

/// Whether some step was wrong.
bool any_refused();

inline double real(Index i) { return static_cast<double>(i); }

inline std::string shape(Index n, Index p) { return std::to_string(n) + "x" + std::to_string(p); }

/// Empty if |got - want| <= bound (a NaN is not), else a text that names entry `index` of `what`.
std::string compare(const char* what, Index index, double got, double want, double bound);

struct Sizes {
  bool small = false;  ///< a rehearsal: everything tiny
  Index of(Index full, Index tiny) const { return small ? tiny : full; }
};

void register_primitive_steps(const Sizes& sizes);
void register_working_set_steps(const Sizes& sizes);
void register_proximal_steps(const Sizes& sizes);
void register_spectrum_steps(const Sizes& sizes);
/// A tiny path whose coefficients are spoilt on their way out of the backend.
void register_spoilt_path();

}  // namespace thresher::bench

#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// What tests may ask of the CUDA-on-CPU emulator. Needs no CUDA header, so a program that only
// opens libthresher_cuda at run time can steer the emulated one.
namespace thresher::emulator {

/// How the next CUDA thread is picked. kSkewed draws priorities per warp and thread, redraws them
/// now and then and runs the highest first: it starves threads, for which kRandom is too fair
/// (Burckhardt et al. 2010, probabilistic concurrency testing).
enum class Order { kInOrder, kReverse, kRandom, kSkewed };

/// When enqueued work runs: at once, only when something waits for it, or at random in between.
enum class Streams { kEager, kLazy, kRandom };

struct Config {
  std::uint64_t seed = 1;
  Order order = Order::kSkewed;
  Streams streams = Streams::kLazy;
  std::size_t memory = std::size_t{2} << 30;  // bytes of device memory
  bool protect = true;                        // device memory is out of reach while host code runs
  unsigned preempt = 0;  // checked builds: one access in `preempt` yields; 0 for never
  std::size_t nan_fill_limit = std::size_t{64} << 20;  // larger allocations are not filled with NaN
};

/// One emulated device with its diagnostics. Codes are cudaError_t, cublasStatus_t or
/// cusolverStatus_t values; an entry point is named as in the programmer's guide, without _v2.
class Control {
 public:
  /// The settings of the environment: THRESHER_EMULATOR_ORDER, _STREAMS, _SEED, _MEMORY, _PROTECT.
  virtual Config environment() const = 0;

  /// A new device: forgets allocations, streams, handles, faults, reports and errors. Whoever holds
  /// something of the old one must not use it any more, not even to release it.
  virtual void reset(const Config& config) = 0;

  /// Changes the settings of the living device.
  virtual void configure(const Config& config) = 0;
  virtual Config config() const = 0;

  /// The nth call of `api` from now on (1: the next) returns `code`, having done nothing; waiting
  /// calls still wait and releasing calls still release.
  virtual void fail(const char* api, long nth, int code) = 0;
  /// The same for the nth call and every later one.
  virtual void fail_from(const char* api, long nth, int code) = 0;
  /// The nth call of any entry point fails, as out of memory.
  virtual void fail_any(long nth) = 0;
  virtual void fail_any_from(long nth) = 0;
  /// The nth kernel to run from now on dies with `code`, which then sticks to the device.
  virtual void fail_kernel(long nth, int code) = 0;
  /// The nth factorisation or eigendecomposition from now on writes `info` to its devInfo.
  virtual void fail_solver(long nth, int info) = 0;
  virtual void clear_faults() = 0;

  /// Calls since reset() or clear_calls().
  virtual long calls(const char* api) const = 0;
  virtual long total_calls() const = 0;
  virtual std::vector<std::string> call_log() const = 0;
  virtual void clear_calls() = 0;

  /// Races, reads of uninitialised memory, accesses out of bounds, divergence and misuse so far.
  virtual std::vector<std::string> reports() = 0;
  virtual void clear_reports() = 0;
  /// What is still allocated, in words; empty if nothing is.
  virtual std::string leaks() const = 0;
  virtual std::size_t bytes_in_use() const = 0;
  virtual std::size_t peak_bytes() const = 0;
  virtual void clear_peak() = 0;
  virtual std::uint64_t kernels_run() const = 0;
  /// True if kernels were compiled with the callbacks of the race checker.
  virtual bool checks_accesses() const = 0;

  /// Lets host code touch device memory until close_memory(); calls nest.
  virtual void open_memory() = 0;
  virtual void close_memory() = 0;
  /// The next launch runs only these blocks (linear index).
  virtual void run_only_blocks(const std::vector<std::uint64_t>& blocks) = 0;

 protected:
  ~Control() = default;
};

/// While it lives, host code may touch device memory.
class HostAccess {
 public:
  explicit HostAccess(Control& control) : control_(control) { control_.open_memory(); }
  ~HostAccess() { control_.close_memory(); }
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;

 private:
  Control& control_;
};

}  // namespace thresher::emulator

/// Present in programs and libraries that contain the emulator.
extern "C" __attribute__((visibility("default"))) thresher::emulator::Control*
thresher_emulator_control();

namespace thresher::emulator {

/// The emulator inside the shared library at `path`, opened as the host loader opens it; nullptr if
/// the library cannot be opened or is not an emulated one.
inline Control* open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return nullptr;
  void* symbol = dlsym(library, "thresher_emulator_control");
  if (!symbol) return nullptr;
  return reinterpret_cast<Control* (*)()>(symbol)();
}

}  // namespace thresher::emulator

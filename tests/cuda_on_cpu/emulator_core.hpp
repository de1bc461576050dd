#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "emulator.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define THRESHER_EMULATOR_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define THRESHER_EMULATOR_ASAN 0
#endif

// What the emulator's own sources share. Its state is never destroyed: a program's static objects
// may release device memory after the destructors of this library would have run.
namespace thresher::emulator {

/// xorshift64 (Marsaglia 2003): the schedule of a seed must be the same everywhere.
struct Random {
  std::uint64_t state = 1;
  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32);
  }
};

/// Held by every entry point: one OS thread at a time is inside the emulator.
std::recursive_mutex& big_lock();
const Config& config();
void report(const std::string& text);

// ---- emulator_arena.cpp: device memory ----

/// Bytes of address space, reserved only. Addresses are not reused, so that a stale pointer never
/// points at something else.
inline constexpr std::size_t kArenaBytes = std::size_t{256} << 30;

enum class Memory { kGlobal, kShared };

char* arena_base();
void* arena_allocate(std::size_t bytes, Memory kind);  // nullptr: out of memory
bool arena_free(void* p);                              // false: not a live allocation
void arena_forget_values(void* p, std::size_t bytes);  // NaN, and uninitialised to the checker
bool arena_contains(const void* p);
/// True if [p, p + bytes) lies inside one live allocation of global memory; reports otherwise.
bool arena_check(const void* p, std::size_t bytes, const char* what);
void arena_check_red_zones();
void arena_reset();
std::string arena_describe(const void* p);
std::size_t arena_bytes_in_use();
std::size_t arena_peak_bytes();
void arena_clear_peak();

/// While one lives, the arena can be read and written; they nest.
class ArenaAccess {
 public:
  ArenaAccess();
  ~ArenaAccess();
  ArenaAccess(const ArenaAccess&) = delete;
  ArenaAccess& operator=(const ArenaAccess&) = delete;
};

// ---- emulator_scheduler.cpp: the threads of a grid ----

struct Thread;
class KernelCall;

struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  bool cooperative;
};
/// Runs the grid to its end; returns 0 or the cudaError_t that it died of.
int run_grid(const Launch& launch, const KernelCall& call);
void scheduler_reset(std::uint64_t seed);
void scheduler_run_only_blocks(std::vector<std::uint64_t> blocks);
std::uint64_t scheduler_kernels_run();

/// True in code that runs as a CUDA thread; other OS threads of the program are host code even
/// while a grid runs.
bool in_kernel();
std::string thread_name();  // "block (0,0,0) thread (1,0,0)" or "host code"
bool in_kernel_arguments(const void* p);
bool on_own_stack(const void* p);
bool on_any_stack(const void* p);

/// What the race checker knows of the running thread's place in time.
struct Clock {
  std::uint32_t block_run;        // number of this run of a block, over all grids
  std::uint32_t first_block_run;  // of this grid
  std::uint16_t barrier_epoch;    // __syncthreads()s the block has passed
  std::uint16_t warp_epoch;       // __syncwarp()s the thread has passed
  std::uint16_t rank;
};
Clock clock_now();

// ---- emulator_race_check.cpp: shadow state for checked kernels ----

void shadow_set_allocated(const void* p, std::size_t bytes, bool allocated);
void shadow_set_initialised(const void* p, std::size_t bytes, bool initialised);
/// Reports and returns false if a byte of [p, p + bytes) was never written.
bool shadow_check_initialised(const void* p, std::size_t bytes, const char* what);
void shadow_reset();
bool shadow_active();

// ---- emulator_runtime.cpp: entry points, streams, faults ----

/// One call of an entry point: takes the lock, counts the call, finds a planted fault.
class Entry {
 public:
  /// fail_any() makes this call return `failure`.
  Entry(const char* api, int failure);
  int fault() const { return fault_; }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  int fault_ = 0;
};

bool stream_is_live(cudaStream_t stream);
void enqueue(cudaStream_t stream, std::function<void()> work);
void finish_stream(cudaStream_t stream);
cudaError_t sticky_error();
/// Keeps count of library handles by kind, for leaks().
void count_handles(const char* kind, int change);
/// The info that the solver now running must write, or 0.
int planted_solver_info();
/// Increases with every reset(): what was made before is dead.
std::uint64_t device_generation();

}  // namespace thresher::emulator

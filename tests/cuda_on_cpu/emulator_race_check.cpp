// Shadow state of device memory for kernels compiled with -fsanitize=thread. The compiler then
// calls
// __tsan_readN or __tsan_writeN before each access. Those below are ours (libtsan is not linked):
// exact bounds, initialisation, and a race check that knows CUDA's barriers and so needs no lucky
// schedule.
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "emulator_core.hpp"

namespace thresher::emulator {
namespace {

/// The last write and the last reads of 4 bytes. Masks have one bit per byte. There is one rank for
/// the bytes of `read`: when threads read neighbouring bytes, the earlier ones are forgotten.
struct Cell {
  std::uint32_t write_run, read_run;  // run of a block, as in Clock
  std::uint16_t write_rank, read_rank;
  std::uint16_t write_barrier, read_barrier;
  std::uint16_t write_warp_epoch, read_warp_epoch;
  std::uint8_t allocated : 4, initialised : 4;
  std::uint8_t written : 4, read : 4;
  bool write_atomic;
  std::uint8_t read_by_many;  // mask: bytes that several threads have read since the barrier
};
static_assert(sizeof(Cell) == 24);

/// Larger allocations have no cells: only their ends are checked.
constexpr std::size_t kMostShadowed = std::size_t{256} << 20;

enum class Finding {
  kOtherStack,
  kHostMemory,
  kHostAccess,
  kOutOfBounds,
  kUninitialised,
  kAfterWrite,
  kAfterRead
};

struct Shadow {
  bool active = false;  // set by the module constructors of instrumented code
  bool reporting = false;
  Cell* cells = nullptr;
  char* base = nullptr;
  const char* image_begin = nullptr;  // this library or program: constants and statics
  const char* image_end = nullptr;
  std::set<std::pair<const void*, Finding>> seen;
  std::vector<std::pair<const char*, std::size_t>> large;
};

Shadow& shadow() {
  static Shadow& instance = *new Shadow;
  return instance;
}

Cell& cell_of(std::uintptr_t address) {
  const Shadow& s = shadow();
  return s.cells[(address - reinterpret_cast<std::uintptr_t>(s.base)) / 4];
}

bool in_large(const void* p, std::size_t bytes) {
  for (const auto& [begin, size] : shadow().large) {
    if (p >= begin && static_cast<const char*>(p) + bytes <= begin + size) return true;
  }
  return false;
}

template <class Function>
void for_each_cell(const void* p, std::size_t bytes, Function function) {
  auto at = reinterpret_cast<std::uintptr_t>(p);
  const std::uintptr_t end = at + bytes;
  while (at < end) {
    const unsigned first = at & 3;
    const auto count = static_cast<unsigned>(std::min<std::uintptr_t>(4 - first, end - at));
    function(cell_of(at), static_cast<std::uint8_t>(((1u << count) - 1) << first));
    at += count;
  }
}

int find_image(dl_phdr_info* info, std::size_t, void* inside) {
  const char* begin = nullptr;
  const char* end = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const char* from = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    if (!begin) begin = from;
    end = from + segment.p_memsz;
  }
  if (inside < begin || inside >= end) return 0;
  shadow().image_begin = begin;
  shadow().image_end = end;
  return 1;
}

void reserve_cells() {
  Shadow& s = shadow();
  if (s.cells || !s.active) return;
  s.base = arena_base();
  void* range = mmap(nullptr, kArenaBytes / 4 * sizeof(Cell), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    std::perror("emulator: cannot reserve shadow memory");
    std::abort();
  }
  s.cells = static_cast<Cell*>(range);
  dl_iterate_phdr(find_image, reinterpret_cast<void*>(&find_image));
}

/// file:line of a code address, by the debug information if addr2line is there.
std::string source_line(const void* pc) {
  Dl_info info{};
  if (!dladdr(pc, &info)) return "?";
  const auto offset =
      static_cast<std::size_t>(static_cast<const char*>(pc) - static_cast<char*>(info.dli_fbase));
  char command[512], line[512] = "?";
  std::snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%zx 2>/dev/null", info.dli_fname,
                offset - 1);
  if (FILE* pipe = popen(command, "r")) {
    if (!std::fgets(line, sizeof line, pipe)) line[0] = '\0';
    pclose(pipe);
  }
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

struct Access {
  const void* p;
  std::size_t bytes;
  bool write;
  bool atomic;
  const void* pc;
};

/// Once per place in the code and kind.
void complain(Finding finding, const char* what, const Access& access,
              const std::string& cause = "") {
  const std::lock_guard lock(big_lock());
  Shadow& s = shadow();
  if (!s.seen.insert({access.pc, finding}).second) return;
  s.reporting = true;  // inline functions of the standard library may be instrumented copies
  report(std::string(what) + ": " + (access.write ? "write" : "read") + " of " +
         std::to_string(access.bytes) + " bytes at " + arena_describe(access.p) + ", " +
         source_line(access.pc) + ", " + thread_name() + cause);
  s.reporting = false;
}

/// Whether the running thread's access is ordered after an access by `rank` in the same block.
bool ordered(const Clock& now, std::uint16_t rank, std::uint16_t barrier,
             std::uint16_t warp_epoch) {
  if (rank == now.rank || barrier != now.barrier_epoch) return true;
  return rank / 32 == now.rank / 32 && warp_epoch != now.warp_epoch;
}

void check_cell(Cell& cell, std::uint8_t mask, const Access& access, const Clock& now) {
  if ((cell.allocated & mask) != mask) {
    complain(Finding::kOutOfBounds, "out of bounds", access);
    return;
  }
  if ((!access.write || access.atomic) && (cell.initialised & mask) != mask) {
    complain(Finding::kUninitialised, "uninitialised read", access);
  }
  const auto race = [&](Finding finding, std::uint32_t run, const char* what, std::uint16_t rank) {
    complain(finding, run == now.block_run ? "race within a block" : "race between blocks", access,
             std::string(", after a ") + what + " by thread " + std::to_string(rank));
  };
  if ((cell.written & mask) && !(access.atomic && cell.write_atomic)) {
    const bool racing =
        cell.write_run == now.block_run
            ? !ordered(now, cell.write_rank, cell.write_barrier, cell.write_warp_epoch)
            : cell.write_run >= now.first_block_run;
    if (racing) race(Finding::kAfterWrite, cell.write_run, "write", cell.write_rank);
  }
  if (access.write && !access.atomic && (cell.read & mask)) {
    const bool racing =
        cell.read_run == now.block_run
            ? cell.read_barrier == now.barrier_epoch &&
                  ((cell.read_by_many & mask) ||
                   !ordered(now, cell.read_rank, cell.read_barrier, cell.read_warp_epoch))
            : cell.read_run >= now.first_block_run;
    if (racing) race(Finding::kAfterRead, cell.read_run, "read", cell.read_rank);
  }

  if (access.write) {
    cell.initialised = static_cast<std::uint8_t>((cell.initialised | mask) & 15);
    cell.written = mask & 15;
    cell.write_run = now.block_run;
    cell.write_rank = now.rank;
    cell.write_barrier = now.barrier_epoch;
    cell.write_warp_epoch = now.warp_epoch;
    cell.write_atomic = access.atomic;
  } else {
    const bool same = cell.read_run == now.block_run && cell.read_barrier == now.barrier_epoch;
    const bool other =
        same && !ordered(now, cell.read_rank, cell.read_barrier, cell.read_warp_epoch);
    if (!same) cell.read_by_many = 0;
    if (other) cell.read_by_many |= static_cast<std::uint8_t>(cell.read & mask);
    const int kept = !same ? 0 : other ? cell.read_by_many : cell.read;
    cell.read = static_cast<std::uint8_t>((kept | mask) & 15);
    cell.read_run = now.block_run;
    cell.read_rank = now.rank;
    cell.read_barrier = now.barrier_epoch;
    cell.read_warp_epoch = now.warp_epoch;
  }
}

void check_access(const Access& access) {
  Shadow& s = shadow();
  if (s.reporting) return;
  if (!arena_contains(access.p)) {
    if (!in_kernel() || on_own_stack(access.p) || in_kernel_arguments(access.p)) return;
    if (access.p >= s.image_begin && access.p < s.image_end) return;
    if (on_any_stack(access.p)) {
      complain(Finding::kOtherStack, "access to another thread's local memory", access);
    } else {
      complain(Finding::kHostMemory, "kernel accesses host memory", access);
    }
    return;
  }
  if (!in_kernel()) {
    complain(Finding::kHostAccess, "host code accesses device memory", access);
    return;
  }
  if (!s.cells || (!s.large.empty() && in_large(access.p, access.bytes))) return;
  const Clock now = clock_now();
  for_each_cell(access.p, access.bytes,
                [&](Cell& cell, std::uint8_t mask) { check_cell(cell, mask, access, now); });
  if (!access.atomic) preempt_point();
}

}  // namespace

void shadow_set_allocated(const void* p, std::size_t bytes, bool allocated) {
  reserve_cells();
  Shadow& s = shadow();
  if (!s.cells) return;
  if (bytes > kMostShadowed) {
    const char* begin = static_cast<const char*>(p);
    std::erase_if(s.large, [begin](const auto& range) { return range.first == begin; });
    if (allocated) s.large.push_back({begin, bytes});
    return;
  }
  for_each_cell(p, bytes, [&](Cell& cell, std::uint8_t mask) {
    cell.allocated =
        static_cast<std::uint8_t>(allocated ? cell.allocated | mask : cell.allocated & ~mask) & 15;
    cell.initialised = static_cast<std::uint8_t>(cell.initialised & ~mask) & 15;
    cell.written = cell.read = 0;
  });
}

void shadow_set_initialised(const void* p, std::size_t bytes, bool initialised) {
  Shadow& s = shadow();
  if (!s.cells || bytes > kMostShadowed || (!s.large.empty() && in_large(p, bytes))) return;
  for_each_cell(p, bytes, [&](Cell& cell, std::uint8_t mask) {
    if (initialised) {
      cell.initialised = static_cast<std::uint8_t>((cell.initialised | mask) & 15);
    } else {
      cell.initialised = static_cast<std::uint8_t>(cell.initialised & ~mask) & 15;
      cell.written = cell.read = 0;
    }
  });
}

bool shadow_check_initialised(const void* p, std::size_t bytes, const char* what) {
  Shadow& s = shadow();
  if (!s.cells || (!s.large.empty() && in_large(p, bytes))) return true;
  bool initialised = true;
  for_each_cell(p, bytes, [&](const Cell& cell, std::uint8_t mask) {
    initialised = initialised && (cell.initialised & mask) == mask;
  });
  if (!initialised) {
    report(std::string(what) + " reads uninitialised device memory: " + arena_describe(p));
  }
  return initialised;
}

void shadow_reset() {
  Shadow& s = shadow();
  s.seen.clear();
  s.large.clear();
  if (s.cells) madvise(s.cells, kArenaBytes / 4 * sizeof(Cell), MADV_DONTNEED);
}

bool shadow_active() { return shadow().active; }

void note_atomic(const void* p, std::size_t bytes) {
  if (shadow().active && in_kernel()) {
    check_access({p, bytes, true, true, __builtin_return_address(0)});
  }
}

}  // namespace thresher::emulator

// What the compiler calls. Declared here because nobody else does.
extern "C" {
#define THRESHER_EMULATOR_CALLBACK(NAME, BYTES, WRITE)                                       \
  __attribute__((visibility("hidden"))) void NAME(void* p);                                  \
  void NAME(void* p) {                                                                       \
    thresher::emulator::check_access({p, BYTES, WRITE, false, __builtin_return_address(0)}); \
  }
#define THRESHER_EMULATOR_CALLBACKS(BYTES)                               \
  THRESHER_EMULATOR_CALLBACK(__tsan_read##BYTES, BYTES, false)           \
  THRESHER_EMULATOR_CALLBACK(__tsan_write##BYTES, BYTES, true)           \
  THRESHER_EMULATOR_CALLBACK(__tsan_unaligned_read##BYTES, BYTES, false) \
  THRESHER_EMULATOR_CALLBACK(__tsan_unaligned_write##BYTES, BYTES, true)
THRESHER_EMULATOR_CALLBACKS(1)
THRESHER_EMULATOR_CALLBACKS(2)
THRESHER_EMULATOR_CALLBACKS(4)
THRESHER_EMULATOR_CALLBACKS(8)
THRESHER_EMULATOR_CALLBACKS(16)

#define THRESHER_EMULATOR_HOOK(DECLARATION)          \
  __attribute__((visibility("hidden"))) DECLARATION; \
  DECLARATION
THRESHER_EMULATOR_HOOK(void __tsan_init()) { thresher::emulator::shadow().active = true; }
THRESHER_EMULATOR_HOOK(void __tsan_func_entry(void*)) {}
THRESHER_EMULATOR_HOOK(void __tsan_func_exit()) {}
THRESHER_EMULATOR_HOOK(void __tsan_vptr_update(void**, void*)) {}
THRESHER_EMULATOR_HOOK(void __tsan_vptr_read(void**)) {}
THRESHER_EMULATOR_HOOK(void __tsan_read_range(void* p, unsigned long bytes)) {
  thresher::emulator::check_access({p, bytes, false, false, __builtin_return_address(0)});
}
THRESHER_EMULATOR_HOOK(void __tsan_write_range(void* p, unsigned long bytes)) {
  thresher::emulator::check_access({p, bytes, true, false, __builtin_return_address(0)});
}

// Host code in the same files uses atomics in earnest (reference counts), from many OS threads.
#define THRESHER_EMULATOR_FETCH(BITS, T, NAME)                                                \
  THRESHER_EMULATOR_HOOK(T __tsan_atomic##BITS##_fetch_##NAME(volatile T* p, T value, int)) { \
    thresher::emulator::check_access(                                                         \
        {const_cast<T*>(p), sizeof(T), true, true, __builtin_return_address(0)});             \
    return __atomic_fetch_##NAME(p, value, __ATOMIC_SEQ_CST);                                 \
  }
#define THRESHER_EMULATOR_ATOMICS(BITS, T)                                                \
  THRESHER_EMULATOR_HOOK(T __tsan_atomic##BITS##_load(const volatile T* p, int)) {        \
    thresher::emulator::check_access(                                                     \
        {const_cast<const T*>(p), sizeof(T), false, true, __builtin_return_address(0)});  \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                          \
  }                                                                                       \
  THRESHER_EMULATOR_HOOK(void __tsan_atomic##BITS##_store(volatile T* p, T value, int)) { \
    thresher::emulator::check_access(                                                     \
        {const_cast<T*>(p), sizeof(T), true, true, __builtin_return_address(0)});         \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                       \
  THRESHER_EMULATOR_HOOK(T __tsan_atomic##BITS##_exchange(volatile T* p, T value, int)) { \
    thresher::emulator::check_access(                                                     \
        {const_cast<T*>(p), sizeof(T), true, true, __builtin_return_address(0)});         \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                               \
  }                                                                                       \
  THRESHER_EMULATOR_HOOK(int __tsan_atomic##BITS##_compare_exchange_strong(               \
      volatile T* p, T* expected, T value, int, int)) {                                   \
    thresher::emulator::check_access(                                                     \
        {const_cast<T*>(p), sizeof(T), true, true, __builtin_return_address(0)});         \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,       \
                                       __ATOMIC_SEQ_CST);                                 \
  }                                                                                       \
  THRESHER_EMULATOR_FETCH(BITS, T, add)                                                   \
  THRESHER_EMULATOR_FETCH(BITS, T, sub)                                                   \
  THRESHER_EMULATOR_FETCH(BITS, T, and)                                                   \
  THRESHER_EMULATOR_FETCH(BITS, T, or)
THRESHER_EMULATOR_ATOMICS(8, std::uint8_t)
THRESHER_EMULATOR_ATOMICS(32, std::uint32_t)
THRESHER_EMULATOR_ATOMICS(64, std::uint64_t)
}

// Emulated device memory: one reserved range of addresses, out of reach while host code runs.
// Allocations lie between red zones (poisoned under AddressSanitizer, filled with a pattern that is
// checked later otherwise) and start as NaN.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "emulator_core.hpp"

namespace thresher::emulator {
namespace {

constexpr std::size_t kAlignment = 256;  // as cudaMalloc promises
constexpr std::size_t kPage = 4096;
// Addresses are used again only when nothing is allocated and this much has been handed out. Every
// operation changes the protection of all pages handed out so far: with gigabytes here the
// relations spent three quarters of their time in the kernel.
constexpr std::size_t kReuseAfter = std::size_t{4} << 20;
constexpr std::size_t kChecked = 256;  // bytes of a red zone that hold the pattern
constexpr unsigned char kPattern = 0xFD;
constexpr unsigned char kNan = 0xFF;

struct Allocation {
  std::size_t bytes;
  std::size_t begin, end;  // with the red zones
  Memory kind;
  bool freed;
  long number;
};

struct Arena {
  char* base = nullptr;
  std::size_t top = 0;
  std::size_t in_use = 0;
  std::size_t peak = 0;
  std::size_t live = 0;
  int open_depth = 0;
  bool reachable = false;
  long allocated = 0;
  std::map<std::size_t, Allocation> allocations;  // by offset; freed ones stay, to be described
};

Arena& arena() {
  static Arena& instance = *new Arena;
  return instance;
}

std::size_t round_up_to(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

std::size_t offset_of(const void* p) {
  return static_cast<std::size_t>(static_cast<const char*>(p) - arena().base);
}

void set_reachable(bool reachable) {
  Arena& a = arena();
  if (a.reachable == reachable || !a.base || a.top == 0) return;
  mprotect(a.base, round_up_to(a.top, kPage), reachable ? PROT_READ | PROT_WRITE : PROT_NONE);
  a.reachable = reachable;
}

void reserve() {
  Arena& a = arena();
  if (a.base) return;
  void* range =
      mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    std::perror("emulator: cannot reserve device memory");
    std::abort();
  }
  a.base = static_cast<char*>(range);
}

/// Makes the pages of [begin, end) reachable for a while, whatever the rest is: an allocation must
/// not cost as much as all the memory there is.
class RangeAccess {
 public:
  RangeAccess(std::size_t begin, std::size_t end)
      : begin_(arena().base + begin / kPage * kPage),
        bytes_(round_up_to(end, kPage) - begin / kPage * kPage) {
    mprotect(begin_, bytes_, PROT_READ | PROT_WRITE);
  }
  ~RangeAccess() {
    if (arena().reachable || arena().open_depth > 0 || !config().protect) {
      set_reachable(true);  // so are these pages
    } else {
      mprotect(begin_, bytes_, PROT_NONE);
    }
  }
  RangeAccess(const RangeAccess&) = delete;
  RangeAccess& operator=(const RangeAccess&) = delete;

 private:
  char* begin_;
  std::size_t bytes_;
};

void mark_red_zones(std::size_t data, const Allocation& it) {
  char* base = arena().base;
#if THRESHER_EMULATOR_ASAN
  __asan_poison_memory_region(base + it.begin, data - it.begin);
  __asan_poison_memory_region(base + data + it.bytes, it.end - data - it.bytes);
#else
  std::memset(base + data - kChecked, kPattern, kChecked);
  std::memset(base + data + it.bytes, kPattern, kChecked);
#endif
}

bool red_zones_intact(std::size_t data, const Allocation& it) {
#if THRESHER_EMULATOR_ASAN
  (void)data;
  (void)it;
  return true;
#else
  const auto intact = [](const char* zone) {
    return std::all_of(zone, zone + kChecked,
                       [](char c) { return static_cast<unsigned char>(c) == kPattern; });
  };
  const char* base = arena().base;
  return intact(base + data - kChecked) && intact(base + data + it.bytes);
#endif
}

/// The allocation whose data or red zones hold p.
std::map<std::size_t, Allocation>::iterator find(const void* p) {
  Arena& a = arena();
  if (!arena_contains(p)) return a.allocations.end();
  const std::size_t offset = offset_of(p);
  auto it = a.allocations.upper_bound(offset);
  if (it != a.allocations.end() && it->second.begin <= offset) return it;
  return it == a.allocations.begin() ? a.allocations.end() : std::prev(it);
}

}  // namespace

ArenaAccess::ArenaAccess() {
  if (arena().open_depth++ == 0) set_reachable(true);
}
ArenaAccess::~ArenaAccess() {
  if (--arena().open_depth == 0 && config().protect) set_reachable(false);
}

char* arena_base() { return arena().base; }

bool arena_contains(const void* p) {
  const char* base = arena().base;
  return base && p >= base && p < base + kArenaBytes;
}

void arena_forget_values(void* p, std::size_t bytes) {
  if (bytes <= config().nan_fill_limit) std::memset(p, kNan, bytes);
  shadow_set_initialised(p, bytes, false);
}

void* arena_allocate(std::size_t bytes, Memory kind) {
  reserve();
  Arena& a = arena();
  if (kind == Memory::kGlobal) {
    const std::size_t limit = config().memory;
    if (bytes > limit || a.in_use > limit - bytes) return nullptr;
  }
  const std::size_t zone =
      std::clamp<std::size_t>(round_up_to(bytes, kAlignment), 2 * kChecked, 64 << 10);
  const std::size_t data = a.top + zone;
  Allocation made{bytes, a.top, round_up_to(data + bytes + zone, kAlignment), kind, false, 0};
  if (made.end > kArenaBytes) return nullptr;
  made.number = ++a.allocated;

  a.top = made.end;
  const RangeAccess access(made.begin, made.end);
  a.allocations[data] = made;
  mark_red_zones(data, made);
  char* p = a.base + data;
#if THRESHER_EMULATOR_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
  shadow_set_allocated(p, bytes, true);
  arena_forget_values(p, bytes);
  ++a.live;
  if (kind == Memory::kGlobal) {
    a.in_use += bytes;
    a.peak = std::max(a.peak, a.in_use);
  }
  return p;
}

bool arena_free(void* p) {
  if (!arena_contains(p)) return false;
  Arena& a = arena();
  const std::size_t data = offset_of(p);
  const auto it = a.allocations.find(data);
  if (it == a.allocations.end() || it->second.freed) return false;
  Allocation& mine = it->second;

  {
    const RangeAccess access(mine.begin, mine.end);
    if (!red_zones_intact(data, mine)) report("device memory written beside " + arena_describe(p));
    mine.freed = true;
    --a.live;
    if (mine.kind == Memory::kGlobal) a.in_use -= mine.bytes;
    shadow_set_allocated(p, mine.bytes, false);
    if (mine.bytes <= config().nan_fill_limit) std::memset(p, kNan, mine.bytes);
#if THRESHER_EMULATOR_ASAN
    __asan_poison_memory_region(p, std::min(mine.bytes, config().nan_fill_limit));
#endif
    if (mine.bytes > (std::size_t{1} << 20)) {  // give whole pages back to the system
      const std::size_t begin = round_up_to(data, kPage), end = (data + mine.bytes) / kPage * kPage;
      if (end > begin) madvise(a.base + begin, end - begin, MADV_DONTNEED);
    }
  }
  if (mine.kind == Memory::kShared && mine.end == a.top) {  // shared memory of the last grid
    a.top = mine.begin;
    a.allocations.erase(it);
  } else if (a.live == 0 && a.top > kReuseAfter) {
    arena_reset();
  }
  return true;
}

void arena_check_red_zones() {
  ArenaAccess access;
  for (const auto& [data, it] : arena().allocations) {
    if (it.freed || red_zones_intact(data, it)) continue;
    report("device memory written beside " + arena_describe(arena().base + data));
    mark_red_zones(data, it);
  }
}

bool arena_check(const void* p, std::size_t bytes, const char* what) {
  if (bytes == 0) return true;
  const auto it = find(p);
  if (it != arena().allocations.end() && !it->second.freed && it->second.kind == Memory::kGlobal) {
    const std::size_t offset = offset_of(p);
    const std::size_t end = it->first + it->second.bytes;
    if (offset >= it->first && offset <= end && bytes <= end - offset) return true;
  }
  report(std::string(what) + ": " + std::to_string(bytes) + " bytes at " + arena_describe(p) +
         " are not inside a live device allocation");
  return false;
}

std::string arena_describe(const void* p) {
  const auto it = find(p);
  char text[160];
  if (it == arena().allocations.end()) {
    std::snprintf(text, sizeof text, "%s %p",
                  arena_contains(p) ? "unallocated device address" : "host address", p);
  } else {
    const Allocation& found = it->second;
    const char* kind = found.freed                     ? "freed"
                       : found.kind == Memory::kShared ? "shared-memory"
                                                       : "device";
    std::snprintf(text, sizeof text, "%s allocation #%ld of %zu bytes, offset %td", kind,
                  found.number, found.bytes,
                  static_cast<const char*>(p) - (arena().base + it->first));
  }
  return text;
}

std::size_t arena_bytes_in_use() { return arena().in_use; }
std::size_t arena_peak_bytes() { return arena().peak; }
void arena_clear_peak() { arena().peak = arena().in_use; }

void arena_reset() {
  Arena& a = arena();
  if (a.base && a.top) {
    const std::size_t bytes = round_up_to(a.top, kPage);
#if THRESHER_EMULATOR_ASAN
    mprotect(a.base, bytes, PROT_READ | PROT_WRITE);
    __asan_unpoison_memory_region(a.base, bytes);
#endif
    if (bytes > (std::size_t{8} << 20)) madvise(a.base, bytes, MADV_DONTNEED);
    mprotect(a.base, bytes, PROT_NONE);
  }
  shadow_reset();
  a.allocations.clear();
  a.top = a.in_use = a.live = 0;
  a.reachable = false;
}

}  // namespace thresher::emulator

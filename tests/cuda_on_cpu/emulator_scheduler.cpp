// The threads of a grid: one fiber per CUDA thread of the resident blocks, all on the OS thread
// that drains the stream, switched where CUDA threads can wait for each other. Deterministic per
// seed.
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "emulator_core.hpp"

#if defined(__x86_64__)
// Saves what the System V ABI lets a callee keep, changes stacks, restores. ucontext would also
// save the signal mask: two system calls a switch.
extern "C" void thresher_emulator_switch(void** save_stack_pointer, void* to_stack_pointer);
asm(R"(
.text
.globl thresher_emulator_switch
.hidden thresher_emulator_switch
.type thresher_emulator_switch,@function
thresher_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmpq *%rcx
.size thresher_emulator_switch,.-thresher_emulator_switch
)");
#define THRESHER_EMULATOR_ASM_SWITCH 1
#else
#include <ucontext.h>
#define THRESHER_EMULATOR_ASM_SWITCH 0
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace thresher::emulator {
namespace {

constexpr std::size_t kStack = THRESHER_EMULATOR_ASAN ? 256 << 10 : 64 << 10;
constexpr std::size_t kPage = 4096;
// An odd number of pages, guard pages included: the stacks' tops must not share their cache sets.
constexpr std::size_t kStackStride = kStack + 3 * kPage;
constexpr std::size_t kMostFibers = 8192;

constexpr std::size_t kMostSharedBytes = 232448;  // an H100's opt-in limit
constexpr std::size_t kMostStaticShared = 49152;
constexpr std::uint64_t kMostPauses = 50'000'000;  // of one grid: a spin loop that nobody will end

enum class State : std::uint8_t { kReady, kAtBarrier, kAtCollective, kDone };

struct Context {
#if THRESHER_EMULATOR_ASM_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t machine;
#endif
  char* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

struct Fiber : Thread {
  Context context;
  State state;
  bool fresh;         // its stack must be set up before it is run
  std::size_t place;  // kSkewed: of the ready, the one of the highest place runs
  std::uint64_t result;
  Site site;
  Vote vote;
  bool predicate;
};

}  // namespace

struct Warp {
  unsigned exists = 0;   // lanes of a short last warp
  unsigned waiting = 0;  // lanes that have arrived at a collective
  Fiber* lane[32];
  Collective operands[32];
};

struct Block {
  struct StaticArray {
    const void* key;
    void* data;
    std::size_t bytes;
  };
  unsigned n_threads = 0;
  unsigned live = 0;
  unsigned arrived = 0;  // at the barrier
  int votes = 0;
  std::uint32_t run = 0;
  std::uint16_t barrier_epoch = 0;
  void* dynamic_shared = nullptr;
  std::vector<StaticArray> static_arrays;
  std::vector<Warp> warps;
  Fiber** fibers = nullptr;
};

namespace {

struct Scheduler {
  Fiber* current = nullptr;  // null in host code
  std::vector<Fiber*> pool;
  char* stacks = nullptr;
  std::vector<Fiber*> ready;
  std::size_t ready_head = 0;               // kInOrder uses `ready` as a queue
  std::vector<Fiber*> at_place;             // kSkewed: all resident fibers
  std::vector<std::uint64_t> ready_places;  // kSkewed, instead of `ready`: a bit a place
  std::vector<std::uint64_t> drawn, dealt;  // draw_places()'s own
  Context host;
  Random random;
  std::uint64_t kernels_run = 0;
  std::uint32_t block_runs = 0;
  std::vector<std::uint64_t> only_blocks;

  // The grid that runs.
  const KernelCall* call = nullptr;
  int failure = 0;
  std::size_t dynamic_bytes = 0;
  bool cooperative = false;
  std::vector<Block> blocks;
  std::size_t n_resident = 0;
  std::uint32_t first_block_run = 0;
  std::size_t grid_arrived = 0;
  std::uint64_t grid_generation = 0;
  std::uint64_t pauses = 0;
};

Scheduler& scheduler = *new Scheduler;

Fiber* self() { return scheduler.current; }

void finish_switch([[maybe_unused]] void* fake_stack) {
#if THRESHER_EMULATOR_ASAN
  const void* from = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &from, &bytes);
  Context& host = scheduler.host;
  if (host.stack == nullptr) {  // the first switch of a grid comes from the host's stack
    host.stack = static_cast<char*>(const_cast<void*>(from));
    host.stack_bytes = bytes;
  }
#endif
}

void switch_context(Context& from, Context& to, [[maybe_unused]] bool from_dies = false) {
#if THRESHER_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(from_dies ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if THRESHER_EMULATOR_ASM_SWITCH
  thresher_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.machine, &to.machine);
#endif
  finish_switch(from.fake_stack);
}

void set_ready_place(std::size_t place) {
  scheduler.ready_places[place / 64] |= std::uint64_t{1} << place % 64;
}

/// The highest ready place, no longer ready; or -1.
std::ptrdiff_t take_highest_place() {
  std::vector<std::uint64_t>& words = scheduler.ready_places;
  for (std::size_t w = words.size(); w-- > 0;) {
    if (words[w] == 0) continue;
    const int bit = 63 - std::countl_zero(words[w]);
    words[w] &= ~(std::uint64_t{1} << bit);
    return static_cast<std::ptrdiff_t>(w * 64) + bit;
  }
  return -1;
}

void push_ready(Fiber* fiber) {
  if (config().order == Order::kSkewed) {
    set_ready_place(fiber->place);
  } else {
    scheduler.ready.push_back(fiber);
  }
}

void make_ready(Fiber* fiber) {
  fiber->state = State::kReady;
  push_ready(fiber);
}

Fiber* pop_ready() {
  std::vector<Fiber*>& ready = scheduler.ready;
  const Order order = config().order;
  if (order == Order::kSkewed) {
    const std::ptrdiff_t place = take_highest_place();
    return place < 0 ? nullptr : scheduler.at_place[static_cast<std::size_t>(place)];
  }
  if (ready.empty()) return nullptr;
  Fiber* picked = nullptr;
  switch (order) {
    case Order::kInOrder:
      picked = ready[scheduler.ready_head++];
      if (scheduler.ready_head == ready.size()) {
        ready.clear();
        scheduler.ready_head = 0;
      }
      return picked;
    case Order::kRandom:
      std::swap(ready[scheduler.random.below(static_cast<std::uint32_t>(ready.size()))],
                ready.back());
      break;
    case Order::kReverse:
    case Order::kSkewed:
      break;
  }
  picked = ready.back();
  ready.pop_back();
  return picked;
}

void clear_ready() {
  scheduler.ready.clear();
  scheduler.ready_head = 0;
  std::ranges::fill(scheduler.ready_places, 0);
}

void make_current(Fiber* fiber) {
  scheduler.current = fiber;
  threadIdx = fiber->index;
  blockIdx = fiber->block_index;
}

/// Gives way: `me` waits, has finished, or was put back among the ready.
void run_next(Fiber* me) {
  Fiber* next = pop_ready();
  if (next == me) return;
  if (next) {
    make_current(next);
    switch_context(me->context, next->context);
  } else {
    scheduler.current = nullptr;
    switch_context(me->context, scheduler.host);
  }
}

/// Deals the places that the block's threads hold out anew: either whole warps are favoured or
/// starved, or single threads are. None of them may be ready.
void draw_places(const Block& block) {
  Scheduler& s = scheduler;
  const bool per_thread = s.random.below(4) == 0;
  s.drawn.resize(block.n_threads);
  s.dealt.resize(block.n_threads);
  std::uint64_t warp = 0;
  for (unsigned t = 0; t < block.n_threads; ++t) {
    if (t % 32 == 0) warp = s.random.next() >> 48 << 32;
    const std::uint64_t own = s.random.next() >> 48 << 16;
    s.drawn[t] = (per_thread ? own : warp | own) | t;  // at most 1024 threads
    s.dealt[t] = block.fibers[t]->place;
  }
  std::ranges::sort(s.drawn);
  std::ranges::sort(s.dealt);
  for (unsigned i = 0; i < block.n_threads; ++i) {
    Fiber* fiber = block.fibers[s.drawn[i] & 0xFFFF];
    fiber->place = s.dealt[i];
    s.at_place[fiber->place] = fiber;
  }
}

/// The running thread changes places with any other.
void draw_own_place(Fiber* me) {
  Scheduler& s = scheduler;
  Fiber* other = s.at_place[s.random.below(static_cast<std::uint32_t>(s.at_place.size()))];
  const std::uint64_t bit = std::uint64_t{1} << other->place % 64;
  const bool other_is_ready = (s.ready_places[other->place / 64] & bit) != 0;
  if (other_is_ready) {
    s.ready_places[other->place / 64] &= ~bit;
    set_ready_place(me->place);
  }
  std::swap(me->place, other->place);
  s.at_place[me->place] = me;
  s.at_place[other->place] = other;
}

[[noreturn]] void abandon_grid(int code) {
  Fiber* me = self();
  scheduler.failure = code;
  scheduler.current = nullptr;
  switch_context(me->context, scheduler.host, true);
  std::abort();  // never resumed
}

[[noreturn]] void fiber_main() {
  finish_switch(nullptr);
  for (;;) {  // a fiber outlives its thread and serves the next one
    scheduler.call->run();
    Fiber* me = self();
    me->state = State::kDone;
    --me->block->live;
    run_next(me);
  }
}

void set_up_stack(Fiber* fiber) {
  fiber->fresh = false;
  Context& context = fiber->context;
#if THRESHER_EMULATOR_ASAN
  __asan_unpoison_memory_region(context.stack, context.stack_bytes);
#endif
#if THRESHER_EMULATOR_ASM_SWITCH
  static unsigned colour = 0;  // staggers the tops over cache lines
  char* top = context.stack + context.stack_bytes - std::size_t{colour++ % 64} * 64;
  void** slot =
      reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{63});
  *--slot = nullptr;  // the return address of fiber_main: keeps the ABI's alignment, ends unwinding
  *--slot = reinterpret_cast<void*>(&fiber_main);
  for (int saved = 0; saved < 6; ++saved) *--slot = nullptr;
  context.stack_pointer = slot;
#else
  getcontext(&context.machine);
  context.machine.uc_stack.ss_sp = context.stack;
  context.machine.uc_stack.ss_size = context.stack_bytes;
  context.machine.uc_link = nullptr;
  makecontext(&context.machine, reinterpret_cast<void (*)()>(&fiber_main), 0);
#endif
}

Fiber* fiber_at(std::size_t i) {
  Scheduler& s = scheduler;
  while (s.pool.size() <= i) {
    if (!s.stacks) {
      void* range = mmap(nullptr, kStackStride * kMostFibers, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (range == MAP_FAILED) {
        std::perror("emulator: cannot reserve stacks");
        std::abort();
      }
      s.stacks = static_cast<char*>(range);
    }
    if (s.pool.size() == kMostFibers) {
      std::fprintf(stderr, "emulator: more than %zu resident threads\n", kMostFibers);
      std::abort();
    }
    Fiber* fiber = new Fiber{};
    fiber->context.stack = s.stacks + kStackStride * s.pool.size() + 2 * kPage;
    fiber->context.stack_bytes = kStack;
    mprotect(fiber->context.stack, kStack, PROT_READ | PROT_WRITE);
    fiber->fresh = true;
    s.pool.push_back(fiber);
  }
  return s.pool[i];
}

std::string place(Site site) {
  const std::string file = site.file ? site.file : "?";
  const std::size_t slash = file.rfind('/');
  return (slash == std::string::npos ? file : file.substr(slash + 1)) + ":" +
         std::to_string(site.line);
}

std::string triple(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string name_of(const Thread* thread) {
  return "block " + triple(thread->block_index) + " thread " + triple(thread->index);
}

[[gnu::noinline]] void report_divergence(const Fiber* first, const Fiber* other) {
  report("divergent barrier: " + name_of(first) + " at " + place(first->site) + ", " +
         name_of(other) + " at " + place(other->site));
}

void check_same_barrier(const Block& block) {
  const Fiber* first = block.fibers[0];
  for (unsigned t = 1; t < block.n_threads; ++t) {
    const Fiber* other = block.fibers[t];
    if (other->site.line != first->site.line || other->site.file != first->site.file ||
        other->vote != first->vote) {
      report_divergence(first, other);
      return;
    }
  }
}

/// The lane whose value `lane` gets from a shuffle.
unsigned shuffle_source(const Collective& operands, unsigned lane) {
  const int width = operands.width, parameter = operands.parameter;
  const int own = static_cast<int>(lane), base = own / width * width, within = own - base;
  int source = own;
  switch (operands.op) {
    case WarpOp::kShuffle:
      source = base + (parameter & (width - 1));
      break;
    case WarpOp::kShuffleUp:
      if (within - parameter >= 0) source = own - parameter;
      break;
    case WarpOp::kShuffleDown:
      if (within + parameter < width) source = own + parameter;
      break;
    case WarpOp::kShuffleXor:
      if ((within ^ parameter) < width) source = base + (within ^ parameter);
      break;
    default:
      break;
  }
  return static_cast<unsigned>(source);
}

std::uint64_t least(std::uint64_t a, std::uint64_t b, Number number) {
  if (number != Number::kSigned) return std::min(a, b);
  return static_cast<std::uint32_t>(
      std::min(static_cast<std::int32_t>(a), static_cast<std::int32_t>(b)));
}
std::uint64_t greatest(std::uint64_t a, std::uint64_t b, Number number) {
  return least(a, b, number) == a ? b : a;
}

/// Calls `visit(lane)` for every lane of `lanes`.
template <class Visit>
void for_lanes(unsigned lanes, Visit&& visit) {
  for (; lanes != 0; lanes &= lanes - 1) visit(static_cast<unsigned>(std::countr_zero(lanes)));
}

/// Votes and reductions over the lanes of `lanes`.
std::uint64_t accumulate(const Warp& warp, unsigned lanes, WarpOp op, Number number) {
  std::uint64_t total = op == WarpOp::kAll || op == WarpOp::kAnd ? ~std::uint64_t{0} : 0;
  bool first = true;
  for_lanes(lanes, [&](unsigned l) {
    const std::uint64_t value = warp.operands[l].value;
    switch (op) {
      case WarpOp::kBallot:
        total |= std::uint64_t{value != 0} << l;
        break;
      case WarpOp::kAll:
        total = total != 0 && value != 0;
        break;
      case WarpOp::kAny:
        total = total != 0 || value != 0;
        break;
      case WarpOp::kAdd:
        total = static_cast<std::uint32_t>(total + value);
        break;
      case WarpOp::kMin:
        total = first ? value : least(total, value, number);
        break;
      case WarpOp::kMax:
        total = first ? value : greatest(total, value, number);
        break;
      case WarpOp::kAnd:
        total &= value;
        break;
      case WarpOp::kOr:
        total |= value;
        break;
      default:
        break;
    }
    first = false;
  });
  return total;
}

std::string describe_stuck(const Block& block) {
  unsigned at_barrier = 0, at_collective = 0;
  const Fiber *barrier_example = nullptr, *collective_example = nullptr;
  for (unsigned t = 0; t < block.n_threads; ++t) {
    const Fiber* fiber = block.fibers[t];
    if (fiber->state == State::kAtBarrier) {
      ++at_barrier;
      barrier_example = fiber;
    }
    if (fiber->state == State::kAtCollective) {
      ++at_collective;
      collective_example = fiber;
    }
  }
  std::string text = "divergence: block " + triple(block.fibers[0]->block_index) +
                     " is stuck: " + std::to_string(block.n_threads - block.live) + " of " +
                     std::to_string(block.n_threads) + " threads have exited";
  if (barrier_example) {
    text += ", " + std::to_string(at_barrier) + " wait at the barrier at " +
            place(barrier_example->site);
  }
  if (collective_example) {
    text += ", " + std::to_string(at_collective) + " wait in the warp collective at " +
            place(collective_example->site);
  }
  return text;
}

// Out of line, so that the texts do not widen the stack frame of every waiting thread.
[[noreturn, gnu::noinline]] void refuse_own_mask(const Fiber* me, Site site) {
  report("warp collective at " + place(site) + ": lane " + std::to_string(me->lane) +
         " is not in its own mask, " + name_of(me));
  abandon_grid(cudaErrorLaunchFailure);
}
[[noreturn, gnu::noinline]] void refuse_mismatch(const Fiber* me, Site site, const Fiber* other) {
  report("mismatched warp collective: " + name_of(me) + " at " + place(site) + " and " +
         name_of(other) + " at " + place(other->site));
  abandon_grid(cudaErrorLaunchFailure);
}
[[gnu::noinline]] void report_inactive_source(const Fiber* fiber, Site site, unsigned source) {
  report("shuffle at " + place(site) + " reads inactive lane " + std::to_string(source) + ", " +
         name_of(fiber));
}

}  // namespace

int barrier(Site site, Vote vote, bool predicate) {
  Fiber* me = self();
  Block* block = me->block;
  me->site = site;
  me->vote = vote;
  block->votes += predicate ? 1 : 0;
  // Exited threads are not counted: a barrier that some threads never reach is undefined.
  if (++block->arrived < block->n_threads) {
    me->state = State::kAtBarrier;
    run_next(me);
    return static_cast<int>(self()->result);
  }
  check_same_barrier(*block);
  const int n = static_cast<int>(block->n_threads);
  const int result = vote == Vote::kCount ? block->votes
                     : vote == Vote::kAnd ? block->votes == n
                                          : block->votes != 0;
  block->votes = 0;
  block->arrived = 0;
  ++block->barrier_epoch;
  const auto none = [](std::uint64_t places) { return places == 0; };
  if (config().order == Order::kSkewed && std::ranges::all_of(scheduler.ready_places, none) &&
      scheduler.random.below(4) == 0) {
    draw_places(*block);
  }
  for (unsigned t = 0; t < block->n_threads; ++t) {
    block->fibers[t]->result = static_cast<std::uint64_t>(result);
    make_ready(block->fibers[t]);
  }
  run_next(me);
  return result;
}

std::uint64_t collective(const Collective& operands, Site site) {
  Fiber* me = self();
  Warp* warp = me->warp;
  const unsigned mask = operands.mask, own = 1u << me->lane;
  if (!(mask & own)) refuse_own_mask(me, site);
  warp->operands[me->lane] = operands;
  me->site = site;
  warp->waiting |= own;
  // Lanes beyond a short last warp may be named, as on the hardware; lanes that exited may not.
  const unsigned needed = mask & warp->exists;
  if ((warp->waiting & needed) != needed) {
    me->state = State::kAtCollective;
    run_next(me);
    return me->result;
  }

  // The last lane to arrive works for all.
  for_lanes(needed, [&](unsigned l) {
    const Collective& other = warp->operands[l];
    if (other.op != operands.op || other.mask != mask || other.number != operands.number) {
      refuse_mismatch(me, site, warp->lane[l]);
    }
  });
  if (operands.op >= WarpOp::kShuffle && operands.op <= WarpOp::kShuffleXor) {
    for_lanes(needed, [&](unsigned l) {
      const unsigned source = shuffle_source(warp->operands[l], l);
      if (needed >> source & 1u) {
        warp->lane[l]->result = warp->operands[source].value;
      } else {
        warp->lane[l]->result = ~std::uint64_t{0};  // undefined: a NaN
        report_inactive_source(warp->lane[l], site, source);
      }
    });
  } else if (operands.op == WarpOp::kMatchAny) {
    for_lanes(needed, [&](unsigned l) {
      std::uint64_t same = 0;
      for_lanes(needed, [&](unsigned m) {
        if (warp->operands[m].value == warp->operands[l].value) same |= std::uint64_t{1} << m;
      });
      warp->lane[l]->result = same;
    });
  } else if (operands.op == WarpOp::kSync) {  // the others do not order memory
    for_lanes(needed, [&](unsigned l) { ++warp->lane[l]->warp_epoch; });
  } else {
    const std::uint64_t total = accumulate(*warp, needed, operands.op, operands.number);
    for_lanes(needed, [&](unsigned l) { warp->lane[l]->result = total; });
  }
  warp->waiting &= ~needed;
  for_lanes(needed, [&](unsigned l) { make_ready(warp->lane[l]); });
  run_next(me);
  return me->result;
}

void pause() {
  Fiber* me = self();
  if (++scheduler.pauses > kMostPauses) {
    report("watchdog: the kernel spins without progress, " + name_of(me));
    abandon_grid(cudaErrorLaunchTimeout);
  }
  if (config().order == Order::kSkewed) draw_own_place(me);
  if (config().order == Order::kReverse) {  // at the end it would be picked again
    scheduler.ready.insert(scheduler.ready.begin(), me);
  } else {
    push_ready(me);
  }
  run_next(me);
}

void preempt_point() {
  const unsigned period = config().preempt;
  if (period > 0 && in_kernel() && scheduler.random.below(period) == 0) pause();
}

void kernel_trap(Site site) {
  report("__trap() at " + place(site) + ", " + thread_name());
  abandon_grid(cudaErrorLaunchFailure);
}

unsigned lane_id() { return self()->lane; }

bool grid_is_cooperative() { return scheduler.cooperative; }

void grid_barrier() {
  Scheduler& s = scheduler;
  if (!s.cooperative) {
    report("grid-wide barrier in a kernel that was not launched cooperatively");
    abandon_grid(cudaErrorLaunchFailure);
  }
  const std::uint64_t generation = s.grid_generation;
  if (++s.grid_arrived == s.n_resident * self()->block->n_threads) {
    s.grid_arrived = 0;
    ++s.grid_generation;
    s.first_block_run = s.block_runs + 1;  // orders everything before it
    for (std::size_t r = 0; r < s.n_resident; ++r) s.blocks[r].run = ++s.block_runs;
  }
  while (s.grid_generation == generation) pause();
}

void* dynamic_shared_bytes() { return self()->block->dynamic_shared; }

void* static_shared_bytes(const void* key, std::size_t bytes) {
  Block* block = self()->block;
  std::size_t total = 0;
  for (const Block::StaticArray& array : block->static_arrays) {
    if (array.key == key) return array.data;
    total += array.bytes;
  }
  if (total + bytes > kMostStaticShared ||
      scheduler.dynamic_bytes + total + bytes > kMostSharedBytes) {
    report("static shared memory of " + std::to_string(total + bytes) + " bytes beside " +
           std::to_string(scheduler.dynamic_bytes) + " dynamic ones exceeds the limit");
    abandon_grid(cudaErrorInvalidValue);
  }
  void* data = arena_allocate(bytes, Memory::kShared);
  block->static_arrays.push_back({key, data, bytes});
  return data;
}

std::int64_t device_clock() {
  static std::int64_t ticks = 0;
  return ++ticks;
}

bool in_kernel() {
  return scheduler.current != nullptr && on_own_stack(__builtin_frame_address(0));
}
std::string thread_name() { return in_kernel() ? name_of(self()) : "host code"; }

bool in_kernel_arguments(const void* p) {
  const char* call = reinterpret_cast<const char*>(scheduler.call);
  return call && p >= call && p < call + scheduler.call->bytes;
}
bool on_own_stack(const void* p) {
  const Context& context = self()->context;
  return p >= context.stack && p < context.stack + context.stack_bytes;
}
bool on_any_stack(const void* p) {
  const char* stacks = scheduler.stacks;
  return stacks && p >= stacks && p < stacks + kStackStride * kMostFibers;
}

Clock clock_now() {
  const Fiber* me = self();
  return {me->block->run, scheduler.first_block_run, me->block->barrier_epoch, me->warp_epoch,
          static_cast<std::uint16_t>(me->rank)};
}

void scheduler_reset(std::uint64_t seed) {
  scheduler.random.state = seed * 0x9E3779B97F4A7C15u + 0x1234567u;
  for (int i = 0; i < 8; ++i) scheduler.random.next();
  scheduler.only_blocks.clear();
}
void scheduler_run_only_blocks(std::vector<std::uint64_t> blocks) {
  scheduler.only_blocks = std::move(blocks);
}
std::uint64_t scheduler_kernels_run() { return scheduler.kernels_run; }

namespace {

std::vector<std::uint64_t> order_of_blocks(std::uint64_t n_blocks) {
  std::vector<std::uint64_t> order;
  if (!scheduler.only_blocks.empty()) {
    order.swap(scheduler.only_blocks);
  } else {
    order.resize(n_blocks);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
  }
  if (config().order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (config().order == Order::kRandom || config().order == Order::kSkewed) {
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[scheduler.random.below(static_cast<std::uint32_t>(i))]);
    }
  }
  return order;
}

void start_block(Block& block, uint3 index) {
  block.live = block.n_threads;
  block.arrived = 0;
  block.votes = 0;
  block.barrier_epoch = 0;
  block.run = ++scheduler.block_runs;
  if (block.dynamic_shared) arena_forget_values(block.dynamic_shared, scheduler.dynamic_bytes);
  for (const Block::StaticArray& array : block.static_arrays) {
    arena_forget_values(array.data, array.bytes);
  }
  for (Warp& warp : block.warps) warp = Warp{};
  for (unsigned t = 0; t < block.n_threads; ++t) {
    Warp& warp = block.warps[t / 32];
    warp.exists |= 1u << t % 32;
    warp.lane[t % 32] = block.fibers[t];
  }
  if (config().order == Order::kSkewed) draw_places(block);
  for (unsigned t = 0; t < block.n_threads; ++t) {
    Fiber* fiber = block.fibers[t];
    fiber->block_index = index;
    fiber->warp_epoch = 0;
    if (fiber->fresh) set_up_stack(fiber);
    make_ready(fiber);
  }
}

/// After the fibers have given up: finished, stuck, or abandoned.
void end_block(Block& block) {
  if (block.live == 0) return;
  if (!scheduler.failure) {
    report(describe_stuck(block));
    scheduler.failure = cudaErrorLaunchTimeout;
  }
  for (unsigned t = 0; t < block.n_threads; ++t) block.fibers[t]->fresh = true;
}

}  // namespace

int run_grid(const Launch& launch, const KernelCall& call) {
  Scheduler& s = scheduler;
  ++s.kernels_run;
  const dim3 grid = launch.grid, block_size = launch.block;
  const std::uint64_t n_blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  const unsigned n_threads = block_size.x * block_size.y * block_size.z;
  // Blocks of an ordinary grid run one after another; only a cooperative grid may rely on more.
  const std::size_t resident = launch.cooperative ? n_blocks : 1;
  const std::vector<std::uint64_t> order = order_of_blocks(n_blocks);

  if (s.blocks.size() < resident) s.blocks.resize(resident);
  std::vector<Fiber*> fibers(resident * n_threads);
  for (std::size_t r = 0; r < resident; ++r) {
    Block& block = s.blocks[r];
    block.n_threads = n_threads;
    block.fibers = fibers.data() + r * n_threads;
    block.warps.resize((n_threads + 31) / 32);
    block.dynamic_shared =
        launch.shared_bytes > 0 ? arena_allocate(launch.shared_bytes, Memory::kShared) : nullptr;
    for (unsigned t = 0; t < n_threads; ++t) {
      Fiber* fiber = fiber_at(r * n_threads + t);
      block.fibers[t] = fiber;
      fiber->index = {t % block_size.x, t / block_size.x % block_size.y,
                      t / (block_size.x * block_size.y)};
      fiber->block = &block;
      fiber->rank = t;
      fiber->lane = t % 32;
      fiber->warp = &block.warps[t / 32];
      fiber->place = r * n_threads + t;
    }
  }
  s.at_place = fibers;
  s.ready_places.assign((fibers.size() + 63) / 64, 0);
  if (config().order == Order::kSkewed && resident > 1) {  // draw_places() keeps to its own block
    for (Fiber* fiber : fibers) draw_own_place(fiber);
  }
  gridDim = grid;
  blockDim = block_size;
  s.call = &call;
  s.failure = 0;
  s.dynamic_bytes = launch.shared_bytes;
  s.cooperative = launch.cooperative;
  s.n_resident = resident;
  s.grid_arrived = 0;
  s.pauses = 0;
  s.first_block_run = s.block_runs + 1;

  for (std::size_t at = 0; at < order.size() && !s.failure; at += resident) {
    const std::size_t count = std::min(resident, order.size() - at);
    clear_ready();
    for (std::size_t r = 0; r < count; ++r) {
      const std::uint64_t id = order[at + r];
      start_block(s.blocks[r],
                  {static_cast<unsigned>(id % grid.x), static_cast<unsigned>(id / grid.x % grid.y),
                   static_cast<unsigned>(id / grid.x / grid.y)});
    }
    make_current(pop_ready());
    s.host.stack = nullptr;  // learnt at the first switch
    switch_context(s.host, self()->context);
    s.current = nullptr;
    for (std::size_t r = 0; r < count; ++r) end_block(s.blocks[r]);
  }

  clear_ready();
  for (std::size_t r = 0; r < resident; ++r) {
    Block& block = s.blocks[r];
    for (std::size_t i = block.static_arrays.size(); i > 0; --i) {
      arena_free(block.static_arrays[i - 1].data);
    }
    block.static_arrays.clear();
    if (block.dynamic_shared) arena_free(block.dynamic_shared);
    block.dynamic_shared = nullptr;
  }
  s.call = nullptr;
  return s.failure;
}

}  // namespace thresher::emulator

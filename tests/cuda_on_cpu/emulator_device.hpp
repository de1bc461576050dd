#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

// The CUDA C++ device language for a host compiler: built-in variables, barriers, warp collectives,
// atomics, intrinsics and the typed launch. Included by shadow/cuda_runtime.h only.
namespace thresher::emulator {

struct Block;
struct Warp;

/// The part of a CUDA thread that this header needs; the rest is in emulator_scheduler.cpp.
struct Thread {
  uint3 index;
  uint3 block_index;
  Block* block;
  Warp* warp;
  unsigned lane;
  unsigned rank;             // linear index in the block
  std::uint16_t warp_epoch;  // __syncwarp()s passed
};

enum class Vote : std::uint8_t { kNone, kCount, kAnd, kOr };

enum class WarpOp : std::uint8_t {
  kSync,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kAll,
  kAny,
  kMatchAny,
  kAdd,
  kMin,
  kMax,
  kAnd,
  kOr
};
enum class Number : std::uint8_t { kUnsigned, kSigned, kOther };

/// Where a barrier or collective stands in the source; threads that wait at different places have
/// diverged.
struct Site {
  const char* file;
  int line;
};

int barrier(Site site, Vote vote, bool predicate);
struct Collective {
  WarpOp op;
  Number number;
  unsigned mask;
  std::uint64_t value;
  int parameter;
  int width;
};
std::uint64_t collective(const Collective& operands, Site site);
unsigned lane_id();
void grid_barrier();
bool grid_is_cooperative();
void pause();          // lets other threads run: spin loops
void preempt_point();  // lets other threads run now and then, if Config::preempt says so
[[noreturn]] void kernel_trap(Site site);
void* dynamic_shared_bytes();
void* static_shared_bytes(const void* key, std::size_t bytes);
void note_atomic(const void* p, std::size_t bytes);
void check_argument(const void* pointer);  // reports a pageable host pointer handed to a kernel
std::int64_t device_clock();

/// A kernel with its arguments, copied at launch as the driver does.
class KernelCall {
 public:
  virtual ~KernelCall() = default;
  virtual void run() const = 0;
  std::size_t bytes = 0;  // of the whole object: kernels may read all of it
};

template <class... Params>
class TypedCall final : public KernelCall {
 public:
  template <class... Args>
  explicit TypedCall(void (*kernel)(Params...), Args&&... args)
      : kernel_(kernel), params_(std::forward<Args>(args)...) {
    bytes = sizeof *this;
    std::apply([](const auto&... param) { (check(param), ...); }, params_);
  }
  void run() const override { std::apply(kernel_, params_); }

 private:
  template <class T>
  static void check(const T& param) {
    if constexpr (std::is_pointer_v<T>) check_argument(reinterpret_cast<const void*>(param));
  }

  void (*kernel_)(Params...);
  std::tuple<Params...> params_;
};

cudaError_t launch(const cudaLaunchConfig_t* config, const void* kernel, std::size_t param_bytes,
                   std::shared_ptr<const KernelCall> call);

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(dynamic_shared_bytes());
}

/// One array per block and declaration. Declaration: one lambda type per place in the source and
/// per template instance.
template <class T, std::size_t N, class Declaration>
T (&static_shared(Declaration))
[N] {
  static const char key = 0;
  return *static_cast<T(*)[N]>(static_shared_bytes(&key, sizeof(T[N])));
}

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace thresher::emulator

// Variables, not macros (cudaLaunchConfig_t has members named gridDim and blockDim); set at every
// switch to another thread.
#define THRESHER_EMULATOR_HIDDEN __attribute__((visibility("hidden")))
THRESHER_EMULATOR_HIDDEN extern uint3 threadIdx;
THRESHER_EMULATOR_HIDDEN extern uint3 blockIdx;
THRESHER_EMULATOR_HIDDEN extern dim3 blockDim;
THRESHER_EMULATOR_HIDDEN extern dim3 gridDim;
inline constexpr int warpSize = 32;

#define THRESHER_EMULATOR_SITE \
  ::thresher::emulator::Site site = {__builtin_FILE(), __builtin_LINE()}

// ---- barriers ----

inline void __syncthreads(THRESHER_EMULATOR_SITE) {
  ::thresher::emulator::barrier(site, ::thresher::emulator::Vote::kNone, false);
}
inline int __syncthreads_count(int predicate, THRESHER_EMULATOR_SITE) {
  return ::thresher::emulator::barrier(site, ::thresher::emulator::Vote::kCount, predicate != 0);
}
inline int __syncthreads_and(int predicate, THRESHER_EMULATOR_SITE) {
  return ::thresher::emulator::barrier(site, ::thresher::emulator::Vote::kAnd, predicate != 0);
}
inline int __syncthreads_or(int predicate, THRESHER_EMULATOR_SITE) {
  return ::thresher::emulator::barrier(site, ::thresher::emulator::Vote::kOr, predicate != 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, THRESHER_EMULATOR_SITE) {
  using namespace ::thresher::emulator;
  collective({WarpOp::kSync, Number::kOther, mask, 0, 0, 32}, site);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { ::thresher::emulator::pause(); }
inline long long clock64() { return ::thresher::emulator::device_clock(); }
[[noreturn]] inline void __trap(THRESHER_EMULATOR_SITE) { ::thresher::emulator::kernel_trap(site); }

// ---- warp collectives; __activemask() is left out on purpose: correct code does without ----

#define THRESHER_EMULATOR_SHUFFLE(NAME, OP, PARAM)                                                 \
  template <class T>                                                                               \
  inline T NAME(unsigned mask, T value, PARAM parameter, int width = 32, THRESHER_EMULATOR_SITE) { \
    using namespace ::thresher::emulator;                                                          \
    return from_bits<T>(collective(                                                                \
        {WarpOp::OP, Number::kOther, mask, to_bits(value), static_cast<int>(parameter), width},    \
        site));                                                                                    \
  }
THRESHER_EMULATOR_SHUFFLE(__shfl_sync, kShuffle, int)
THRESHER_EMULATOR_SHUFFLE(__shfl_up_sync, kShuffleUp, unsigned)
THRESHER_EMULATOR_SHUFFLE(__shfl_down_sync, kShuffleDown, unsigned)
THRESHER_EMULATOR_SHUFFLE(__shfl_xor_sync, kShuffleXor, int)
#undef THRESHER_EMULATOR_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, THRESHER_EMULATOR_SITE) {
  using namespace ::thresher::emulator;
  return static_cast<unsigned>(
      collective({WarpOp::kBallot, Number::kOther, mask, predicate != 0, 0, 32}, site));
}
inline int __all_sync(unsigned mask, int predicate, THRESHER_EMULATOR_SITE) {
  using namespace ::thresher::emulator;
  return static_cast<int>(
      collective({WarpOp::kAll, Number::kOther, mask, predicate != 0, 0, 32}, site));
}
inline int __any_sync(unsigned mask, int predicate, THRESHER_EMULATOR_SITE) {
  using namespace ::thresher::emulator;
  return static_cast<int>(
      collective({WarpOp::kAny, Number::kOther, mask, predicate != 0, 0, 32}, site));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, THRESHER_EMULATOR_SITE) {
  using namespace ::thresher::emulator;
  return static_cast<unsigned>(
      collective({WarpOp::kMatchAny, Number::kOther, mask, to_bits(value), 0, 32}, site));
}

#define THRESHER_EMULATOR_REDUCE(NAME, OP, T, NUMBER)                                 \
  inline T NAME(unsigned mask, T value, THRESHER_EMULATOR_SITE) {                     \
    using namespace ::thresher::emulator;                                             \
    return from_bits<T>(                                                              \
        collective({WarpOp::OP, Number::NUMBER, mask, to_bits(value), 0, 32}, site)); \
  }
THRESHER_EMULATOR_REDUCE(__reduce_add_sync, kAdd, unsigned, kUnsigned)
THRESHER_EMULATOR_REDUCE(__reduce_add_sync, kAdd, int, kSigned)
THRESHER_EMULATOR_REDUCE(__reduce_min_sync, kMin, unsigned, kUnsigned)
THRESHER_EMULATOR_REDUCE(__reduce_min_sync, kMin, int, kSigned)
THRESHER_EMULATOR_REDUCE(__reduce_max_sync, kMax, unsigned, kUnsigned)
THRESHER_EMULATOR_REDUCE(__reduce_max_sync, kMax, int, kSigned)
THRESHER_EMULATOR_REDUCE(__reduce_and_sync, kAnd, unsigned, kUnsigned)
THRESHER_EMULATOR_REDUCE(__reduce_or_sync, kOr, unsigned, kUnsigned)
#undef THRESHER_EMULATOR_REDUCE

// ---- atomics: plain read-modify-write (one OS thread runs the grid), known to the race checker
// ----

#define THRESHER_EMULATOR_ATOMIC(NAME, RESULT)                                                   \
  template <class T>                                                                             \
  __attribute__((noinline, no_sanitize("thread"))) T NAME(T* p, std::type_identity_t<T> value) { \
    ::thresher::emulator::preempt_point();                                                       \
    ::thresher::emulator::note_atomic(p, sizeof(T));                                             \
    const T old = *p;                                                                            \
    *p = static_cast<T>(RESULT);                                                                 \
    return old;                                                                                  \
  }
THRESHER_EMULATOR_ATOMIC(atomicAdd, old + value)
THRESHER_EMULATOR_ATOMIC(atomicSub, old - value)
THRESHER_EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
THRESHER_EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
THRESHER_EMULATOR_ATOMIC(atomicExch, value)
THRESHER_EMULATOR_ATOMIC(atomicOr, old | value)
THRESHER_EMULATOR_ATOMIC(atomicAnd, old& value)
#undef THRESHER_EMULATOR_ATOMIC
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T atomicCAS(T* p, std::type_identity_t<T> expected,
                                                             std::type_identity_t<T> value) {
  ::thresher::emulator::preempt_point();
  ::thresher::emulator::note_atomic(p, sizeof(T));
  const T old = *p;
  if (old == expected) *p = value;
  return old;
}

// ---- loads and stores with cache hints ----

template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline void __stcs(T* p, std::type_identity_t<T> value) {
  *p = value;
}
template <class T>
inline void __stcg(T* p, std::type_identity_t<T> value) {
  *p = value;
}

// ---- bits and arithmetic ----

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
inline int __ffsll(long long x) {
  return x ? std::countr_zero(static_cast<unsigned long long>(x)) + 1 : 0;
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= ((x >> i) & 1u) << (31 - i);
  return reversed;
}
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }

// Rounding to nearest is what the host does by itself. The volatile keeps the product or sum from
// being fused, which is what these names promise on the device.
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) {
  const volatile double result = a + b;
  return result;
}
inline double __dsub_rn(double a, double b) { return __dadd_rn(a, -b); }
inline double __dmul_rn(double a, double b) {
  const volatile double result = a * b;
  return result;
}
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __fadd_rn(float a, float b) {
  const volatile float result = a + b;
  return result;
}
inline float __fsub_rn(float a, float b) { return __fadd_rn(a, -b); }
inline float __fmul_rn(float a, float b) {
  const volatile float result = a * b;
  return result;
}
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }

namespace thresher::emulator {

/// `nearest`, moved by one step if it lies on the wrong side: `error` is the exact result minus
/// `nearest`, or has its sign.
template <class T>
T round_up(T nearest, double error) {
  if (!std::isfinite(nearest)) {
    return nearest < T(0) && error > 0.0 ? std::numeric_limits<T>::lowest() : nearest;
  }
  return error > 0.0 ? std::nextafter(nearest, std::numeric_limits<T>::infinity()) : nearest;
}
template <class T>
T round_down(T nearest, double error) {
  return -round_up(-nearest, -error);
}

/// a + b minus its rounded value (Knuth 1969, two-sum), exact barring overflow.
inline double sum_error(double a, double b) {
  const volatile double sum = a + b;
  const volatile double b_part = sum - a;
  const volatile double a_part = sum - b_part;
  return (a - a_part) + (b - b_part);
}

}  // namespace thresher::emulator

inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __double2float_ru(double x) {
  const float nearest = static_cast<float>(x);
  return ::thresher::emulator::round_up(nearest, x - static_cast<double>(nearest));
}
inline float __double2float_rd(double x) { return -__double2float_ru(-x); }
inline float __double2float_rz(double x) {
  return x < 0.0 ? __double2float_ru(x) : __double2float_rd(x);
}
inline double __dadd_ru(double a, double b) {
  return ::thresher::emulator::round_up(a + b, ::thresher::emulator::sum_error(a, b));
}
inline double __dadd_rd(double a, double b) { return -__dadd_ru(-a, -b); }
inline double __dsub_ru(double a, double b) { return __dadd_ru(a, -b); }
inline double __dsub_rd(double a, double b) { return __dadd_rd(a, -b); }
inline double __dmul_ru(double a, double b) {
  const double nearest = __dmul_rn(a, b);
  return ::thresher::emulator::round_up(nearest, std::fma(a, b, -nearest));
}
inline double __dmul_rd(double a, double b) { return -__dmul_ru(-a, b); }
inline double __dsqrt_ru(double a) {
  const double nearest = std::sqrt(a);
  return ::thresher::emulator::round_up(nearest, -std::fma(nearest, nearest, -a));
}
inline double __ddiv_ru(double a, double b) {
  const double nearest = a / b;
  const double residual = -std::fma(nearest, b, -a);
  return ::thresher::emulator::round_up(nearest, b < 0.0 ? -residual : residual);
}
inline float __fadd_ru(float a, float b) {
  return __double2float_ru(static_cast<double>(a) + static_cast<double>(b));
}
inline float __fmul_ru(float a, float b) {
  return __double2float_ru(static_cast<double>(a) * static_cast<double>(b));
}
inline float __fmul_rd(float a, float b) {
  return __double2float_rd(static_cast<double>(a) * static_cast<double>(b));
}

// CUDA's min and max of the global namespace.
template <class T>
inline T min(T a, std::type_identity_t<T> b) {
  return b < a ? b : a;
}
template <class T>
inline T max(T a, std::type_identity_t<T> b) {
  return a < b ? b : a;
}

// ---- overloads that the toolkit declares for nvcc only ----

template <class Result, class... Params>
cudaError_t cudaFuncSetAttribute(Result (*kernel)(Params...), cudaFuncAttribute attribute,
                                 int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class Result, class... Params>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Result (*kernel)(Params...)) {
  return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class Result, class... Params>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n_blocks,
                                                          Result (*kernel)(Params...),
                                                          int block_size,
                                                          std::size_t shared_bytes) {
  return ::cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      n_blocks, reinterpret_cast<const void*>(kernel), block_size, shared_bytes);
}

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args));
  static_assert((!std::is_reference_v<Params> && ...), "kernel parameters are passed by value");
  static_assert((std::is_trivially_copyable_v<Params> && ...));
  return ::thresher::emulator::launch(
      config, reinterpret_cast<const void*>(kernel), (std::size_t{0} + ... + sizeof(Params)),
      std::make_shared<const ::thresher::emulator::TypedCall<Params...>>(
          kernel, std::forward<Args>(args)...));
}

#include "backend/simd.hpp"

namespace thresher {

namespace simd_baseline {
extern const Simd kSimd;
}
#if defined(THRESHER_X86)
namespace simd_v3 {
extern const Simd kSimd;
}
namespace simd_v4 {
extern const Simd kSimd;
}
#endif

const Simd& simd() {
#if defined(THRESHER_X86)
  static const Simd& best = [&]() -> const Simd& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      return simd_v4::kSimd;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      return simd_v3::kSimd;
    }
    return simd_baseline::kSimd;
  }();
  return best;
#else
  return simd_baseline::kSimd;
#endif
}

}  // namespace thresher

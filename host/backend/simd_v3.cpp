#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "backend/simd.hpp"

namespace thresher::simd_v3 {
namespace {
#include "backend/simd_body.hpp"
}  // namespace

extern const Simd kSimd;
constinit const Simd kSimd = all_loops("x86-64-v3");

}  // namespace thresher::simd_v3

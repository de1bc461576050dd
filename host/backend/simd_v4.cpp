#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "backend/simd.hpp"

namespace thresher::simd_v4 {
namespace {
#include "backend/simd_body.hpp"
}  // namespace

extern const Simd kSimd;
const Simd kSimd = {"x86-64-v4",
                    scan_f64,
                    scan_f32,
                    centre_f64,
                    centre_f32,
                    shift_f64,
                    shift_f32,
                    narrow_f64,
                    narrow_f32,
                    dot,
                    axpy,
                    moments,
                    dots,
                    centred_dots_f64,
                    centred_dots_f32,
                    cross,
                    axpys,
                    update,
                    rotate,
                    solve_forward,
                    solve_backward,
                    kPanelWidth,
                    pack_columns,
                    pack_rows,
                    multiply_panels,
                    to_half,
                    correlate_panels,
                    correlate_floats,
                    combine_floats};

}  // namespace thresher::simd_v4

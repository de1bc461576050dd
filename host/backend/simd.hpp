#pragma once

#include <cstddef>
#include <cstdint>

#include "thresher/views.hpp"

namespace thresher {

/// Number of features in one panel of half-precision columns.
constexpr Index kPanel = 32;
/// Most right-hand sides one call of Simd::correlate_panels takes.
constexpr Index kMaxRightSides = 12;
/// Most panels one call of Simd::combine_floats takes.
constexpr Index kMostTogether = 8;
/// Rows that one call of Simd::rotate takes.
constexpr Index kRotatedRows = 8;
/// Rows of Simd::solve_forward and solve_backward.
constexpr Index kTriangleRows = 16;
/// Rows added in float before the partial sum joins the total; the rounding bound of
/// half_panels.hpp depends on it.
constexpr Index kRowBlock = 256;

/// What reading one column tells: sum and largest magnitude over rows that count, finiteness over
/// all rows.
struct ColumnScan {
  double sum;
  double max_abs;
  bool finite;
};

/// What centring one column tells about the result.
struct ColumnCentred {
  double squares;
  double sum;
  double max_abs;
};

struct Rotation {
  double cosine, sine;
};

/// The inner loops, compiled once per instruction set from simd_body.hpp; simd() picks the best
/// that this processor runs. Every sum has a fixed order for a given instruction set.
struct Simd {
  const char* name;

  ColumnScan (*scan_f64)(Index n, const double* x, const std::uint8_t* counts);
  ColumnScan (*scan_f32)(Index n, const float* x, const std::uint8_t* counts);
  /// out = (x - mean) * scale; tells of out. `next`, as long as x, comes from memory meanwhile.
  ColumnCentred (*centre_f64)(Index n, const double* x, double mean, double scale, double* out,
                              const double* next);
  ColumnCentred (*centre_f32)(Index n, const float* x, double mean, double scale, double* out,
                              const float* next);

  /// out = (x - mean) * scale, nothing told; narrow: rounded to float.
  void (*shift_f64)(Index n, const double* x, double mean, double scale, double* out);
  void (*shift_f32)(Index n, const float* x, double mean, double scale, double* out);
  void (*narrow_f64)(Index n, const double* x, double mean, double scale, float* out);
  void (*narrow_f32)(Index n, const float* x, double mean, double scale, float* out);

  double (*dot)(Index n, const double* x, const double* y);
  void (*axpy)(Index n, double alpha, const double* x, double* y);
  /// Sums of w x and w x^2.
  void (*moments)(Index n, const double* w, const double* x, double* first, double* second);
  /// out[k] = x_k' z for count columns.
  void (*dots)(Index n, const double* const* x, Index count, const double* z, double* out);
  /// The same of columns (x_k - mean_k) * scale_k, with the sums that dots has of them stored.
  void (*centred_dots_f64)(Index n, const double* const* x, const double* mean, const double* scale,
                           Index count, const double* z, double* out);
  void (*centred_dots_f32)(Index n, const float* const* x, const double* mean, const double* scale,
                           Index count, const double* z, double* out);
  /// out[c * ldc + k] = x_k' y_c for every pair.
  void (*cross)(Index n, const double* const* x, Index n_x, const double* const* y, Index n_y,
                double* out, Index ldc);
  /// r += sum_k alpha[k] x_k.
  void (*axpys)(Index n, Index count, const double* alpha, const double* const* x, double* r);

  /// r_c += sum_k b[k * m + c] x_k for m columns r_c = r + c * ldr.
  void (*update)(Index n, const double* const* x, Index count, const double* b, Index m, double* r,
                 Index ldr);

  /// Rotates columns c = 0 .. count - 1 of kRotatedRows rows, one after the other, against x
  /// (kRotatedRows): (r_k[c], x_k) to (cosine r_k[c] + sine x_k, cosine x_k - sine r_k[c]).
  void (*rotate)(Index count, const Rotation* rotations, double* const* rows, double* x);

  /// Of kTriangleRows rows of a triangular matrix L, `stride` apart, which have n columns before
  /// their diagonal block; n is a multiple of it. Forward: x[n ..] to the next entries of L^-1 x.
  /// Backward: x[n ..] to the last entries of L'^-1 x, which are taken off x[0 .. n).
  void (*solve_forward)(Index n, const double* rows, Index stride, double* x);
  void (*solve_backward)(Index n, const double* rows, Index stride, double* x);

  /// Columns of a packed panel; 0 where there are no loops for packed panels.
  Index panel_width;
  /// Packs x (n, count) into panels, one after the other: columns f of a panel to out[i *
  /// panel_width + f], i < n; the last is filled up with 0. pack_columns reads x[f * ldx + i],
  /// pack_rows x[i * ldx + f].
  void (*pack_columns)(Index n, const double* x, Index ldx, Index count, double* out);
  void (*pack_rows)(Index n, const double* x, Index ldx, Index count, double* out);
  /// C = alpha sum_i a_i b_i' + beta C, of up to 3 panels a, one after the other, and a panel b of
  /// n rows each; C (n_panels * panel_width, panel_width) is not read where beta = 0.
  void (*multiply_panels)(Index n, const double* a, Index n_panels, const double* b, double alpha,
                          double beta, double* c, Index ldc);

  /// Writes x to out[i * kPanel] in half precision; returns the sum of (x - half(x))^2.
  double (*to_half)(Index n, const double* x, std::uint16_t* out);
  /// c[b * ldc + p * kPanel + f] = sum_i half(panels[(p * n + i) * kPanel + f]) z[i * m + b], for b
  /// < m, m <= kMaxRightSides, in float, blocks of kRowBlock rows; the same whatever m is.
  void (*correlate_panels)(Index n, const std::uint16_t* panels, Index n_panels, Index m,
                           const float* z, float* c, Index ldc);
  /// The same of one panel in single precision.
  void (*correlate_floats)(Index n, const float* panel, Index m, const float* z, float* c,
                           Index ldc);
  /// r[i] += sum_p sum_f panels[p][i * kPanel + f] b[p * kPanel + f] for count <= kMostTogether
  /// panels: no more than kPanel / 4 * kMostTogether terms are added in float.
  void (*combine_floats)(Index n, const float* const* panels, Index count, const float* b,
                         double* r);
};

const Simd& simd();

/// simd().cross by blocks of rows and of columns x, so that what a block holds stays in the cache.
void cross_in_blocks(Index n, const double* const* x, Index n_x, const double* const* y, Index n_y,
                     double* out, Index ldc);

}  // namespace thresher

#include "backend/packed_product.hpp"

#include <algorithm>

#include "backend/aligned.hpp"
#include "backend/simd.hpp"

namespace thresher::blas {
namespace {

// Goto & van de Geijn (2008): a panel of op(B) stays in the first cache while a block of op(A)
// passes by from the second. Rows of a block: whole tiles of 3 panels for every panel width.
constexpr Index kDepth = 320;
constexpr Index kRows = 240;
constexpr Index kColumns = 512;
constexpr Index kTile = 3;
constexpr Index kMostWidth = 8;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

bool has_packed_product() { return simd().panel_width > 0; }

std::size_t packed_product_bytes() {
  return at((kRows + kColumns + 2 * kMostWidth) * kDepth) * sizeof(double);
}

void packed_product(bool trans_a, bool trans_b, Index m, Index n, Index k, double alpha,
                    const double* a, Index lda, const double* b, Index ldb, double beta, double* c,
                    Index ldc, bool lower) {
  const Index width = simd().panel_width;
  thread_local AlignedDoubles rows(at((kRows + kMostWidth) * kDepth));
  thread_local AlignedDoubles columns(at((kColumns + kMostWidth) * kDepth));
  double part[kTile * kMostWidth * kMostWidth] = {};
  if (alpha == 0.0) k = 0;  // A and B are not read then
  for (Index j0 = 0; j0 < n; j0 += kColumns) {
    const Index n_columns = std::min(kColumns, n - j0);
    for (Index l = 0; l == 0 || l < k; l += kDepth) {
      const Index depth = std::min(kDepth, k - l);
      const double before = l == 0 ? beta : 1.0;
      const auto pack_b = trans_b ? simd().pack_rows : simd().pack_columns;
      pack_b(depth, b + (trans_b ? l * ldb + j0 : j0 * ldb + l), ldb, n_columns, columns.data());
      for (Index i0 = lower ? j0 : 0; i0 < m; i0 += kRows) {
        const Index n_rows = std::min(kRows, m - i0);
        const double* packed = columns.data() + (i0 - j0) * depth;
        if (!lower || i0 + n_rows > j0 + n_columns) {
          const auto pack_a = trans_a ? simd().pack_columns : simd().pack_rows;
          pack_a(depth, a + (trans_a ? i0 * lda + l : l * lda + i0), lda, n_rows, rows.data());
          packed = rows.data();
        }
        for (Index j = 0; j < n_columns; j += width) {
          const Index top = lower ? std::max<Index>(0, (j0 + j - i0) / width * width) : 0;
          for (Index i = top; i < n_rows; i += kTile * width) {
            const Index row = i0 + i, column = j0 + j;
            const Index height = std::min(kTile * width, n_rows - i);
            const Index across = std::min(width, n_columns - j);
            const double* x = packed + i * depth;
            const double* y = columns.data() + j * depth;
            double* to = c + column * ldc + row;
            const Index panels = (height + width - 1) / width;
            if (height == panels * width && across == width && !(lower && row < column + width)) {
              simd().multiply_panels(depth, x, panels, y, alpha, before, to, ldc);
              continue;
            }
            // At an edge: a tile of its own, by the same loops, of which some entries are wanted.
            const auto for_each_wanted = [&](const auto& visit) {
              for (Index q = 0; q < across; ++q) {
                for (Index r = lower ? std::max<Index>(0, column + q - row) : 0; r < height; ++r) {
                  visit(to[q * ldc + r], part[q * kTile * width + r]);
                }
              }
            };
            if (before != 0.0) for_each_wanted([](double& entry, double& copy) { copy = entry; });
            simd().multiply_panels(depth, x, panels, y, alpha, before, part, kTile * width);
            for_each_wanted([](double& entry, double& copy) { entry = copy; });
          }
        }
      }
    }
  }
}

}  // namespace thresher::blas

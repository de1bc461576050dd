// The inner loops of every instruction set that this processor runs, against plain ones.

#include "backend/simd.hpp"

#include <functional>

#include "library_case.hpp"

namespace thresher {
namespace simd_baseline {
extern const Simd kSimd;
}
#if defined(__x86_64__)
namespace simd_v3 {
extern const Simd kSimd;
}
namespace simd_v4 {
extern const Simd kSimd;
}
#endif
}  // namespace thresher

namespace thresher::testing_library {
namespace {

using Numbers = std::vector<double>;

std::vector<const Simd*> tables() {
  std::vector<const Simd*> out = {&simd_baseline::kSimd};
#if defined(__x86_64__)
  // What simd() picks says what the processor has; each set includes the ones before.
  const bool has_v4 = &simd() == &simd_v4::kSimd;
  if (has_v4 || &simd() == &simd_v3::kSimd) out.push_back(&simd_v3::kSimd);
  if (has_v4) out.push_back(&simd_v4::kSimd);
#endif
  return out;
}

void for_each_table(const std::function<void(const Simd&)>& check) {
  for (const Simd* kernels : tables()) {
    SCOPED_TRACE(kernels->name);
    check(*kernels);
  }
}

Numbers numbers(Index n, double seed) {
  Numbers out(at(n));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = std::sin(seed + 1.7 * static_cast<double>(i));
  return out;
}

// What lies above the diagonal is not part of the matrix, and may be anything.
TEST(Simd, TrianglesAreSolvedWhateverLiesAboveTheDiagonal) {
  for_each_table([](const Simd& kernels) {
    for (const Index n : {0, 16, 48}) {
      SCOPED_TRACE(n);
      const Index stride = n + kTriangleRows + 3;
      Numbers rows = numbers(kTriangleRows * stride, 0.3);
      for (Index r = 0; r < kTriangleRows; ++r) {
        rows[at(r * stride + n + r)] = 3.0 + 0.1 * static_cast<double>(r);
        for (Index c = n + r + 1; c < stride; ++c) {
          rows[at(r * stride + c)] = std::numeric_limits<double>::quiet_NaN();
        }
      }
      const Numbers given = numbers(n + kTriangleRows, 0.9);
      Numbers want = given;
      for (Index r = 0; r < kTriangleRows; ++r) {
        double& x = want[at(n + r)];
        for (Index c = 0; c < n + r; ++c) x -= rows[at(r * stride + c)] * want[at(c)];
        x /= rows[at(r * stride + n + r)];
      }
      Numbers x = given;
      kernels.solve_forward(n, rows.data(), stride, x.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], want[i], 1e-12) << i;

      want = given;
      for (Index r = kTriangleRows - 1; r >= 0; --r) {
        want[at(n + r)] /= rows[at(r * stride + n + r)];
        for (Index c = 0; c < n + r; ++c) want[at(c)] -= rows[at(r * stride + c)] * want[at(n + r)];
      }
      x = given;
      kernels.solve_backward(n, rows.data(), stride, x.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], want[i], 1e-12) << i;
    }
  });
}

TEST(Simd, RowsAreRotatedColumnByColumn) {
  for_each_table([](const Simd& kernels) {
    for (const Index count : {0, 1, 7, 8, 16, 21}) {
      SCOPED_TRACE(count);
      const Index stride = count + 2;
      std::vector<Rotation> rotations;
      for (Index c = 0; c < count; ++c) {
        const double angle = 0.2 + 0.4 * static_cast<double>(c);
        rotations.push_back({std::cos(angle), std::sin(angle)});
      }
      Numbers rows = numbers(kRotatedRows * stride, 0.1), x = numbers(kRotatedRows, 0.6);
      Numbers want_rows = rows, want_x = x;
      double* r[kRotatedRows];
      for (Index k = 0; k < kRotatedRows; ++k) {
        r[k] = rows.data() + k * stride;
        for (Index c = 0; c < count; ++c) {
          const auto [cosine, sine] = rotations[at(c)];
          double& own = want_rows[at(k * stride + c)];
          const double t = own;
          own = cosine * t + sine * want_x[at(k)];
          want_x[at(k)] = cosine * want_x[at(k)] - sine * t;
        }
      }
      kernels.rotate(count, rotations.data(), r, x.data());
      for (std::size_t i = 0; i < rows.size(); ++i) ASSERT_NEAR(rows[i], want_rows[i], 1e-13) << i;
      for (std::size_t k = 0; k < x.size(); ++k) ASSERT_NEAR(x[k], want_x[k], 1e-13) << k;
    }
  });
}

TEST(Simd, ColumnsAreUpdatedAndTheSameInAnyCompany) {
  for_each_table([](const Simd& kernels) {
    const Index n = 301, count = 9, most = 13;
    const Numbers X = numbers(n * count, 0.2), b = numbers(count * most, 0.5);
    std::vector<const double*> x;
    for (Index k = 0; k < count; ++k) x.push_back(X.data() + k * n);
    const Numbers given = numbers(n * most, 0.8);
    Numbers together = given;
    kernels.update(n, x.data(), count, b.data(), most, together.data(), n);
    for (Index c = 0; c < most; ++c) {
      for (Index i = 0; i < n; ++i) {
        double want = given[at(c * n + i)];
        for (Index k = 0; k < count; ++k) want += X[at(k * n + i)] * b[at(k * most + c)];
        ASSERT_NEAR(together[at(c * n + i)], want, 1e-12) << i << " of " << c;
      }
    }
    for (Index m = 1; m < most; ++m) {
      Numbers first(at(count * m)), r(given.begin(), given.begin() + n * m);
      for (Index k = 0; k < count; ++k) {
        for (Index c = 0; c < m; ++c) first[at(k * m + c)] = b[at(k * most + c)];
      }
      kernels.update(n, x.data(), count, first.data(), m, r.data(), n);
      for (std::size_t i = 0; i < r.size(); ++i) ASSERT_EQ(r[i], together[i]) << m << " at " << i;
    }
  });
}

}  // namespace
}  // namespace thresher::testing_library

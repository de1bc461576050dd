#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "backend/blas.hpp"
#include "backend/packed_product.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace loops {
// The implementation for builds without OpenBLAS, compiled under another name beside the one the
// library uses (ridge/CMakeLists.txt).
void gemm(bool, bool, Index, Index, Index, double, const double*, Index, const double*, Index,
          double, double*, Index);
void gemm(bool, bool, Index, Index, Index, float, const float*, Index, const float*, Index, float,
          float*, Index);
void syrk_lower(Index, Index, double, const double*, Index, double, double*, Index);
void syrk_rows_lower(Index, Index, double, const double*, Index, double, double*, Index);
void gemv(bool, Index, Index, double, const double*, Index, const double*, double, double*);
bool symmetric_eigen(Index, double*, Index, double*);
}  // namespace loops

namespace {

using Numbers = std::vector<double>;

Numbers random_numbers(Index n, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  Numbers v(static_cast<std::size_t>(n));
  for (double& x : v) x = uniform(engine);
  return v;
}

double at(const Numbers& a, Index ld, bool trans, Index i, Index j) {
  return a[static_cast<std::size_t>(trans ? i * ld + j : j * ld + i)];
}

constexpr double kEps = std::numeric_limits<double>::epsilon();

class BlasShapes : public testing::TestWithParam<std::tuple<Index, Index, Index>> {};

TEST_P(BlasShapes, GemmMatchesItsDefinition) {
  const auto [m, n, k] = GetParam();
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      for (const double beta : {0.0, 1.0, -0.5}) {
        const Index lda = (trans_a ? k : m) + 3, ldb = (trans_b ? n : k) + 1, ldc = m + 2;
        const Numbers a = random_numbers(lda * (trans_a ? m : k) + 1, 1);
        const Numbers b = random_numbers(ldb * (trans_b ? k : n) + 1, 2);
        Numbers c = random_numbers(ldc * n + 1, 3);
        const Numbers before = c;
        if (beta == 0.0) c.assign(c.size(), std::numeric_limits<double>::quiet_NaN());
        Numbers own = c;
        blas::gemm(trans_a, trans_b, m, n, k, 0.75, a.data(), lda, b.data(), ldb, beta, c.data(),
                   ldc);
        loops::gemm(trans_a, trans_b, m, n, k, 0.75, a.data(), lda, b.data(), ldb, beta, own.data(),
                    ldc);
        const double bound = 4.0 * static_cast<double>(k + 2) * kEps * static_cast<double>(k + 1);
        for (Index j = 0; j < n; ++j) {
          for (Index i = 0; i < m; ++i) {
            long double sum = 0.0L;
            for (Index l = 0; l < k; ++l) {
              sum +=
                  static_cast<long double>(at(a, lda, trans_a, i, l)) * at(b, ldb, trans_b, l, j);
            }
            const std::size_t f = static_cast<std::size_t>(j * ldc + i);
            const double want =
                static_cast<double>(0.75L * sum + (beta == 0.0 ? 0.0 : beta * before[f]));
            ASSERT_NEAR(c[f], want, bound);
            ASSERT_NEAR(own[f], want, bound);
          }
          for (Index i = m; i < ldc; ++i) {  // the gap between columns is nobody's
            const std::size_t f = static_cast<std::size_t>(j * ldc + i);
            if (beta != 0.0) {
              ASSERT_EQ(c[f], before[f]);
              ASSERT_EQ(own[f], before[f]);
            }
          }
        }
      }
    }
  }
}

TEST_P(BlasShapes, SyrkAndGemvAgreeWithGemm) {
  const auto [m, n, k] = GetParam();
  const Index lda = k + 1;
  const Numbers a = random_numbers(lda * n + 1, 5);
  Numbers full(static_cast<std::size_t>(n * n)), lower(full), own(full);
  blas::gemm(true, false, n, n, k, 2.0, a.data(), lda, a.data(), lda, 0.0, full.data(), n);
  blas::syrk_lower(n, k, 2.0, a.data(), lda, 0.0, lower.data(), n);
  loops::syrk_lower(n, k, 2.0, a.data(), lda, 0.0, own.data(), n);
  // The same from A' (n, k), on top of what is there.
  Numbers across(static_cast<std::size_t>((n + 2) * k + 1)), lower_of_rows(lower), own_of_rows(own);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < k; ++i) {
      across[static_cast<std::size_t>(i * (n + 2) + j)] = at(a, lda, false, i, j);
    }
  }
  blas::syrk_rows_lower(n, k, 1.0, across.data(), n + 2, 0.5, lower_of_rows.data(), n);
  loops::syrk_rows_lower(n, k, 1.0, across.data(), n + 2, 0.5, own_of_rows.data(), n);
  const double bound = 4.0 * static_cast<double>((k + 2) * (k + 1)) * kEps;
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < n; ++i) {
      const std::size_t f = static_cast<std::size_t>(j * n + i);
      if (i < j) {
        ASSERT_EQ(own[f], 0.0);
        ASSERT_EQ(lower[f], 0.0);
        continue;
      }
      ASSERT_NEAR(lower[f], full[f], bound);
      ASSERT_NEAR(own[f], full[f], bound);
      ASSERT_NEAR(lower_of_rows[f], full[f], bound);
      ASSERT_NEAR(own_of_rows[f], full[f], bound);
    }
  }
  for (const bool trans : {false, true}) {
    const Numbers x = random_numbers(k + n, 6);
    Numbers y(static_cast<std::size_t>(k + n), std::numeric_limits<double>::quiet_NaN()), z(y),
        t(y);
    blas::gemv(trans, k, n, 1.5, a.data(), lda, x.data(), 0.0, y.data());
    loops::gemv(trans, k, n, 1.5, a.data(), lda, x.data(), 0.0, z.data());
    const Index size = trans ? n : k;
    blas::gemm(trans, false, size, 1, trans ? k : n, 1.5, a.data(), lda, x.data(), k + n, 0.0,
               t.data(), k + n);
    for (Index i = 0; i < size; ++i) {
      const double b = 8.0 * kEps * static_cast<double>((k + n) * (k + n));
      ASSERT_NEAR(y[static_cast<std::size_t>(i)], t[static_cast<std::size_t>(i)], b);
      ASSERT_NEAR(z[static_cast<std::size_t>(i)], t[static_cast<std::size_t>(i)], b);
    }
  }
}

// Equal columns must have equal products, wherever they stand.
TEST(Blas, AnEntryDoesNotDependOnItsPlace) {
  if (!blas::has_packed_product()) GTEST_SKIP() << "products are OpenBLAS's on this processor";
  const Index m = 61, n = 21, k = 700;
  const Numbers a = random_numbers(k * m, 21), b = random_numbers(k * n, 22);
  for (const double beta : {0.0, 0.7}) {
    const Numbers before = random_numbers(m * m, 23);
    Numbers c = before, square = before;
    blas::gemm(true, false, m, n, k, 0.3, a.data(), k, b.data(), k, beta, c.data(), m);
    blas::syrk_lower(m, k, 0.3, a.data(), k, beta, square.data(), m);
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < m; ++j) {
        const auto f = static_cast<std::size_t>(j * m + i);
        double one = before[f];
        if (j < n) {
          blas::gemm(true, false, 1, 1, k, 0.3, &a[static_cast<std::size_t>(i * k)], k,
                     &b[static_cast<std::size_t>(j * k)], k, beta, &one, 1);
          EXPECT_EQ(c[f], one);
        }
        one = before[f];
        blas::gemm(true, false, 1, 1, k, 0.3, &a[static_cast<std::size_t>(i * k)], k,
                   &a[static_cast<std::size_t>(j * k)], k, beta, &one, 1);
        EXPECT_EQ(square[f], i >= j ? one : before[f]);
      }
    }
  }
}

TEST(Blas, NothingIsReadForAlphaZero) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  double c = 2.0;
  blas::gemm(true, false, 1, 1, 1, 0.0, &nan, 1, &nan, 1, 0.5, &c, 1);
  EXPECT_EQ(c, 1.0);
}

INSTANTIATE_TEST_SUITE_P(Sizes, BlasShapes,
                         testing::Values(std::tuple<Index, Index, Index>{1, 1, 1},
                                         std::tuple<Index, Index, Index>{7, 5, 3},
                                         std::tuple<Index, Index, Index>{65, 9, 257},
                                         std::tuple<Index, Index, Index>{8, 130, 17},
                                         // Past a block of packed_product.cpp in each direction.
                                         std::tuple<Index, Index, Index>{251, 523, 330},
                                         std::tuple<Index, Index, Index>{4, 3, 0}));

TEST(Blas, EigenReconstructsTheMatrix) {
  // Past 64 reflectors, and 128 + 1.
  for (const Index n : {1, 2, 3, 17, 60, 65, 66, 130}) {
    for (const bool deficient : {false, true}) {
      const Index k = deficient ? (n + 1) / 2 : n + 3;
      const Numbers x = random_numbers(k * n, 7);
      Numbers gram(static_cast<std::size_t>(n * n));
      blas::syrk_lower(n, k, 1.0, x.data(), k, 0.0, gram.data(), n);
      for (const bool own : {false, true}) {
        Numbers v = gram, w(static_cast<std::size_t>(n));
        ASSERT_TRUE(own ? loops::symmetric_eigen(n, v.data(), n, w.data())
                        : blas::symmetric_eigen(n, v.data(), n, w.data()));
        const double bound = 100.0 * kEps * static_cast<double>(n * k);
        for (Index i = 1; i < n; ++i) {
          EXPECT_LE(w[static_cast<std::size_t>(i - 1)], w[static_cast<std::size_t>(i)]);
        }
        for (Index i = 0; i < n; ++i) {
          for (Index j = 0; j <= i; ++j) {
            long double sum = 0.0L, dot = 0.0L;
            for (Index l = 0; l < n; ++l) {
              sum += static_cast<long double>(at(v, n, false, i, l)) *
                     w[static_cast<std::size_t>(l)] * at(v, n, false, j, l);
              dot += static_cast<long double>(at(v, n, false, l, i)) * at(v, n, false, l, j);
            }
            ASSERT_NEAR(static_cast<double>(sum), at(gram, n, false, i, j), bound);
            ASSERT_NEAR(static_cast<double>(dot), i == j ? 1.0 : 0.0, bound);
          }
        }
      }
    }
  }
}

// OpenBLAS 0.3.21, serial, hands one work buffer to two threads unless its table is guarded (see
// blas_openblas.cpp): without the guard seven runs of this test in eight failed.
TEST(Blas, ManyThreadsGetTheBitsOfOne) {
  const Index m = 300, n = 70, k = 310;
  const Numbers a = random_numbers(k * m, 11), b = random_numbers(k * n, 12);
  const auto work = [&] {
    Numbers c(static_cast<std::size_t>(m * n)), g(static_cast<std::size_t>(m * m)),
        w(static_cast<std::size_t>(m)), y(static_cast<std::size_t>(m));
    blas::gemm(true, false, m, n, k, 1.0, a.data(), k, b.data(), k, 0.0, c.data(), m);
    blas::syrk_lower(m, k, 1.0, a.data(), k, 0.0, g.data(), m);
    blas::gemv(true, k, m, 1.0, a.data(), k, b.data(), 0.0, y.data());
    EXPECT_TRUE(blas::symmetric_eigen(m, g.data(), m, w.data()));
    c.insert(c.end(), g.begin(), g.end());
    c.insert(c.end(), w.begin(), w.end());
    c.insert(c.end(), y.begin(), y.end());
    return c;
  };
  const Numbers want = work();
  std::vector<int> wrong(16);
  const ThreadPool pool(16);
  pool.run(16, [&](Index task, int) {
    for (int repeat = 0; repeat < 6; ++repeat) {
      if (work() != want) wrong[static_cast<std::size_t>(task)] = 1;
    }
  });
  for (const int x : wrong) EXPECT_EQ(x, 0);
}

TEST(Blas, SizesBeyondIntAreRefused) {
  if (std::string(blas::description()) == "own loops") GTEST_SKIP() << "own loops take any size";
  const float x = 0.0F;
  float sum = 0.0F;
  EXPECT_THROW(blas::gemm(false, false, Index{1} << 31, 1, 1, 1.0F, &x, Index{1} << 31, &x, 1, 0.5F,
                          &sum, Index{1} << 31),
               Error);
  double y = 0.0;
  EXPECT_THROW(blas::symmetric_eigen(50'000, &y, 50'000, &y), Error);
}

TEST(Blas, DescriptionNamesTheImplementation) {
  EXPECT_FALSE(std::string(blas::description()).empty());
}

}  // namespace
}  // namespace thresher

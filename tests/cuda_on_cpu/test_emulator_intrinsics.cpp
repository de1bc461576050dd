#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

// Intrinsics that round in a direction, against the processor's own rounding modes.
namespace thresher::emulator {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// compute() with the rounding mode set, from operands the compiler cannot see through.
template <class Compute>
auto rounded(int mode, Compute compute) {
  std::fesetround(mode);
  const volatile auto result = compute();
  std::fesetround(FE_TONEAREST);
  return +result;
}

class DirectedRounding : public testing::Test {
 protected:
  double next() { return std::ldexp(normal_(engine_), static_cast<int>(engine_() % 40) - 20); }
  std::mt19937_64 engine_{11};
  std::normal_distribution<double> normal_;
};

TEST_F(DirectedRounding, ToFloat) {
  for (int i = 0; i < 20000; ++i) {
    const volatile double x = next();
    EXPECT_EQ(__double2float_ru(x), rounded(FE_UPWARD, [&] { return static_cast<float>(x); }));
    EXPECT_EQ(__double2float_rd(x), rounded(FE_DOWNWARD, [&] { return static_cast<float>(x); }));
    EXPECT_EQ(__double2float_rz(x), rounded(FE_TOWARDZERO, [&] { return static_cast<float>(x); }));
    EXPECT_EQ(__double2float_rn(x), static_cast<float>(x));
  }
  EXPECT_EQ(__double2float_ru(1e300), std::numeric_limits<float>::infinity());
  EXPECT_EQ(__double2float_ru(-1e300), std::numeric_limits<float>::lowest());
  EXPECT_TRUE(std::isnan(__double2float_ru(std::nan(""))));
}

TEST_F(DirectedRounding, OfDoubles) {
  for (int i = 0; i < 20000; ++i) {
    const volatile double a = next(), b = next();
    EXPECT_EQ(__dadd_ru(a, b), rounded(FE_UPWARD, [&] { return a + b; }));
    EXPECT_EQ(__dadd_rd(a, b), rounded(FE_DOWNWARD, [&] { return a + b; }));
    EXPECT_EQ(__dsub_ru(a, b), rounded(FE_UPWARD, [&] { return a - b; }));
    EXPECT_EQ(__dmul_ru(a, b), rounded(FE_UPWARD, [&] { return a * b; }));
    EXPECT_EQ(__dmul_rd(a, b), rounded(FE_DOWNWARD, [&] { return a * b; }));
    EXPECT_EQ(__ddiv_ru(a, b), rounded(FE_UPWARD, [&] { return a / b; }));
    const volatile double square = std::fabs(a);
    EXPECT_EQ(__dsqrt_ru(square), rounded(FE_UPWARD, [&] { return std::sqrt(square); }));
  }
  EXPECT_EQ(__dadd_ru(kInfinity, 1.0), kInfinity);
  EXPECT_EQ(__dmul_ru(3.0, 0.5), 1.5);
}

TEST_F(DirectedRounding, OfFloats) {
  for (int i = 0; i < 20000; ++i) {
    const volatile float a = static_cast<float>(next()), b = static_cast<float>(next());
    EXPECT_EQ(__fadd_ru(a, b), rounded(FE_UPWARD, [&] { return a + b; }));
    EXPECT_EQ(__fmul_ru(a, b), rounded(FE_UPWARD, [&] { return a * b; }));
    EXPECT_EQ(__fmul_rd(a, b), rounded(FE_DOWNWARD, [&] { return a * b; }));
  }
}

TEST(BitIntrinsics, MatchTheirDefinitions) {
  EXPECT_EQ(__popc(0xF0F0u), 8);
  EXPECT_EQ(__popcll(~0ull), 64);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__brev(1u), 0x80000000u);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3F800000u);
  EXPECT_EQ(__longlong_as_double(__double_as_longlong(-2.5)), -2.5);
}

}  // namespace
}  // namespace thresher::emulator

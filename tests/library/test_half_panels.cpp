// Products with half-precision columns (docs/decisions/0005).

#include "backend/half_panels.hpp"
#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

// Few and many right-hand sides, short columns and long ones take different loops.
TEST(HalfPanels, ProductsAreWithinTheirSlackAndTheSameInAnyCompany) {
  for (const Index n : {600, 1500}) {
    SCOPED_TRACE(n);
    const Index p = 7 * kPanel + 5;
    const Table table(n, p, 1);
    HalfPanels panels(n, p);
    for (Index j = 0; j < p; ++j) panels.set_column(j, table.X.data() + j * n);
    std::vector<float> z(at(n * kMaxRightSides));
    for (std::size_t k = 0; k < z.size(); ++k) {
      z[k] = static_cast<float>(std::sin(0.1 * static_cast<double>(k)));
    }
    const Index padded = panels.padded_features();
    std::vector<float> alone(at(padded * kMaxRightSides)), side(at(n));
    for (Index b = 0; b < kMaxRightSides; ++b) {
      double squares = 0.0;
      for (Index i = 0; i < n; ++i) {
        side[at(i)] = z[at(i * kMaxRightSides + b)];
        squares += static_cast<double>(side[at(i)]) * static_cast<double>(side[at(i)]);
      }
      panels.correlate(1, side.data(), alone.data() + b * padded);
      for (Index j = 0; j < p; ++j) {
        double want = 0.0;
        for (Index i = 0; i < n; ++i) want += table.x(i, j) * static_cast<double>(side[at(i)]);
        const double slack = static_cast<double>(panels.slack()[at(j)]) * std::sqrt(squares);
        ASSERT_NEAR(static_cast<double>(alone[at(b * padded + j)]), want, slack) << j;
      }
    }
    for (Index m = 2; m <= kMaxRightSides; ++m) {
      std::vector<float> packed(at(n * m)), c(at(padded * m));
      for (Index i = 0; i < n; ++i) {
        for (Index b = 0; b < m; ++b) packed[at(i * m + b)] = z[at(i * kMaxRightSides + b)];
      }
      panels.correlate(m, packed.data(), c.data());
      for (std::size_t k = 0; k < c.size(); ++k) ASSERT_EQ(c[k], alone[k]) << m << " at " << k;
    }
  }
}

}  // namespace
}  // namespace thresher::testing_library

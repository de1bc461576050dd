// The factor that grows and shrinks, against plain loops over a whole matrix.

#include "backend/packed_cholesky.hpp"

#include <random>

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

/// A positive definite matrix of order n, and its features in use, in order.
class Whole {
 public:
  explicit Whole(Index n) : n_(n), values_(at(n * n)) {
    std::mt19937_64 random(static_cast<std::uint64_t>(n));
    std::normal_distribution<double> normal;
    const Index rows = n + 5;
    std::vector<double> x(at(rows * n));
    for (double& value : x) value = normal(random);
    for (Index j = 0; j < n; ++j) {
      for (Index k = 0; k < n; ++k) {
        double sum = j == k ? 0.5 * static_cast<double>(n) : 0.0;
        for (Index i = 0; i < rows; ++i) sum += x[at(j * rows + i)] * x[at(k * rows + i)];
        values_[at(j * n + k)] = sum;
      }
    }
  }
  double operator()(Index j, Index k) const { return values_[at(j * n_ + k)]; }

 private:
  Index n_;
  std::vector<double> values_;
};

void append(const Whole& whole, std::vector<Index>& used, Index j, PackedCholesky& factor) {
  std::vector<double> g, l;
  for (const Index k : used) g.push_back(whole(j, k));
  const double squares = factor.forward_row(g.data(), l);
  factor.append(l, std::sqrt(whole(j, j) - squares));
  used.push_back(j);
}

/// M x of the features in use.
std::vector<double> product(const Whole& whole, const std::vector<Index>& used,
                            const std::vector<double>& x) {
  std::vector<double> out(used.size(), 0.0);
  for (std::size_t i = 0; i < used.size(); ++i) {
    for (std::size_t k = 0; k < used.size(); ++k) out[i] += whole(used[i], used[k]) * x[k];
  }
  return out;
}

void expect_factor_of(const Whole& whole, const std::vector<Index>& used,
                      const PackedCholesky& factor) {
  ASSERT_EQ(factor.size(), static_cast<Index>(used.size()));
  const std::size_t n = used.size();
  std::vector<double> x(n);
  for (std::size_t k = 0; k < n; ++k) x[k] = std::cos(0.7 * static_cast<double>(k)) + 0.1;
  // From the first entry on, and with as many zeros before: both must be read right.
  for (const std::size_t zeros : {std::size_t{0}, n / 2, n - 1}) {
    SCOPED_TRACE(zeros);
    std::vector<double> b(n, 0.0);
    for (std::size_t k = zeros; k < n; ++k) b[k] = x[k];
    std::vector<double> solution = b;
    factor.solve(solution.data(), static_cast<Index>(zeros));
    const std::vector<double> back = product(whole, used, solution);
    for (std::size_t k = 0; k < n; ++k) ASSERT_NEAR(back[k], b[k], 1e-11) << k;
  }
  // L^-1 of columns, one by one and together; then L'^-1 makes it M^-1.
  std::vector<std::vector<double>> together;
  std::vector<double*> columns;
  for (std::size_t c = 0; c < 7; ++c) {
    together.emplace_back(n);
    for (std::size_t k = 0; k < n; ++k) {
      together[c][k] = std::sin(static_cast<double>((c + 1) * (k + 2)));
    }
  }
  const std::vector<std::vector<double>> given = together;
  for (std::vector<double>& column : together) columns.push_back(column.data());
  factor.forward_columns(columns);
  for (std::size_t c = 0; c < together.size(); ++c) {
    std::vector<double> alone;
    factor.forward_row(given[c].data(), alone);
    for (std::size_t k = 0; k < n; ++k) ASSERT_NEAR(together[c][k], alone[k], 1e-12) << k;
    factor.solve_transposed(together[c].data());
    const std::vector<double> back = product(whole, used, together[c]);
    for (std::size_t k = 0; k < n; ++k) ASSERT_NEAR(back[k], given[c][k], 1e-11) << k;
  }
}

// Blocks have 16 rows: orders on both sides of one, two and more.
TEST(PackedCholesky, SolvesAtEveryOrder) {
  for (const Index n : {1, 2, 7, 15, 16, 17, 31, 32, 33, 47, 48, 64, 75, 100}) {
    SCOPED_TRACE(n);
    const Whole whole(n);
    PackedCholesky factor;
    std::vector<Index> used;
    for (Index j = 0; j < n; ++j) append(whole, used, j, factor);
    expect_factor_of(whole, used, factor);
  }
}

TEST(PackedCholesky, StaysAFactorWhenRowsLeaveAndOthersCome) {
  const Index n = 90;
  const Whole whole(n);
  PackedCholesky factor;
  std::vector<Index> used;
  for (Index j = 0; j < 70; ++j) append(whole, used, j, factor);
  Index next = 70;
  for (const std::vector<Index>& gone : std::vector<std::vector<Index>>{
           {0}, {68}, {3, 4, 5}, {1, 20, 21, 40, 63}, {10}, {0, 57}, {2, 9, 16, 23, 30, 37, 44}}) {
    SCOPED_TRACE(gone.front());
    SCOPED_TRACE(gone.size());
    for (auto position = gone.rbegin(); position != gone.rend(); ++position) {
      used.erase(used.begin() + *position);
    }
    factor.remove(gone);
    expect_factor_of(whole, used, factor);
    for (int more = 0; more < 2; ++more, ++next) append(whole, used, next, factor);
    expect_factor_of(whole, used, factor);
  }
}

}  // namespace
}  // namespace thresher::testing_library

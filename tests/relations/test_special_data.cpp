#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <vector>

#include "relations/relation_fixture.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double tol(const EngineUnderTest& engine) { return engine.tol() * 1.01 + 1e-13; }

/// Every fit ends well, is finite and minimises its objective.
void expect_solved(const EngineUnderTest& engine, const Case& given, const std::string& what) {
  SCOPED_TRACE(what);
  const Answer answer = solve(engine, given);
  expect_good(answer);
  for_each_fit(answer,
               [&](const oracle::Problem& problem, const oracle::Solution& found, Index f, Index) {
                 EXPECT_TRUE(std::isfinite(answer.model.objective[at(f)]));
                 EXPECT_TRUE(std::isfinite(answer.model.gap[at(f)]));
                 EXPECT_TRUE(std::isfinite(answer.model.deviance[at(f)]));
                 EXPECT_TRUE(std::isfinite(answer.model.intercept[at(f)]));
                 if (oracle::null_loss(problem) > 0)
                   expect_optimal(problem, found, tol(engine), what);
               });
}

Case small(Index n, Index p, std::vector<double> X, std::vector<double> Y) {
  Case out;
  out.n = n;
  out.p = p;
  out.X = std::move(X);
  out.Y = std::move(Y);
  return out;
}

TEST_P(Relation, R43_exact_ties_end_well) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      Case given = ties();
      given.l1_ratio = l1_ratio;
      given.intercept = intercept;
      expect_solved(GetParam(), with_grid(given, {1.0, 0.9, 0.5, 0.1, 0.01, 1e-4}), "ties");
    }
  }
}

TEST_P(Relation, R43_tiny_shapes_end_well) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      for (Case given : {small(1, 3, {1, 2, 3}, {5}), small(2, 1, {1, 2}, {3, -1}),
                         small(2, 3, {1, 2, 0, 1, 4, 4}, {1, 2}), small(3, 1, {1, 2, 4}, {1, 0, 5}),
                         small(1, 1, {2}, {3})}) {
        given.l1_ratio = l1_ratio;
        given.intercept = intercept;
        given.grid = {1.0, 0.1, 0.01};
        expect_solved(GetParam(), given,
                      "n " + std::to_string(given.n) + ", p " + std::to_string(given.p));
      }
    }
  }
}

TEST_P(Relation, R43_nothing_to_learn_gives_zeros) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    Case zero_X = narrow();
    std::fill(zero_X.X.begin(), zero_X.X.end(), 0.0);
    Case zero_y = narrow();
    std::fill(zero_y.Y.begin(), zero_y.Y.end(), 0.0);
    Case constant_y = narrow();
    std::fill(constant_y.Y.begin(), constant_y.Y.end(), 0.1);
    for (Case given : {zero_X, zero_y, constant_y}) {
      given.l1_ratio = l1_ratio;
      given.w = random_weights(given.n, 43);
      given.grid = {0.5, 0.01, 1e-6};
      const Answer answer = solve(GetParam(), given);
      for (Index l = 0; l < 3; ++l) {
        EXPECT_EQ(answer.model.status[at(l)], static_cast<int>(Status::kConverged));
        for (double b : coefficients(answer.model, 0, l)) EXPECT_EQ(b, 0.0);
      }
      given.grid.clear();
      expect_good(solve(GetParam(), given, [](Call& call) { call.options.n_lambdas = 4; }));
    }
  }
}

/// At lambda = 0 least squares: flagged where the answer is not unique, exact either way.
TEST_P(Relation, R43_lambda_zero_is_least_squares) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      const std::pair<Case, bool> cases[] = {{tall(), false}, {wide(), true}, {ties(), true}};
      for (auto [given, deficient] : cases) {
        given.l1_ratio = l1_ratio;
        given.intercept = intercept;
        given = with_grid(given, {0.1, 0.0});
        const Answer answer = solve(GetParam(), given);
        expect_good(answer);
        EXPECT_EQ(answer.model.rank_deficient[0], 0);
        EXPECT_EQ(answer.model.rank_deficient[1], deficient ? 1 : 0);
        for_each_fit(answer, [&](const oracle::Problem& problem, const oracle::Solution& found,
                                 Index, Index) {
          expect_optimal(problem, found, tol(GetParam()), "least squares");
        });
      }
    }
  }
}

TEST_P(Relation, R43_many_more_columns_than_rows_end_well) {
  Case given = take_rows(large(), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  std::vector<Index> columns(200);
  std::iota(columns.begin(), columns.end(), Index{0});
  given = take_columns(given, columns);
  given.l1_ratio = GetParam().l1_ratios().front();
  expect_solved(GetParam(), with_grid(given, {0.5, 0.1, 0.01}), "10 x 200");
}

/// Inverted dropout: kept inputs are divided by 1 - q. The loss averaged over all 2^p masks must
/// be the loss plus the d term, at the answer and around it.
TEST_P(Relation, R44_the_dropout_term_is_the_average_over_all_masks) {
  const double q = 0.3;
  for (bool intercept : {true, false}) {
    Case given = narrow();
    given.w = random_weights(given.n, 44);
    given.l1_ratio = GetParam().l1_ratios().back();
    given.intercept = intercept;
    given.dropout = q;
    for (double& value : given.X) value += 0.5;
    const Answer answer = solve(GetParam(), with_grid(given, {0.3, 0.02}));
    for_each_fit(
        answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index f, Index) {
          auto averaged = [&](const oracle::Solution& point) {
            oracle::Real sum = 0;
            for (int mask = 0; mask < (1 << given.p); ++mask) {
              oracle::Real probability = 1;
              oracle::Solution kept = point;
              for (Index j = 0; j < given.p; ++j) {
                const bool on = (mask >> j) & 1;
                probability *= on ? 1 - q : q;
                kept.coef[at(j)] = on ? point.coef[at(j)] / (1 - q) : 0;
              }
              const std::vector<oracle::Real> r = oracle::residual(problem, kept);
              for (Index i = 0; i < given.n; ++i) {
                sum += probability * problem.w[at(i)] * r[at(i)] * r[at(i)] / 2;
              }
            }
            return sum + problem.lambda * oracle::penalty(problem, point);
          };
          const double best = static_cast<double>(averaged(found));
          const double scale = static_cast<double>(oracle::null_loss(problem));
          EXPECT_NEAR(answer.model.objective[at(f)], best, 1e-11 * best);
          // No point nearby is better.
          for (Index j = 0; j < given.p; ++j) {
            for (double step : {-0.05, 0.05}) {
              oracle::Solution moved = found;
              moved.coef[at(j)] += step;
              EXPECT_GE(static_cast<double>(averaged(moved)), best - tol(GetParam()) * scale);
            }
          }
        });
  }
}

TEST_P(Relation, R45_columns_of_very_different_scale_converge) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    Case given = tall();
    given.l1_ratio = l1_ratio;
    given.standardize = true;
    for (Index j = 0; j < given.p; ++j) {
      const double scale = std::pow(10.0, -5 + 10.0 * static_cast<double>(j) / 7);
      for (Index i = 0; i < given.n; ++i) given.x(i, j) *= scale;
    }
    for (bool intercept : {true, false}) {
      given.intercept = intercept;
      expect_solved(GetParam(), with_grid(given, {0.5, 0.1, 0.01, 1e-3}), "standardized");
    }
    given.standardize = false;
    given.intercept = true;
    expect_solved(GetParam(), with_grid(given, {0.5, 0.01, 1e-5, 1e-8}), "as given");
  }
}

/// num / den in lowest terms, den > 0.
class Fraction {
 public:
  using Wide = __int128;
  Fraction(long long value = 0) : num_(value) {}
  Fraction(Wide num, Wide den) : num_(den < 0 ? -num : num), den_(den < 0 ? -den : den) {
    Wide a = num_ < 0 ? -num_ : num_;
    Wide b = den_;
    while (b != 0) a = std::exchange(b, a % b);
    if (a > 1) {
      num_ /= a;
      den_ /= a;
    }
  }
  Fraction operator+(const Fraction& o) const {
    return {num_ * o.den_ + o.num_ * den_, den_ * o.den_};
  }
  Fraction operator-(const Fraction& o) const {
    return {num_ * o.den_ - o.num_ * den_, den_ * o.den_};
  }
  Fraction operator*(const Fraction& o) const { return {num_ * o.num_, den_ * o.den_}; }
  Fraction operator/(const Fraction& o) const { return {num_ * o.den_, den_ * o.num_}; }
  bool operator<(const Fraction& o) const { return num_ * o.den_ < o.num_ * den_; }
  bool operator==(const Fraction& o) const { return num_ == o.num_ && den_ == o.den_; }
  int sign() const { return num_ < 0 ? -1 : num_ > 0 ? 1 : 0; }
  oracle::Real value() const {
    return static_cast<oracle::Real>(num_) / static_cast<oracle::Real>(den_);
  }

 private:
  Wide num_ = 0;
  Wide den_ = 1;
};

/// Exact solve of the square system by Gauss; nullopt if singular.
std::optional<std::vector<Fraction>> solve_exactly(std::vector<std::vector<Fraction>> A,
                                                   std::vector<Fraction> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t top = k;
    while (top < n && A[top][k].sign() == 0) ++top;
    if (top == n) return std::nullopt;
    std::swap(A[k], A[top]);
    std::swap(b[k], b[top]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const Fraction share = A[i][k] / A[k][k];
      for (std::size_t j = k; j < n; ++j) A[i][j] = A[i][j] - share * A[k][j];
      b[i] = b[i] - share * b[k];
    }
  }
  for (std::size_t k = 0; k < n; ++k) b[k] = b[k] / A[k][k];
  return b;
}

struct ExactProblem {
  std::vector<std::vector<Fraction>> gram;  ///< X'X / n, centred if there is an intercept
  std::vector<Fraction> xty;
  Fraction yty, a, e;
};

/// The exact minimiser: the support and signs whose stationary point satisfies all conditions.
std::optional<std::vector<Fraction>> minimise(const ExactProblem& problem) {
  const std::size_t p = problem.xty.size();
  std::size_t states = 1;
  for (std::size_t j = 0; j < p; ++j) states *= 3;
  for (std::size_t code = 0; code < states; ++code) {
    std::vector<int> signs;
    for (std::size_t rest = code, j = 0; j < p; ++j, rest /= 3) {
      signs.push_back(static_cast<int>(rest % 3) - 1);
    }
    std::vector<std::size_t> support;
    for (std::size_t j = 0; j < p; ++j) {
      if (signs[j] != 0) support.push_back(j);
    }
    std::vector<std::vector<Fraction>> A;
    std::vector<Fraction> rhs;
    for (std::size_t j : support) {
      A.emplace_back();
      for (std::size_t k : support) {
        A.back().push_back(problem.gram[j][k] + (j == k ? problem.e : Fraction(0)));
      }
      rhs.push_back(problem.xty[j] - problem.a * Fraction(signs[j]));
    }
    const auto part = solve_exactly(A, rhs);
    if (!part) continue;
    std::vector<Fraction> b(p);
    bool ok = true;
    for (std::size_t k = 0; k < support.size(); ++k) {
      b[support[k]] = (*part)[k];
      // Without an L1 term a sign is free.
      ok = ok && (problem.a.sign() == 0 || (*part)[k].sign() == signs[support[k]]);
    }
    for (std::size_t j = 0; j < p && ok; ++j) {
      if (signs[j] != 0) continue;
      Fraction g = problem.xty[j];
      for (std::size_t k = 0; k < p; ++k) g = g - problem.gram[j][k] * b[k];
      ok = !(problem.a < g) && !(problem.a < Fraction(0) - g);
    }
    if (ok) return b;
  }
  return std::nullopt;
}

TEST_P(Relation, R46_tiny_integer_problems_equal_exact_arithmetic) {
  Random random(46);
  int compared = 0;
  for (int trial = 0; trial < 150; ++trial) {
    const Index n = 2 + random.below(4);
    const Index p = 1 + random.below(3);
    Case given;
    given.n = n;
    given.p = p;
    for (Index k = 0; k < n * p; ++k) given.X.push_back(static_cast<double>(random.below(5) - 2));
    for (Index i = 0; i < n; ++i) given.Y.push_back(static_cast<double>(random.below(9) - 4));
    given.intercept = trial % 2 == 0;
    const std::vector<double> ratios = GetParam().l1_ratios();
    given.l1_ratio = ratios[at(trial / 2 % static_cast<Index>(ratios.size()))];
    // lambda = k / 8 and l1_ratio are exact in double and as fractions.
    const long long eighths = 1 + random.below(12);
    given.grid = {static_cast<double>(eighths) / 8};

    ExactProblem exact;
    const Fraction lambda(eighths, 8);
    const Fraction l1 = given.l1_ratio == 1   ? Fraction(1)
                        : given.l1_ratio == 0 ? Fraction(0)
                                              : Fraction(1, 2);
    exact.a = lambda * l1;
    exact.e = lambda * (Fraction(1) - l1);
    auto x = [&](Index i, Index j) { return Fraction(static_cast<long long>(given.x(i, j))); };
    auto y = [&](Index i) { return Fraction(static_cast<long long>(given.y(i))); };
    std::vector<Fraction> mean(at(p));
    Fraction y_mean;
    const Fraction count(static_cast<long long>(n));
    if (given.intercept) {
      for (Index i = 0; i < n; ++i) {
        y_mean = y_mean + y(i) / count;
        for (Index j = 0; j < p; ++j) mean[at(j)] = mean[at(j)] + x(i, j) / count;
      }
    }
    exact.gram.assign(at(p), std::vector<Fraction>(at(p)));
    exact.xty.assign(at(p), Fraction(0));
    for (Index i = 0; i < n; ++i) {
      exact.yty = exact.yty + (y(i) - y_mean) * (y(i) - y_mean) / count;
      for (Index j = 0; j < p; ++j) {
        const Fraction xij = x(i, j) - mean[at(j)];
        exact.xty[at(j)] = exact.xty[at(j)] + xij * (y(i) - y_mean) / count;
        for (Index k = 0; k < p; ++k) {
          exact.gram[at(j)][at(k)] =
              exact.gram[at(j)][at(k)] + xij * (x(i, k) - mean[at(k)]) / count;
        }
      }
    }
    const auto b = minimise(exact);
    if (!b) continue;  // only singular supports: the minimiser is not unique
    ++compared;

    Fraction objective = exact.yty / Fraction(2);
    for (std::size_t j = 0; j < b->size(); ++j) {
      const Fraction bj = (*b)[j];
      objective = objective - exact.xty[j] * bj + exact.e * bj * bj / Fraction(2) +
                  exact.a * (bj.sign() < 0 ? Fraction(0) - bj : bj);
      for (std::size_t k = 0; k < b->size(); ++k) {
        objective = objective + exact.gram[j][k] * bj * (*b)[k] / Fraction(2);
      }
    }
    const Answer answer = solve(GetParam(), given);
    expect_good(answer);
    const double null_loss = static_cast<double>(exact.yty.value()) / 2;
    const double excess = answer.model.objective[0] - static_cast<double>(objective.value());
    EXPECT_LE(excess, tol(GetParam()) * null_loss + 1e-14) << "trial " << trial;
    EXPECT_GE(excess, -1e-14 - 1e-14 * null_loss) << "trial " << trial;
    // The fitted values are unique even where the coefficients are not.
    const std::vector<double> found = coefficients(answer.model, 0, 0);
    for (Index i = 0; i < n; ++i) {
      oracle::Real off = 0;
      for (Index j = 0; j < p; ++j) {
        off += (x(i, j) - mean[at(j)]).value() * (found[at(j)] - (*b)[at(j)].value());
      }
      EXPECT_LE(static_cast<double>(off * off),
                2 * static_cast<double>(n) * (tol(GetParam()) * null_loss + 1e-14))
          << "trial " << trial;
    }
  }
  EXPECT_GE(compared, 100);
}

}  // namespace
}  // namespace thresher

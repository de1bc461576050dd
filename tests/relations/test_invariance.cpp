#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "relations/relation_fixture.hpp"

namespace thresher {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

const std::vector<double> kPath = {1.1, 0.5, 0.1, 0.01};

/// What a mapped answer may miss when the mapped data round differently.
double rounding(const EngineUnderTest& engine) { return engine.is_float ? 2e-5 : 1e-11; }

double tol(const EngineUnderTest& engine) { return engine.tol() * 1.01 + 1e-13; }

/// Problems with everything on, with and without an intercept, on a given grid.
std::vector<Case> dressed_cases(const EngineUnderTest& engine, std::uint64_t seed) {
  std::vector<Case> out;
  for (double l1_ratio : engine.l1_ratios()) {
    for (Case base : {tall(), wide()}) {
      for (bool intercept : {true, false}) {
        Case given = dressed(base, seed);
        given.l1_ratio = l1_ratio;
        given.intercept = intercept;
        out.push_back(with_grid(given, kPath));
      }
    }
  }
  return out;
}

void scale(std::vector<double>& values, double c) {
  for (double& value : values) value *= c;
}

TEST_P(Relation, R08_scaling_y_scales_the_coefficients) {
  for (const Case& given : dressed_cases(GetParam(), 8)) {
    for (double c : {1e3, 1e-6, 1e150, 1e-150}) {
      Case other = given;
      scale(other.Y, c);
      scale(other.grid, c);
      scale(other.v, 1 / c);
      const Answer answer = solve(GetParam(), other);
      expect_good(answer);
      expect_maps_to(answer, given, tol(GetParam()) + 1e-12, [&](oracle::Solution& found) {
        found.intercept /= c;
        for (oracle::Real& b : found.coef) b /= c;
      });
    }
  }
}

TEST_P(Relation, R09_scaling_X_leaves_fitted_values_alone) {
  std::vector<double> factors = {1e-4, 1e4};
  for (double power : {0x1p-60, 0x1p60}) factors.push_back(power);  // about 1e-18, 1e18
  if (!GetParam().is_float) factors.insert(factors.end(), {1e-150, 1e150});
  for (Case given : dressed_cases(GetParam(), 9)) {
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      given = with_grid(given, kPath);
      for (double c : factors) {
        Case other = given;
        scale(other.X, c);
        scale(other.d, c);
        scale(other.d, c);
        if (!standardize) {
          scale(other.grid, c);
          scale(other.v, c);
        }
        const Answer answer = solve(GetParam(), other);
        expect_good(answer);
        expect_maps_to(answer, given, tol(GetParam()) + rounding(GetParam()),
                       [&](oracle::Solution& found) {
                         for (oracle::Real& b : found.coef) b *= c;
                       });
      }
    }
  }
}

TEST_P(Relation, R10_a_flipped_column_flips_its_coefficient) {
  for (const Case& given : dressed_cases(GetParam(), 10)) {
    Case other = given;
    for (Index i = 0; i < given.n; ++i) {
      other.x(i, 0) = -other.x(i, 0);
      other.x(i, 3) = -other.x(i, 3);
    }
    expect_maps_to(solve(GetParam(), other), given, tol(GetParam()), [](oracle::Solution& found) {
      found.coef[0] = -found.coef[0];
      found.coef[3] = -found.coef[3];
    });
  }
}

std::vector<Index> shuffled(Index size, std::uint64_t seed) {
  std::vector<Index> order(at(size));
  std::iota(order.begin(), order.end(), Index{0});
  Random random(seed);
  for (Index k = size - 1; k > 0; --k) std::swap(order[at(k)], order[at(random.below(k + 1))]);
  return order;
}

TEST_P(Relation, R11_permuted_columns_permute_the_coefficients) {
  for (const Case& given : dressed_cases(GetParam(), 11)) {
    const std::vector<Index> order = shuffled(given.p, 111);
    expect_maps_to(solve(GetParam(), take_columns(given, order)), given, tol(GetParam()),
                   [&](oracle::Solution& found) {
                     const std::vector<oracle::Real> coef = found.coef;
                     for (std::size_t k = 0; k < order.size(); ++k) {
                       found.coef[at(order[k])] = coef[k];
                     }
                   });
  }
}

TEST_P(Relation, R12_permuted_rows_change_nothing) {
  for (const Case& given : dressed_cases(GetParam(), 12)) {
    expect_maps_to(solve(GetParam(), take_rows(given, shuffled(given.n, 121))), given,
                   tol(GetParam()), [](oracle::Solution&) {});
  }
}

TEST_P(Relation, R13_all_rows_twice_change_nothing) {
  for (const Case& given : dressed_cases(GetParam(), 13)) {
    std::vector<Index> twice;
    for (Index i = 0; i < given.n; ++i) twice.insert(twice.end(), {i, i});
    expect_maps_to(solve(GetParam(), take_rows(given, twice)), given, tol(GetParam()),
                   [](oracle::Solution&) {});
  }
}

TEST_P(Relation, R14_an_integer_weight_is_a_repeated_row) {
  for (Case given : dressed_cases(GetParam(), 14)) {
    std::vector<Index> repeated;
    Random random(141);
    for (Index i = 0; i < given.n; ++i) {
      const Index times = random.below(4);
      given.w[at(i)] = static_cast<double>(times);
      for (Index k = 0; k < times; ++k) repeated.push_back(i);
    }
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      given.dropout = 0.2;
      given = with_grid(given, kPath);
      Case rows = take_rows(given, repeated);
      rows.w.clear();
      expect_maps_to(solve(GetParam(), rows), given, tol(GetParam()), [](oracle::Solution&) {});
      expect_maps_to(solve(GetParam(), given), rows, tol(GetParam()), [](oracle::Solution&) {});
    }
  }
}

TEST_P(Relation, R15_a_zero_weight_is_a_row_removed) {
  for (Case given : dressed_cases(GetParam(), 15)) {
    std::vector<char> keep(at(given.n), 1);
    for (Index i : {Index{2}, Index{5}, given.n - 1}) {
      keep[at(i)] = 0;
      given.w[at(i)] = 0.0;
      given.y(i) = 1e6;
      for (Index j = 0; j < given.p; ++j) given.x(i, j) *= 1e3;
    }
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      given.dropout = 0.2;
      const Case removed = with_grid(keep_rows(given, keep), kPath);
      given.grid = removed.grid;
      expect_maps_to(solve(GetParam(), given), removed, tol(GetParam()), [](oracle::Solution&) {});
    }
  }
}

/// The same through the response's own weights: other responses still use the row.
TEST_P(Relation, R15_a_response_weight_of_zero_is_a_row_removed) {
  Case given = dressed(tall(), 151);
  given.l1_ratio = GetParam().l1_ratios().back();
  given.R = 2;
  for (Index i = 0; i < given.n; ++i) given.Y.push_back(given.y(i) + given.x(i, 5));
  given.response_weight.assign(at(2 * given.n), 1.0);
  for (Index i : {3, 17}) {
    given.response_weight[at(i)] = 0.0;
    given.y(i) = 1e6;
    for (Index j = 0; j < given.p; ++j) given.x(i, j) *= 1e4;
  }
  given = with_grid(given, kPath);
  std::vector<char> keep(at(given.n), 1);
  keep[3] = keep[17] = 0;
  const Answer answer = solve(GetParam(), given);
  expect_maps_to(answer, given, tol(GetParam()), [](oracle::Solution&) {});
  Answer first = answer;
  first.model.n_responses = 1;
  expect_maps_to(first, keep_rows(one_response(given, 0), keep), tol(GetParam()),
                 [](oracle::Solution&) {});
}

TEST_P(Relation, R16_the_scale_of_weights_does_not_matter) {
  for (const Case& given : dressed_cases(GetParam(), 16)) {
    for (double c : {1e9, 1e-9}) {
      Case other = given;
      scale(other.w, c);
      expect_maps_to(solve(GetParam(), other), given, tol(GetParam()), [](oracle::Solution&) {});
    }
  }
}

void append_column(Case& given, double value) {
  given.X.insert(given.X.end(), at(given.n), value);
  ++given.p;
  for (std::vector<double>* factor : {&given.u, &given.v}) {
    if (!factor->empty()) factor->push_back(1.0);
  }
  if (!given.d.empty()) given.d.push_back(0.0);
}

void expect_last_is_zero(const Answer& answer) {
  for (Index l = 0; l < answer.model.n_lambdas; ++l) {
    EXPECT_EQ(coefficients(answer.model, 0, l).back(), 0.0) << "lambda " << l;
  }
}

TEST_P(Relation, R17_an_appended_zero_column_gets_exactly_zero) {
  for (Case given : dressed_cases(GetParam(), 17)) {
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      Case other = given;
      append_column(other, 0.0);
      const Answer answer = solve(GetParam(), other);
      expect_good(answer);
      expect_last_is_zero(answer);
      expect_maps_to(answer, given, tol(GetParam()),
                     [](oracle::Solution& found) { found.coef.pop_back(); });
    }
  }
}

TEST_P(Relation, R18_an_appended_constant_column_gets_exactly_zero) {
  for (Case given : dressed_cases(GetParam(), 18)) {
    if (!given.intercept) continue;
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      for (double value : {7.0, 0.1}) {
        Case other = given;
        append_column(other, value);
        const Answer answer = solve(GetParam(), other);
        expect_good(answer);
        expect_last_is_zero(answer);
        expect_maps_to(answer, given, tol(GetParam()),
                       [](oracle::Solution& found) { found.coef.pop_back(); });
      }
    }
  }
}

TEST_P(Relation, R19_adding_to_y_moves_the_intercept_alone) {
  for (const Case& given : dressed_cases(GetParam(), 19)) {
    if (!given.intercept) continue;
    for (double c : {3.0, -1e5}) {
      Case other = given;
      for (double& value : other.Y) value += c;
      expect_maps_to(solve(GetParam(), other), given, tol(GetParam()) + 1e-11,
                     [&](oracle::Solution& found) { found.intercept -= c; });
    }
  }
}

TEST_P(Relation, R20_adding_to_X_moves_the_intercept_alone) {
  for (Case given : dressed_cases(GetParam(), 20)) {
    if (!given.intercept) continue;
    for (double c : {5.0, GetParam().is_float ? -16.0 : 1e5}) {
      for (bool standardize : {false, true}) {
        given.standardize = standardize;
        given = with_grid(given, kPath);
        Case other = given;
        for (double& value : other.X) value += c;
        expect_maps_to(solve(GetParam(), other), given,
                       tol(GetParam()) + (GetParam().is_float ? 2e-5 : 1e-9),
                       [&](oracle::Solution& found) {
                         for (oracle::Real b : found.coef) found.intercept += b * c;
                       });
      }
    }
  }
}

TEST_P(Relation, R21_a_duplicated_column_leaves_fitted_values_alone) {
  for (const Case& given : dressed_cases(GetParam(), 21)) {
    std::vector<Index> order(at(given.p));
    std::iota(order.begin(), order.end(), Index{0});
    order.insert(order.end(), {0, 2});
    Case other = take_columns(given, order);
    for (Index j : {Index{0}, Index{2}, given.p, given.p + 1}) {
      other.v[at(j)] *= 2;
      other.d[at(j)] *= 2;
    }
    const Answer answer = solve(GetParam(), other);
    expect_good(answer);
    expect_maps_to(answer, given, tol(GetParam()), [](oracle::Solution& found) {
      const std::size_t p = found.coef.size() - 2;
      found.coef[0] += found.coef[p];
      found.coef[2] += found.coef[p + 1];
      found.coef.resize(p);
    });
  }
}

/// Row n + j of the augmented problem says 0 = sqrt(n e_j) b_j with weight 1/n; the weights then
/// sum to (n + p) / n, so lambda shrinks by that.
TEST_P(Relation, R24_elastic_net_is_lasso_on_augmented_rows) {
  for (Case given : {tall(), wide()}) {
    given = dressed(given, 24);
    given.l1_ratio = 0.5;
    given = with_grid(given, {0.5, 0.1, 0.02});
    for (double lambda : given.grid) {
      Case plain = given;
      plain.grid = {lambda};
      const oracle::Problem problem = oracle_problem(plain, 0, lambda);
      const double n = static_cast<double>(given.n);
      Case augmented;
      augmented.n = given.n + given.p;
      augmented.p = given.p;
      augmented.intercept = false;
      augmented.u = given.u;
      oracle::Real y_mean = 0;
      for (Index i = 0; i < given.n; ++i) y_mean += problem.w[at(i)] * problem.y[at(i)];
      std::vector<oracle::Real> means;
      for (Index j = 0; j < given.p; ++j) {
        means.push_back(oracle::moments(problem, j).mean);
        for (Index i = 0; i < given.n; ++i) {
          augmented.X.push_back(static_cast<double>(problem.x(i, j) - means.back()));
        }
        for (Index k = 0; k < given.p; ++k) {
          augmented.X.push_back(k == j ? std::sqrt(n * static_cast<double>(problem.e(j))) : 0.0);
        }
      }
      for (Index i = 0; i < given.n; ++i) {
        augmented.Y.push_back(static_cast<double>(problem.y[at(i)] - y_mean));
        augmented.w.push_back(static_cast<double>(problem.w[at(i)]));
      }
      augmented.Y.insert(augmented.Y.end(), at(given.p), 0.0);
      augmented.w.insert(augmented.w.end(), at(given.p), 1 / n);
      const double total = (n + static_cast<double>(given.p)) / n;
      augmented.grid = {lambda * given.l1_ratio / total};
      const Answer answer = solve(GetParam(), augmented);
      expect_good(answer);
      expect_maps_to(answer, plain, tol(GetParam()) + rounding(GetParam()),
                     [&](oracle::Solution& found) {
                       found.intercept = y_mean;
                       for (Index j = 0; j < given.p; ++j) {
                         found.intercept -= means[at(j)] * found.coef[at(j)];
                       }
                     });
      plain.l1_ratio = 0.5;
      expect_maps_to(solve(GetParam(), plain), plain, tol(GetParam()), [](oracle::Solution&) {});
    }
  }
}

TEST_P(Relation, R28_minus_y_turns_every_sign) {
  for (const Case& given : dressed_cases(GetParam(), 28)) {
    Case other = given;
    scale(other.Y, -1);
    expect_maps_to(solve(GetParam(), other), given, tol(GetParam()), [](oracle::Solution& found) {
      found.intercept = -found.intercept;
      for (oracle::Real& b : found.coef) b = -b;
    });
  }
}

TEST_P(Relation, R29_rotated_rows_change_nothing) {
  for (Case given : dressed_cases(GetParam(), 29)) {
    if (given.intercept) continue;
    given.w.clear();
    given = with_grid(given, kPath);
    // Householder: I - 2 h h' / h'h.
    Random random(291);
    std::vector<double> h;
    double h2 = 0;
    for (Index i = 0; i < given.n; ++i) {
      h.push_back(random.normal());
      h2 += h.back() * h.back();
    }
    Case other = given;
    auto reflect = [&](double* values) {
      double share = 0;
      for (Index i = 0; i < given.n; ++i) share += h[at(i)] * values[i];
      for (Index i = 0; i < given.n; ++i) values[i] -= 2 * share / h2 * h[at(i)];
    };
    for (Index j = 0; j < given.p; ++j) reflect(&other.x(0, j));
    reflect(other.Y.data());
    expect_maps_to(solve(GetParam(), other), given, tol(GetParam()) + rounding(GetParam()),
                   [](oracle::Solution&) {});
  }
}

TEST_P(Relation, R40_factor_zero_is_unpenalised) {
  for (Case given : dressed_cases(GetParam(), 40)) {
    for (Index j : {1, 3}) given.u[at(j)] = given.v[at(j)] = given.d[at(j)] = 0.0;
    for (bool standardize : {false, true}) {
      given.standardize = standardize;
      const Case on_grid = with_grid(given, kPath);
      const Answer answer = solve(GetParam(), on_grid);
      expect_good(answer);
      expect_maps_to(answer, on_grid, tol(GetParam()), [](oracle::Solution&) {});
    }
  }
}

TEST_P(Relation, R40_factor_infinity_is_a_column_absent) {
  for (Case given : dressed_cases(GetParam(), 41)) {
    std::vector<char> keep(at(given.p), 1);
    keep[0] = keep[4] = 0;
    const Case absent = with_grid(keep_columns(given, keep), kPath);
    given.grid = absent.grid;
    given.u[0] = kInfinity;
    given.v[4] = kInfinity;
    for (Index i = 0; i < given.n; ++i) given.x(i, 0) *= 0x1p40;
    const Answer answer = solve(GetParam(), given);
    expect_good(answer);
    for_each_fit(answer, [](const oracle::Problem&, const oracle::Solution& found, Index, Index) {
      EXPECT_EQ(found.coef[0], 0);
      EXPECT_EQ(found.coef[4], 0);
    });
    expect_maps_to(answer, absent, tol(GetParam()), [](oracle::Solution& found) {
      found.coef.erase(found.coef.begin() + 4);
      found.coef.erase(found.coef.begin());
    });
  }
}

TEST_P(Relation, R40_a_suboptimal_point_with_unpenalised_columns_shows_its_gap) {
  if (GetParam().is_ridge()) return;  // it never stops at a suboptimal point
  for (Case given : dressed_cases(GetParam(), 42)) {
    for (Index j : {1, 2}) given.u[at(j)] = given.v[at(j)] = given.d[at(j)] = 0.0;
    given = with_grid(given, {0.05});
    Random random(421);
    for (Index j = 0; j < given.p; ++j) given.warm.push_back(3 * random.normal());
    const Answer answer =
        solve(GetParam(), given, [](Call& call) { call.options.max_iterations = 2; });
    const Answer best = solve(GetParam(), given);
    for_each_fit(answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index f,
                             Index l) {
      const oracle::Real excess = oracle::objective(problem, found) -
                                  oracle::objective(problem, solution(best.model, 0, l));
      EXPECT_GE(answer.model.gap[at(f)],
                static_cast<double>(excess / oracle::null_loss(problem)) - 1e-13);
    });
  }
}

}  // namespace
}  // namespace thresher

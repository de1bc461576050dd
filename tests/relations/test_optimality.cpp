#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "relations/relation_fixture.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

const std::vector<double> kPath = {1.2, 0.7, 0.3, 0.1, 0.03, 0.01};

/// Ordinary problems, plain and with everything switched on.
std::vector<Case> ordinary(double l1_ratio) {
  std::vector<Case> out;
  for (Case base : {tall(), wide(), narrow()}) {
    base.l1_ratio = l1_ratio;
    out.push_back(with_grid(base, kPath));
    Case full = dressed(base, 11);
    full.standardize = true;
    full.dropout = 0.1;
    out.push_back(with_grid(full, kPath));
    Case without = dressed(base, 12);
    without.intercept = false;
    out.push_back(with_grid(without, kPath));
  }
  return out;
}

void expect_kkt(const EngineUnderTest& engine, const Case& given) {
  const Answer answer = solve(engine, given);
  for_each_fit(
      answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index) {
        // |q - q*|^2 / 2 <= gap bounds every |g_j - g*_j| / |x_j|; twice that for the coefficient.
        const double allowed =
            3 * std::sqrt(2 * engine.tol() * static_cast<double>(oracle::null_loss(problem)));
        EXPECT_LE(static_cast<double>(oracle::kkt_violation(problem, found)), allowed);
      });
}

TEST_P(Relation, R01_kkt_conditions_hold) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (const Case& given : ordinary(l1_ratio)) expect_kkt(GetParam(), given);
  }
}

TEST_P(Relation, R01_kkt_conditions_hold_on_200_rows_and_1000_columns) {
  Case given = large();
  given.l1_ratio = GetParam().l1_ratios().front();
  expect_kkt(GetParam(), with_grid(given, {0.5, 0.2, 0.1}));
}

TEST_P(Relation, R02_reported_objective_is_the_objective) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (const Case& given : ordinary(l1_ratio)) {
      const Answer answer = solve(GetParam(), given);
      for_each_fit(answer, [&](const oracle::Problem& problem, const oracle::Solution& found,
                               Index f, Index) {
        const double expected = static_cast<double>(oracle::objective(problem, found));
        EXPECT_NEAR(answer.model.objective[at(f)], expected,
                    1e-12 * static_cast<double>(oracle::null_loss(problem)) + 1e-12 * expected);
        const double fitted = static_cast<double>(
            1 - (oracle::loss(problem, found) -
                 [&] {
                   oracle::Real fixed = 0;
                   for (Index j = 0; j < problem.p; ++j) {
                     fixed += problem.d[at(j)] * found.coef[at(j)] * found.coef[at(j)] / 2;
                   }
                   return fixed;
                 }()) /
                    oracle::null_loss(problem));
        EXPECT_NEAR(answer.model.deviance[at(f)], fitted, 1e-11);
        Index nonzero = 0;
        for (oracle::Real b : found.coef) nonzero += b != 0;
        EXPECT_EQ(answer.model.n_nonzero[at(f)], nonzero);
      });
    }
  }
}

void expect_certified(const EngineUnderTest& engine, const Case& given, double tol) {
  const Answer answer = solve(engine, given, [&](Call& call) { call.options.tol = tol; });
  for_each_fit(
      answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index f, Index) {
        const double gap = static_cast<double>(oracle::relative_gap(problem, found));
        const double reported = answer.model.gap[at(f)];
        EXPECT_EQ(answer.model.status[at(f)], static_cast<int>(Status::kConverged)) << reported;
        EXPECT_GE(gap, -1e-12);
        EXPECT_LE(gap, tol + 1e-13);
        EXPECT_LE(reported, tol);
        // A proof may give away a little, but never claims more than there is.
        EXPECT_GE(reported, gap * (1 - 1e-6) - 1e-13);
      });
}

TEST_P(Relation, R03_converged_means_a_gap_within_tol) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (const Case& given : ordinary(l1_ratio)) {
      expect_certified(GetParam(), given, GetParam().tol());
      expect_certified(GetParam(), given, 1e-3);
    }
  }
}

TEST_P(Relation, R03_converged_means_a_gap_within_tol_on_200_rows_and_1000_columns) {
  Case given = large();
  given.l1_ratio = GetParam().l1_ratios().back();
  expect_certified(GetParam(), with_grid(given, {0.5, 0.2}), GetParam().tol());
}

TEST_P(Relation, R04_lambda_max_is_where_the_first_coefficient_appears) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    std::vector<Case> cases = ordinary(l1_ratio);
    Case partly = dressed(tall(), 13);
    partly.l1_ratio = l1_ratio;
    partly.u[1] = partly.v[1] = partly.d[1] = 0.0;
    partly.u[4] = partly.v[4] = partly.d[4] = 0.0;
    cases.push_back(partly);
    for (Case given : cases) {
      given = with_grid(given, {3.0, 1.0000001, 0.9});
      const Answer answer = solve(GetParam(), given);
      for (Index l = 0; l < 3; ++l) {
        Index penalised = 0;
        const std::vector<double> coef = coefficients(answer.model, 0, l);
        for (Index j = 0; j < given.p; ++j) {
          penalised += (given.u.empty() || given.u[at(j)] > 0) && coef[at(j)] != 0;
        }
        EXPECT_EQ(penalised > 0, l == 2) << "lambda " << l;
      }

      given.grid.clear();
      const Answer automatic =
          solve(GetParam(), given, [](Call& call) { call.options.n_lambdas = 5; });
      const double lambda_max =
          static_cast<double>(oracle::lambda_max(oracle_problem(automatic.given, 0, 1.0)));
      EXPECT_NEAR(automatic.model.lambda.front(), lambda_max, 1e-12 * lambda_max);
      const std::vector<double> first = coefficients(automatic.model, 0, 0);
      for (Index j = 0; j < given.p; ++j) {
        if (given.u.empty() || given.u[at(j)] > 0) {
          EXPECT_EQ(first[at(j)], 0.0);
        }
      }
    }
  }
}

TEST_P(Relation, R05_ridge_equals_its_closed_form) {
  for (const Case& given : ordinary(0.0)) {
    const Answer answer = solve(GetParam(), given);
    expect_good(answer);
    for_each_fit(
        answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index) {
          const oracle::Solution exact = oracle::solve_ridge(problem);
          const oracle::Real scale = oracle::null_loss(problem);
          const double excess = static_cast<double>(
              (oracle::objective(problem, found) - oracle::objective(problem, exact)) / scale);
          EXPECT_LE(excess, GetParam().tol());
          EXPECT_GE(excess, -1e-13);
          // 1/2 sum e_j (b_j - b*_j)^2 is at most the excess.
          oracle::Real distance = 0;
          for (Index j = 0; j < problem.p; ++j) {
            const oracle::Real difference = found.coef[at(j)] - exact.coef[at(j)];
            distance += problem.e(j) * difference * difference / 2;
          }
          EXPECT_LE(static_cast<double>(distance / scale), GetParam().tol() + 1e-13);
        });
  }
}

/// The first 9 columns of a 16 x 16 Hadamard matrix without its constant one: X'X / 16 = I.
Case hadamard() {
  Case out;
  out.n = 16;
  out.p = 9;
  Random random(21);
  for (Index j = 1; j <= out.p; ++j) {
    for (Index i = 0; i < out.n; ++i) {
      out.X.push_back(__builtin_popcountll(static_cast<unsigned long long>(i & j)) % 2 == 0 ? 1.0
                                                                                            : -1.0);
    }
  }
  for (Index i = 0; i < out.n; ++i) {
    out.Y.push_back(2 + out.x(i, 0) - 0.5 * out.x(i, 3) + random.normal());
  }
  return out;
}

/// soft(g, a) / (1 + e), allowed to be off by what the gap leaves: (b - b*)^2 / 2 <= gap.
TEST_P(Relation, R06_orthonormal_columns_have_a_closed_form) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      Case given = hadamard();
      given.l1_ratio = l1_ratio;
      given.intercept = intercept;
      const Answer answer = solve(GetParam(), with_grid(given, {0.9, 0.4, 0.1, 0.01}));
      for_each_fit(
          answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index) {
            const double allowed = std::sqrt(2 * (GetParam().tol() + 1e-14) *
                                             static_cast<double>(oracle::null_loss(problem)));
            for (Index j = 0; j < given.p; ++j) {
              double g = 0;
              for (Index i = 0; i < given.n; ++i) g += given.x(i, j) * given.y(i) / 16;
              const double over = std::max(std::fabs(g) - static_cast<double>(problem.a(j)), 0.0);
              const double exact = std::copysign(over, g) / (1 + static_cast<double>(problem.e(j)));
              EXPECT_NEAR(static_cast<double>(found.coef[at(j)]), exact, allowed);
            }
          });
    }
  }
}

TEST_P(Relation, R07_one_column_has_a_closed_form) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      Case given = dressed(keep_columns(tall(), {1, 0, 0, 0, 0, 0, 0, 0}), 22);
      given.l1_ratio = l1_ratio;
      given.intercept = intercept;
      const Answer answer = solve(GetParam(), with_grid(given, {1.1, 0.8, 0.3, 0.01}));
      for_each_fit(answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index,
                               Index) {
        const oracle::Moments m = oracle::moments(problem, 0);
        const oracle::Real curvature = intercept ? m.sd * m.sd : m.second;
        oracle::Real g = 0;
        for (Index i = 0; i < given.n; ++i) {
          g += problem.w[at(i)] * (problem.x(i, 0) - (intercept ? m.mean : 0)) * problem.y[at(i)];
        }
        const oracle::Real over = std::max(std::fabs(g) - problem.a(0), oracle::Real(0));
        const oracle::Real exact = std::copysign(over, g) / (curvature + problem.e(0));
        const oracle::Real off = found.coef[0] - exact;
        EXPECT_LE(static_cast<double>((curvature + problem.e(0)) * off * off / 2),
                  (GetParam().tol() + 1e-14) * static_cast<double>(oracle::null_loss(problem)));
        if (over == 0) {
          EXPECT_EQ(found.coef[0], 0);
        }
      });
    }
  }
}

TEST_P(Relation, R22_a_duplicated_column_is_split_equally_under_l2) {
  for (double l1_ratio : {0.5, 0.0}) {
    if (GetParam().is_ridge() && l1_ratio > 0) continue;
    Case given = take_columns(tall(), {0, 1, 2, 3, 4, 5, 6, 7, 0, 3});
    given.l1_ratio = l1_ratio;
    const Answer answer = solve(GetParam(), with_grid(given, {0.5, 0.1, 0.01}));
    for_each_fit(
        answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index) {
          for (auto [one, other] : {std::pair<Index, Index>{0, 8}, {3, 9}}) {
            const oracle::Moments m = oracle::moments(problem, one);
            // Each gradient is off by n eps |x_j| |y|, and their difference is e_j (b_j - b_k). The
            // proximal gradient works in float on float X.
            const double eps = GetParam().is_float ? 1.2e-7 : 2.2e-16;
            const double scale = std::sqrt(2 * static_cast<double>(oracle::null_loss(problem))) /
                                 static_cast<double>(m.sd);
            const double bound = 4 * static_cast<double>(given.n) * eps *
                                 (1 + static_cast<double>(m.sd * m.sd / problem.e(one))) * scale;
            EXPECT_NEAR(static_cast<double>(found.coef[at(one)]),
                        static_cast<double>(found.coef[at(other)]), bound);
          }
        });
  }
}

TEST_P(Relation, R23_the_path_is_monotone) {
  std::vector<double> fractions;
  for (int k = 0; k < 25; ++k) fractions.push_back(1.1 * std::pow(0.8, k));
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (Case given : {tall(), wide()}) {
      given = dressed(given, 23);
      given.l1_ratio = l1_ratio;
      const Answer answer = solve(GetParam(), with_grid(given, fractions));
      oracle::Real last_objective = INFINITY;
      oracle::Real last_loss = INFINITY;
      oracle::Real last_penalty = -INFINITY;
      oracle::Real last_lambda = INFINITY;
      for_each_fit(answer, [&](const oracle::Problem& problem, const oracle::Solution& found,
                               Index f, Index) {
        const oracle::Real slack = GetParam().tol() * 1.01L * oracle::null_loss(problem);
        const oracle::Real penalty = oracle::penalty(problem, found);
        const oracle::Real loss = oracle::loss(problem, found);
        EXPECT_LE(answer.model.objective[at(f)], last_objective + slack);
        // From P_1(b_1) <= P_1(b_2) + slack and the reverse.
        if (std::isfinite(last_lambda)) {
          const oracle::Real step = last_lambda - problem.lambda;
          EXPECT_GE(penalty, last_penalty - 2 * slack / step);
          EXPECT_LE(loss, last_loss + slack * (1 + 2 * last_lambda / step));
        }
        last_objective = answer.model.objective[at(f)];
        last_penalty = penalty;
        last_loss = loss;
        last_lambda = problem.lambda;
      });
    }
  }
}

TEST_P(Relation, R31_one_iteration_is_reported_as_the_limit) {
  Case given = wide();
  for (double l1_ratio : GetParam().l1_ratios()) {
    given.l1_ratio = l1_ratio;
    const Answer answer = solve(GetParam(), with_grid(given, {0.01, 0.005}),
                                [](Call& call) { call.options.max_iterations = 1; });
    EXPECT_EQ(answer.model.stats.n_not_converged, 2);
    for_each_fit(
        answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index f, Index) {
          EXPECT_EQ(answer.model.status[at(f)], static_cast<int>(Status::kIterationLimit));
          EXPECT_GT(answer.model.gap[at(f)], GetParam().tol());
          EXPECT_GE(answer.model.gap[at(f)],
                    static_cast<double>(oracle::relative_gap(problem, found)) * (1 - 1e-6));
          EXPECT_LE(answer.model.iterations[at(f)], 1);
        });
  }
}

TEST_P(Relation, R34_prediction_is_linear_and_residuals_average_to_zero) {
  for (bool intercept : {true, false}) {
    Case given = dressed(tall(), 34);
    given.l1_ratio = GetParam().l1_ratios().back();
    given.intercept = intercept;
    const Answer answer = solve(GetParam(), with_grid(given, {0.5, 0.05}));
    for_each_fit(
        answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index l) {
          std::vector<double> out(at(given.n), -1.0);
          predict(answer.model,
                  MatrixView<const double>::column_major(answer.given.X.data(), given.n, given.p),
                  {{0, l}}, MatrixView<double>::column_major(out.data(), given.n, 1));
          const std::vector<oracle::Real> r = oracle::residual(problem, found);
          oracle::Real mean = 0;
          for (Index i = 0; i < given.n; ++i) {
            const double fitted = static_cast<double>(problem.y[at(i)] - r[at(i)]);
            EXPECT_NEAR(out[at(i)], fitted, 1e-12 * (1 + std::fabs(fitted)));
            mean += problem.w[at(i)] * r[at(i)];
          }
          if (intercept) {
            EXPECT_NEAR(static_cast<double>(mean), 0.0, 1e-12);
          } else {
            EXPECT_EQ(found.intercept, 0);
          }
        });
  }
}

TEST_P(Relation, R35_agrees_with_a_second_implementation) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (Case given : {tall(), wide(), narrow()}) {
      given = dressed(given, 35);
      given.l1_ratio = l1_ratio;
      const Answer answer = solve(GetParam(), with_grid(given, {0.5, 0.1, 0.02}));
      for_each_fit(
          answer, [&](const oracle::Problem& problem, const oracle::Solution& found, Index, Index) {
            const oracle::Solution second = oracle::solve(problem, 1e-11L);
            const double ours = static_cast<double>(oracle::objective(problem, found));
            const double theirs = static_cast<double>(oracle::objective(problem, second));
            EXPECT_NEAR(ours, theirs, 1e-8 * theirs);
          });
    }
  }
}

/// y = x_0 + small * x_1 without noise on orthonormal columns: small must come back, shrunk by
/// lambda alone.
TEST_P(Relation, R37_small_true_coefficients_are_kept) {
  // Leaving it out costs small^2 / 2 of a null loss of 1/2, which must exceed tol.
  const double small = GetParam().is_float ? 1e-2 : 1e-4;
  Case given = hadamard();
  given.l1_ratio = GetParam().l1_ratios().front();
  for (Index i = 0; i < given.n; ++i) given.y(i) = 3 + given.x(i, 0) + small * given.x(i, 1);
  given.grid = {1e-3 * small};
  const Answer answer = solve(GetParam(), given);
  const std::vector<double> coef = coefficients(answer.model, 0, 0);
  const double off = std::sqrt(2 * GetParam().tol() * 0.5);
  EXPECT_NEAR(coef[1], small, 2e-3 * small + off);
  EXPECT_NE(coef[1], 0.0);
}

}  // namespace
}  // namespace thresher

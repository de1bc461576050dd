#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "relations/relation_fixture.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Held-out errors are not bounded by the gap alone, so folds are compared at a tight tolerance in
/// both precisions (the engines compute in double), and allow for what a gap of that size moves.
constexpr double kFoldTol = 1e-12;
constexpr double kFoldError = 3e-5;

const Tweak kTight = [](Call& call) { call.options.tol = kFoldTol; };

std::vector<Index> three_folds(Index n) {
  std::vector<Index> fold;
  for (Index i = 0; i < n; ++i) fold.push_back((i * 5 + i / 4) % 3);
  return fold;
}

std::vector<char> rows_outside(const std::vector<Index>& fold, Index k) {
  std::vector<char> keep;
  for (Index f : fold) keep.push_back(f != k);
  return keep;
}

/// Weighted mean squared error of one fit on the rows of fold k, as stated in docs/method.md.
double held_out_error(const Case& given, const std::vector<Index>& fold, Index k,
                      const oracle::Solution& found) {
  oracle::Real sum = 0;
  oracle::Real total = 0;
  for (Index i = 0; i < given.n; ++i) {
    if (fold[at(i)] != k) continue;
    oracle::Real r = given.y(i) - found.intercept;
    for (Index j = 0; j < given.p; ++j) r -= given.x(i, j) * found.coef[at(j)];
    const oracle::Real weight = given.w.empty() ? 1 : given.w[at(i)];
    sum += weight * r * r;
    total += weight;
  }
  return static_cast<double>(sum / total);
}

double fold_error(const Model& model, Index l, Index k) {
  return model.cv->fold_error[at(l * model.cv->n_folds + k)];
}

/// Fold k of the cross-validation must be the fit of `training`, which states the problem of the
/// rows outside fold k alone.
void expect_fold_is_fit(const EngineUnderTest& engine, const Answer& answer,
                        const std::vector<Index>& fold, Index k, Case training) {
  training.grid.assign(answer.model.lambda.begin(), answer.model.lambda.end());
  training.grid_rows = 1;
  const Answer alone = solve(engine, training, kTight);
  expect_good(alone);
  for (Index l = 0; l < answer.model.n_lambdas; ++l) {
    const double expected = held_out_error(answer.given, fold, k, solution(alone.model, 0, l));
    EXPECT_NEAR(fold_error(answer.model, l, k), expected, kFoldError * expected)
        << "fold " << k << ", lambda " << l;
  }
}

Answer folded(const EngineUnderTest& engine, const Case& given, const std::vector<Index>& fold,
              bool predictions = false) {
  CvOptions cv;
  cv.fold_id = fold;
  cv.predictions = predictions;
  return cross_validated(engine, given, cv, kTight);
}

/// Full data standardized.
void expect_standardize_is_factors(const EngineUnderTest& engine, const Case& given) {
  const Answer answer = solve(engine, given);
  const oracle::Problem problem = oracle_problem(answer.given, 0, 1.0);
  Case factors = answer.given;
  factors.standardize = false;
  Case scaled = factors;
  for (Index j = 0; j < given.p; ++j) {
    const double s = static_cast<double>(oracle::moments(problem, j).sd);
    factors.u[at(j)] *= s;
    factors.v[at(j)] *= s * s;
    for (Index i = 0; i < given.n; ++i) scaled.x(i, j) /= s;
    scaled.d[at(j)] /= s * s;
  }
  const double tol = engine.tol() * 1.01 + (engine.is_float ? 2e-5 : 1e-12);
  expect_maps_to(answer, answer.given, tol, [](oracle::Solution&) {});
  expect_maps_to(answer, factors, tol, [](oracle::Solution&) {});
  expect_maps_to(solve(engine, factors), answer.given, tol, [](oracle::Solution&) {});
  expect_maps_to(solve(engine, scaled), answer.given, tol, [&](oracle::Solution& found) {
    for (Index j = 0; j < given.p; ++j) {
      found.coef[at(j)] /= oracle::moments(problem, j).sd;
    }
  });
}

TEST_P(Relation, R41_standardize_is_factors_is_scaling_by_hand) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      for (Case given : {tall(), wide()}) {
        given = dressed(given, 41);
        given.l1_ratio = l1_ratio;
        given.intercept = intercept;
        given.standardize = true;
        for (Index i = 0; i < given.n; ++i) given.x(i, 1) *= 16;
        expect_standardize_is_factors(GetParam(), with_grid(given, {0.9, 0.3, 0.05}));
      }
    }
  }
}

TEST_P(Relation, R41_standardize_inside_every_fold_uses_the_folds_own_scales) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    Case given = dressed(tall(), 411);
    given.l1_ratio = l1_ratio;
    given.standardize = true;
    const std::vector<Index> fold = three_folds(given.n);
    // One column varies much more on fold 0, so that a leak of its scale would show.
    for (Index i = 0; i < given.n; ++i) {
      if (fold[at(i)] == 0) given.x(i, 3) = 3 + 4 * (given.x(i, 3) - 3);
    }
    given = with_grid(given, {0.5, 0.2, 0.05});
    const Answer answer = folded(GetParam(), given, fold);
    for (Index k = 0; k < 3; ++k) {
      Case training = keep_rows(answer.given, rows_outside(fold, k));
      const oracle::Problem problem = oracle_problem(training, 0, 1.0);
      training.standardize = false;
      for (Index j = 0; j < given.p; ++j) {
        const double s = static_cast<double>(oracle::moments(problem, j).sd);
        training.u[at(j)] *= s;
        training.v[at(j)] *= s * s;
      }
      expect_fold_is_fit(GetParam(), answer, fold, k, training);
    }
  }
}

TEST_P(Relation, R41_a_column_constant_in_one_fold_only_is_zero_there) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool standardize : {true, false}) {
      Case given = dressed(tall(), 412);
      given.l1_ratio = l1_ratio;
      given.standardize = standardize;
      const std::vector<Index> fold = three_folds(given.n);
      // Column 5 varies on the rows of fold 1 alone, and matters there; elsewhere it is constant
      // to rounding.
      for (Index i = 0; i < given.n; ++i) {
        if (fold[at(i)] != 1) given.x(i, 5) = i % 2 == 0 ? 0.1 : std::nextafter(0.1, 1.0);
        given.y(i) += 2 * given.x(i, 5);
      }
      given = with_grid(given, {0.5, 0.1, 0.01});
      const Answer answer = folded(GetParam(), given, fold);
      std::vector<char> without(at(given.p), 1);
      without[5] = 0;
      const Case training = keep_columns(keep_rows(answer.given, rows_outside(fold, 1)), without);
      Case lacking = training;
      lacking.grid.assign(answer.model.lambda.begin(), answer.model.lambda.end());
      const Answer alone = solve(GetParam(), lacking, kTight);
      for (Index l = 0; l < answer.model.n_lambdas; ++l) {
        oracle::Solution found = solution(alone.model, 0, l);
        found.coef.insert(found.coef.begin() + 5, 0);
        const double expected = held_out_error(answer.given, fold, 1, found);
        EXPECT_NEAR(fold_error(answer.model, l, 1), expected, kFoldError * expected) << l;
      }
    }
  }
}

TEST_P(Relation, R42_a_fold_is_a_fit_of_its_rows_alone) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (bool intercept : {true, false}) {
      for (Case given : {tall(), narrow()}) {
        given = dressed(given, 42);
        given.l1_ratio = l1_ratio;
        given.intercept = intercept;
        given.dropout = 0.1;
        given = with_grid(given, {0.6, 0.2, 0.03});
        const std::vector<Index> fold = three_folds(given.n);
        const Answer answer = folded(GetParam(), given, fold);
        for (Index k = 0; k < 3; ++k) {
          expect_fold_is_fit(GetParam(), answer, fold, k,
                             keep_rows(answer.given, rows_outside(fold, k)));
        }
      }
    }
  }
}

/// Rows of one fold drag the plain means of X far away; the fits without that fold must not notice.
TEST_P(Relation, R42_outlying_rows_in_one_fold_do_not_blur_the_others) {
  Case given = dressed(tall(), 421);
  given.l1_ratio = GetParam().l1_ratios().back();
  const std::vector<Index> fold = three_folds(given.n);
  for (Index i = 0; i < given.n; ++i) {
    if (fold[at(i)] != 2) continue;
    for (Index j = 0; j < given.p; ++j) given.x(i, j) += 0x1p17;
  }
  given.grid = with_grid(keep_rows(given, rows_outside(fold, 2)), {0.5, 0.1, 0.02}).grid;
  const Answer answer = folded(GetParam(), given, fold);
  expect_fold_is_fit(GetParam(), answer, fold, 2, keep_rows(answer.given, rows_outside(fold, 2)));
}

TEST_P(Relation, R42_out_of_fold_predictions_come_from_the_fit_without_the_row) {
  Case given = dressed(tall(), 422);
  given.l1_ratio = GetParam().l1_ratios().back();
  given = with_grid(given, {0.6, 0.2, 0.03});
  const std::vector<Index> fold = three_folds(given.n);
  const Answer answer = folded(GetParam(), given, fold, true);
  ASSERT_EQ(answer.model.cv->predictions.size(), at(given.n));
  const Index best = answer.model.cv->best[1];
  for (Index k = 0; k < 3; ++k) {
    const Answer alone = solve(GetParam(), keep_rows(answer.given, rows_outside(fold, k)), kTight);
    const oracle::Solution found = solution(alone.model, 0, best);
    for (Index i = 0; i < given.n; ++i) {
      if (fold[at(i)] != k) continue;
      oracle::Real fitted = found.intercept;
      for (Index j = 0; j < given.p; ++j) fitted += answer.given.x(i, j) * found.coef[at(j)];
      EXPECT_NEAR(answer.model.cv->predictions[at(i)], static_cast<double>(fitted), 1e-4);
    }
  }
}

TEST_P(Relation, R43_y_constant_inside_one_fold_only_ends_well) {
  Case given = tall();
  given.l1_ratio = GetParam().l1_ratios().back();
  given.w = random_weights(given.n, 431);
  const std::vector<Index> fold = three_folds(given.n);
  // Training without fold 1 sees a constant response.
  for (Index i = 0; i < given.n; ++i) {
    if (fold[at(i)] != 1) given.y(i) = 0.1;
  }
  given = with_grid(given, {0.8, 0.2, 0.02});
  const Answer answer = folded(GetParam(), given, fold);
  expect_good(answer);
  EXPECT_EQ(answer.model.stats.n_not_converged, 0);
  for (Index l = 0; l < answer.model.n_lambdas; ++l) {
    oracle::Solution constant;
    constant.intercept = 0.1L;
    constant.coef.assign(at(given.p), 0);
    const double expected = held_out_error(answer.given, fold, 1, constant);
    EXPECT_NEAR(fold_error(answer.model, l, 1), expected, 1e-9 * expected) << l;
  }
}

}  // namespace
}  // namespace thresher

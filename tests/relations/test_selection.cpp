#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "relations/relation_case.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

const EngineUnderTest kAuto{"auto", Engine::kAuto, Mode::kAuto, false};

/// Three responses on 40 rows, weighted, some values missing, five folds of unequal size.
struct Selected {
  Case given;
  std::vector<Index> fold;
  Model model;
  std::vector<double> l1_ratio = {0.5, 1.0};
};

Selected selected() {
  Selected out;
  out.given = tall();
  out.given.w = random_weights(out.given.n, 51);
  out.given.R = 3;
  out.given.missing = true;
  Random random(52);
  for (Index r = 1; r < 3; ++r) {
    for (Index i = 0; i < out.given.n; ++i) {
      out.given.Y.push_back(out.given.x(i, r) * (r == 1 ? 0.4 : 2.0) + random.normal());
    }
  }
  for (Index i = 0; i < out.given.n; ++i) {
    out.fold.push_back(i < 5 ? 0 : 1 + (i * 3) % 4);
    if (i < 5) out.given.y(i, 2) = std::nan("");  // response 2 sees nothing of fold 0
  }
  out.given.y(20, 1) = std::nan("");
  Call call(kAuto, out.given);
  call.options.l1_ratio = out.l1_ratio;
  call.options.n_lambdas = 30;
  CvOptions cv;
  cv.fold_id = out.fold;
  out.model = cross_validate(call.data, call.options, cv);
  return out;
}

const Selected& shared_run() {
  static const Selected run = selected();
  return run;
}

double held_out_weight(const Selected& run, Index r, Index k) {
  double sum = 0;
  for (Index i = 0; i < run.given.n; ++i) {
    if (run.fold[at(i)] == k && !std::isnan(run.given.y(i, r))) sum += run.given.w[at(i)];
  }
  return sum;
}

struct Curve {
  double error = 0, se = 0;
};

/// The weighted mean over folds and its standard error, by their definitions.
Curve curve(const Selected& run, Index r, Index f) {
  const Index K = run.model.cv->n_folds;
  double total = 0;
  double mean = 0;
  int used = 0;
  for (Index k = 0; k < K; ++k) {
    const double weight = held_out_weight(run, r, k);
    if (weight == 0) continue;
    ++used;
    total += weight;
    mean += weight * run.model.cv->fold_error[at(f * K + k)];
  }
  mean /= total;
  double variance = 0;
  for (Index k = 0; k < K; ++k) {
    const double weight = held_out_weight(run, r, k);
    if (weight == 0) continue;
    const double off = run.model.cv->fold_error[at(f * K + k)] - mean;
    variance += weight / total * off * off;
  }
  return {mean, std::sqrt(variance / (used - 1))};
}

TEST(Selection, ErrorAndSeAreWeightedOverTheFoldsThatSawAValue) {
  const Selected& run = shared_run();
  const Model& model = run.model;
  int compared = 0;
  for (Index r = 0; r < 3; ++r) {
    for (Index a = 0; a < 2; ++a) {
      for (Index l = 0; l < model.n_lambdas; ++l) {
        const Index f = model.fit(r, a, l);
        if (std::isnan(model.lambda[at(f)])) continue;
        const Curve expected = curve(run, r, f);
        EXPECT_NEAR(model.cv->error[at(f)], expected.error, 1e-12 * expected.error);
        EXPECT_NEAR(model.cv->se[at(f)], expected.se, 1e-10 * expected.error);
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 3 * 2 * 30);
}

TEST(Selection, BestIsTheSmallestErrorAndOneSeTheLargestLambdaWithinIt) {
  const Selected& run = shared_run();
  const Model& model = run.model;
  bool differ = false;
  for (Index r = 0; r < 3; ++r) {
    Index best_a = 0;
    Index best_l = 0;
    double best = std::numeric_limits<double>::infinity();
    double best_lambda = 0;
    for (Index a = 0; a < 2; ++a) {
      for (Index l = 0; l < model.n_lambdas; ++l) {
        const Index f = model.fit(r, a, l);
        const double error = model.cv->error[at(f)];
        if (std::isnan(error)) continue;
        // Ties: the largest lambda, then the first l1_ratio.
        if (error < best || (error == best && model.lambda[at(f)] > best_lambda)) {
          best = error;
          best_lambda = model.lambda[at(f)];
          best_a = a;
          best_l = l;
        }
      }
    }
    EXPECT_EQ(model.cv->best[at(2 * r)], best_a);
    EXPECT_EQ(model.cv->best[at(2 * r + 1)], best_l);
    const double limit = best + model.cv->se[at(model.fit(r, best_a, best_l))];
    Index first = 0;
    while (!(model.cv->error[at(model.fit(r, best_a, first))] <= limit)) ++first;
    EXPECT_EQ(model.cv->one_se[at(2 * r)], best_a);
    EXPECT_EQ(model.cv->one_se[at(2 * r + 1)], first);
    differ = differ || first != best_l;
  }
  EXPECT_TRUE(differ) << "the data do not tell best from one standard error";
}

/// y is constant, so every lambda has the same error: the largest lambda and the first l1_ratio.
TEST(Selection, TiesGoToTheLargestLambdaAndTheFirstL1Ratio) {
  Case given = tall();
  std::fill(given.Y.begin(), given.Y.end(), 2.0);
  given.grid = {1.0, 0.5, 0.25};
  Call call(kAuto, given);
  call.options.l1_ratio = {0.7, 0.2};
  CvOptions cv;
  cv.n_folds = 4;
  const Model model = cross_validate(call.data, call.options, cv);
  EXPECT_EQ(model.cv->best, (std::vector<Index>{0, 0}));
  EXPECT_EQ(model.cv->one_se, (std::vector<Index>{0, 0}));
}

TEST(Selection, TrainErrorIsTheWeightedErrorOnTheTrainingRows) {
  const Selected& run = shared_run();
  for (Index r = 0; r < 3; ++r) {
    for (Index l : {Index{3}, Index{20}}) {
      const Index f = run.model.fit(r, 1, l);
      double total = 0;
      double expected = 0;
      for (Index k = 0; k < run.model.cv->n_folds; ++k) {
        const double share = held_out_weight(run, r, k);
        if (share == 0) continue;
        Case training = one_response(run.given, r);
        std::vector<char> keep;
        for (Index i = 0; i < training.n; ++i) {
          keep.push_back(run.fold[at(i)] != k && !std::isnan(training.y(i)));
        }
        training = keep_rows(training, keep);
        training.grid = {run.model.lambda[at(f)]};
        training.l1_ratio = run.l1_ratio[1];
        const Answer alone = solve(kAuto, training);
        const oracle::Problem problem = oracle_problem(training, 0, training.grid[0]);
        const std::vector<oracle::Real> residual =
            oracle::residual(problem, solution(alone.model, 0, 0));
        oracle::Real error = 0;
        for (Index i = 0; i < training.n; ++i) {
          error += problem.w[at(i)] * residual[at(i)] * residual[at(i)];
        }
        expected += share * static_cast<double>(error);
        total += share;
      }
      expected /= total;
      EXPECT_NEAR(run.model.cv->train_error[at(f)], expected, 1e-3 * expected);
    }
  }
}

/// y = x b almost without noise: less penalty is always better, so the best lambda is the end.
Case nearly_exact() {
  Case given = tall();
  for (Index i = 0; i < given.n; ++i) {
    given.y(i) = given.x(i, 0) - given.x(i, 4) + 1e-9 * static_cast<double>(i % 3);
  }
  return given;
}

TEST(Selection, AnAutomaticGridIsExtendedOnceWhenTheBestIsItsEnd) {
  Call call(kAuto, nearly_exact());
  call.options.lambda_min_ratio = 0.1;
  CvOptions cv;
  cv.n_folds = 4;
  const Model model = cross_validate(call.data, call.options, cv);
  ASSERT_EQ(model.n_lambdas, 200);
  const double step = model.lambda[1] / model.lambda[0];
  EXPECT_NEAR(model.lambda[99], 0.1 * model.lambda[0], 1e-12 * model.lambda[0]);
  for (std::size_t l = 1; l < model.lambda.size(); ++l) {
    EXPECT_NEAR(model.lambda[l] / model.lambda[l - 1], step, 1e-10);
    EXPECT_FALSE(std::isnan(model.cv->error[l]));
  }
  EXPECT_GT(model.cv->best[1], 99);
}

// 31 rows in five folds, 25 features: the training rows of four folds span all but one of the
// directions. Down to 1e-21 of the top eigenvalue their held-out errors came out up to 1e12 times
// too large at the end, and at the best lambda a third too small.
TEST(Selection, AGridOfRidgeIsNotExtendedIntoRounding) {
  std::vector<Index> fold;
  for (Index i = 0; i < 31; ++i) fold.push_back(i % 5);
  int n_extended = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Case given;
    given.n = 31;
    given.p = 25;
    Random random(seed);
    for (Index k = 0; k < given.n * given.p; ++k) given.X.push_back(random.normal());
    for (Index i = 0; i < given.n; ++i) {
      double sum = 1e-9 * random.normal();
      for (Index j = 0; j < given.p; ++j) sum += given.x(i, j) * (j % 2 == 0 ? 1.0 : -0.5);
      given.Y.push_back(sum);
    }
    Call call(kAuto, given);
    call.options.l1_ratio = {0.0};
    CvOptions cv;
    cv.fold_id = fold;
    const Model model = cross_validate(call.data, call.options, cv);
    if (model.n_lambdas == 100) continue;
    ++n_extended;
    EXPECT_GE(model.lambda.back(), 0.99e-13 * model.lambda[0]);
    // Folds have a limit: little happens between 1e-10 and the end.
    const double* errors = model.cv->fold_error.data();
    for (Index k = 1; k < 5; ++k) {
      EXPECT_NEAR(errors[(model.n_lambdas - 1) * 5 + k] / errors[99 * 5 + k], 1.0, 0.1) << k;
    }
  }
  EXPECT_GT(n_extended, 0) << "the case does not reach what it is there for";
}

TEST(Selection, OnlyTheResponseThatNeedsItIsExtended) {
  Case given = nearly_exact();
  given.R = 2;
  Random random(53);
  for (Index i = 0; i < given.n; ++i) given.Y.push_back(given.x(i, 1) + 2 * random.normal());
  Call call(kAuto, given);
  call.options.lambda_min_ratio = 0.05;
  CvOptions cv;
  cv.n_folds = 4;
  const Model model = cross_validate(call.data, call.options, cv);
  ASSERT_EQ(model.n_lambdas, 200);
  EXPECT_EQ(model.cv->boundary[1], 0);
  for (Index l = 100; l < 200; ++l) {
    EXPECT_EQ(model.status[at(model.fit(1, 0, l))], static_cast<int>(Status::kNotComputed));
    EXPECT_TRUE(std::isnan(model.cv->error[at(model.fit(1, 0, l))]));
    EXPECT_TRUE(is_good(static_cast<Status>(model.status[at(model.fit(0, 0, l))])));
  }
  EXPECT_LT(model.cv->best[3], 99);
}

TEST(Selection, AGivenGridIsNotExtendedButTheBoundaryIsFlagged) {
  Case given = nearly_exact();
  given = with_grid(given, {1.0, 0.5, 0.25});
  Call call(kAuto, given);
  CvOptions cv;
  cv.n_folds = 4;
  const Model model = cross_validate(call.data, call.options, cv);
  EXPECT_EQ(model.n_lambdas, 3);
  EXPECT_EQ(model.cv->best[1], 2);
  EXPECT_EQ(model.cv->boundary[0], 1);
}

TEST(Selection, ABestInsideTheGridIsNotFlagged) {
  const Selected& run = shared_run();
  for (Index r = 0; r < 3; ++r) {
    const Index best = run.model.cv->best[at(2 * r + 1)];
    if (best < 29) {
      EXPECT_EQ(run.model.cv->boundary[at(r)], 0);
    }
  }
}

/// The documented scheme: Fisher-Yates driven by SplitMix64, position k to fold k mod K.
TEST(Selection, FoldsFollowTheDocumentedSeedScheme) {
  const std::vector<Index> fold = make_folds(23, 5, 7);
  std::vector<int> counts(5, 0);
  for (Index k : fold) ++counts[at(k)];
  EXPECT_EQ(counts, (std::vector<int>{5, 5, 5, 4, 4}));
  EXPECT_EQ(make_folds(23, 5, 7), fold);
  EXPECT_NE(make_folds(23, 5, 8), fold);

  // Cross-validation without fold ids uses exactly these.
  Case given = with_grid(tall(), {0.5, 0.1});
  CvOptions seeded;
  seeded.n_folds = 4;
  seeded.seed = 9;
  CvOptions listed;
  const std::vector<Index> ids = make_folds(given.n, 4, 9);
  listed.fold_id = ids;
  expect_same_bits(cross_validated(kAuto, given, seeded).model,
                   cross_validated(kAuto, given, listed).model, "seeded and listed folds");
}

/// Full-data coefficients are those of a plain path, and cross-validation ignores the early stop.
TEST(Selection, TheFullDataPathIsThatOfFitPath) {
  Case given = nearly_exact();
  given = with_grid(given, {0.5, 1e-2, 1e-4, 1e-6});
  const Tweak stop = [](Call& call) { call.options.early_stop = 0.999; };
  CvOptions cv;
  cv.n_folds = 4;
  const Answer validated = cross_validated(kAuto, given, cv, stop);
  expect_good(validated);
  const Answer plain = solve(kAuto, given);
  for (std::size_t l = 0; l < 4; ++l) {
    EXPECT_NEAR(validated.model.objective[l], plain.model.objective[l],
                1e-9 * plain.model.objective[0]);
  }
}

TEST(Selection, KeepChosenKeepsTheCoefficientsOfTheChosenFitsAlone) {
  const Selected& run = shared_run();
  Call call(kAuto, run.given);
  call.options.l1_ratio = run.l1_ratio;
  call.options.n_lambdas = 30;
  call.options.keep_chosen = true;
  CvOptions cv;
  cv.fold_id = run.fold;
  const Model model = cross_validate(call.data, call.options, cv);
  ASSERT_EQ(model.coef_kept.size(), run.model.coef_kept.size());
  EXPECT_EQ(model.cv->best, run.model.cv->best);
  for (Index r = 0; r < 3; ++r) {
    std::set<Index> chosen;
    for (const std::vector<Index>* choice : {&model.cv->best, &model.cv->one_se}) {
      chosen.insert(model.fit(r, (*choice)[at(2 * r)], (*choice)[at(2 * r + 1)]));
    }
    for (Index a = 0; a < 2; ++a) {
      for (Index l = 0; l < model.n_lambdas; ++l) {
        const Index f = model.fit(r, a, l);
        EXPECT_EQ(model.coef_kept[at(f)], chosen.count(f) ? 1 : 0);
        const Index kept = model.coef_indptr[at(f + 1)] - model.coef_indptr[at(f)];
        const Index full = run.model.coef_indptr[at(f + 1)] - run.model.coef_indptr[at(f)];
        EXPECT_EQ(kept, chosen.count(f) ? full : 0);
        EXPECT_EQ(model.n_nonzero[at(f)], run.model.n_nonzero[at(f)]);
      }
    }
  }
}

/// Leave-one-out in closed form against leaving every row out (lambda n / (n - 1) at equal
/// weights), and GCV against its formula.
TEST(Selection, RidgeClosedFormsMatchTheirDefinitions) {
  Case given = narrow();
  given.l1_ratio = 0.0;
  given.grid = {3.0, 0.3, 0.03};
  Call call(kAuto, given);
  const Model loo = ridge_closed_form(call.data, call.options, ClosedForm::kLeaveOneOut);
  const double n = static_cast<double>(given.n);
  for (Index l = 0; l < 3; ++l) {
    const double lambda = given.grid[at(l)];
    double expected = 0;
    for (Index out = 0; out < given.n; ++out) {
      std::vector<char> keep(at(given.n), 1);
      keep[at(out)] = 0;
      const oracle::Solution without =
          oracle::solve_ridge(oracle_problem(keep_rows(given, keep), 0, lambda * n / (n - 1)));
      oracle::Real error = given.y(out) - without.intercept;
      for (Index j = 0; j < given.p; ++j) error -= given.x(out, j) * without.coef[at(j)];
      expected += static_cast<double>(error * error) / n;
    }
    EXPECT_NEAR(loo.cv->error[at(l)], expected, 1e-10 * expected);
  }
  EXPECT_EQ(loo.cv->best[1],
            std::min_element(loo.cv->error.begin(), loo.cv->error.end()) - loo.cv->error.begin());

  const Model gcv = ridge_closed_form(call.data, call.options, ClosedForm::kGcv);
  for (Index l = 0; l < 3; ++l) {
    const oracle::Problem problem = oracle_problem(given, 0, given.grid[at(l)]);
    const oracle::Solution fitted = oracle::solve_ridge(problem);
    const std::vector<oracle::Real> r = oracle::residual(problem, fitted);
    oracle::Real rss = 0;
    for (oracle::Real value : r) rss += value * value / static_cast<oracle::Real>(n);
    // tr H: how much each fitted value moves with its own y.
    oracle::Real trace = 0;
    for (Index i = 0; i < given.n; ++i) {
      oracle::Problem moved = problem;
      moved.y[at(i)] += 1;
      const oracle::Solution other = oracle::solve_ridge(moved);
      const std::vector<oracle::Real> r_moved = oracle::residual(moved, other);
      trace += 1 - (r_moved[at(i)] - r[at(i)]);
    }
    const oracle::Real free = 1 - trace / static_cast<oracle::Real>(n);
    const double expected = static_cast<double>(rss / (free * free));
    EXPECT_NEAR(gcv.cv->error[at(l)], expected, 1e-10 * expected);
    EXPECT_TRUE(std::isnan(gcv.cv->se[at(l)]));
  }
  EXPECT_EQ(gcv.cv->one_se, gcv.cv->best);
}

}  // namespace
}  // namespace thresher

#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "relations/relation_fixture.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double tol(const EngineUnderTest& engine) { return engine.tol() * 1.01 + 1e-13; }

/// Seven responses that differ in scale, weights, lambdas and difficulty.
Case mixed(double l1_ratio) {
  Case given = dressed(tall(), 26);
  given.l1_ratio = l1_ratio;
  given.R = 7;
  Random random(261);
  given.Y.clear();
  const double scales[] = {1.0, 1e-6, 1e100, 1.0, 1e-100, 0.0, 1e3};
  for (double scale : scales) {
    for (Index i = 0; i < given.n; ++i) {
      const double signal = given.x(i, random.below(given.p)) - 0.5 * given.x(i, 3);
      given.Y.push_back(scale * (signal + random.normal()));
    }
  }
  for (Index r = 0; r < given.R; ++r) {
    for (Index i = 0; i < given.n; ++i) {
      // Responses 0 to 2 share their weights; the others have their own, with gaps.
      const bool gap = r >= 4 && (i * 7 + r) % 5 == 0;
      given.response_weight.push_back(r < 3 ? 1.0 : gap ? 0.0 : 0.3 + random.uniform());
    }
  }
  given = with_grid(given, {1.05, 0.4, 0.1, 0.02});
  const Index n_lambdas = 4;
  for (Index l = 0; l < n_lambdas; ++l) {
    given.grid[at(3 * n_lambdas + l)] *= 0.1;  // one response far down its path
    given.grid[at(5 * n_lambdas + l)] = 1.0 / static_cast<double>(l + 1);  // y = 0: any grid
  }
  return given;
}

TEST_P(Relation, R26_a_batch_is_its_problems_one_by_one) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    const Case given = mixed(l1_ratio);
    const Answer batch = solve(GetParam(), given, [](Call& call) { call.options.threads = 2; });
    expect_good(batch);
    for (Index r = 0; r < given.R; ++r) {
      SCOPED_TRACE("response " + std::to_string(r));
      const Case alone = one_response(given, r);
      const Answer single = solve(GetParam(), alone);
      for (Index l = 0; l < 4; ++l) {
        const oracle::Problem problem = oracle_problem(batch.given, r, given.grid[at(r * 4 + l)]);
        if (r == 5) {
          for (double b : coefficients(batch.model, r, l)) EXPECT_EQ(b, 0.0);
          continue;
        }
        expect_optimal(problem, solution(batch.model, r, l), tol(GetParam()), "in the batch");
        expect_optimal(problem, solution(single.model, 0, l), tol(GetParam()), "alone");
        const double scale = static_cast<double>(oracle::null_loss(problem));
        EXPECT_NEAR(batch.model.objective[at(batch.model.fit(r, 0, l))] / scale,
                    single.model.objective[at(l)] / scale, 2 * tol(GetParam()));
      }
    }
  }
}

TEST_P(Relation, R27_a_nan_response_is_refused_by_name) {
  Case given = mixed(GetParam().l1_ratios().back());
  given.y(4, 3) = kNan;
  try {
    solve(GetParam(), given);
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_NE(message.find("Y"), std::string::npos) << message;
    EXPECT_NE(message.find("4"), std::string::npos) << message;
    EXPECT_NE(message.find("3"), std::string::npos) << message;
  }
}

TEST_P(Relation, R27_a_missing_value_harms_no_other_response) {
  const Case clean = mixed(GetParam().l1_ratios().back());
  Case given = clean;
  given.missing = true;
  given.y(4, 3) = kNan;
  given.y(9, 3) = kNan;
  const Answer answer = solve(GetParam(), given);
  const Answer before = solve(GetParam(), clean);
  expect_good(answer);
  for (Index r = 0; r < given.R; ++r) {
    if (r == 5) continue;
    for (Index l = 0; l < 4; ++l) {
      const double lambda = given.grid[at(r * 4 + l)];
      expect_optimal(oracle_problem(answer.given, r, lambda), solution(answer.model, r, l),
                     tol(GetParam()), "response " + std::to_string(r));
      if (r != 3) {
        expect_optimal(oracle_problem(before.given, r, lambda), solution(answer.model, r, l),
                       tol(GetParam()), "as before, response " + std::to_string(r));
      }
    }
  }
}

TEST_P(Relation, R30_same_bits_again_and_for_any_number_of_threads) {
  Case given = mixed(GetParam().l1_ratios().back());
  given.standardize = true;
  CvOptions cv;
  cv.n_folds = 3;
  cv.predictions = true;
  const Answer once = solve(GetParam(), given);
  const Answer once_cv = cross_validated(GetParam(), given, cv);
  for (int threads : {1, 2, 3, 7, 16}) {
    const Tweak tweak = [&](Call& call) { call.options.threads = threads; };
    const std::string what = std::to_string(threads) + " threads";
    expect_same_bits(solve(GetParam(), given, tweak).model, once.model, what);
    expect_same_bits(cross_validated(GetParam(), given, cv, tweak).model, once_cv.model, what);
  }
}

TEST_P(Relation, R30_same_bits_for_any_tile_size) {
  const Case given = mixed(GetParam().l1_ratios().back());
  Call call(GetParam(), given);
  call.options.max_memory = std::size_t{1} << 30;
  const Model whole = fit_path(call.data, call.options);
  ASSERT_EQ(whole.stats.n_tiles, 1);
  // Limits from the whole plan downwards give ever smaller tiles, until one response does not fit.
  const std::size_t planned = plan_path(call.data, call.options).bytes;
  Index most_tiles = 1;
  for (std::size_t part = 40; part > 0; --part) {
    call.options.max_memory = planned / 40 * part;
    try {
      const Model tiled = fit_path(call.data, call.options);
      if (tiled.stats.n_tiles == most_tiles) continue;
      most_tiles = tiled.stats.n_tiles;
      const std::string what = std::to_string(most_tiles) + " tiles";
      // Its chunks follow the tiles: docs/decisions/0003-proximal-gradient.md.
      if (GetParam().engine == Engine::kProximalGradient) {
        expect_maps_to({call.given, tiled}, given, tol(GetParam()), [](oracle::Solution&) {});
      } else {
        expect_same_bits(tiled, whole, what);
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::kOutOfMemory) << error.what();
      break;
    }
  }
  EXPECT_GT(most_tiles, 1);
}

/// Says stop after a number of polls.
class StopsSoon : public Observer {
 public:
  explicit StopsSoon(int polls) : left_(polls) {}
  bool cancelled() override { return left_.fetch_sub(1) <= 0; }

 private:
  std::atomic<int> left_;
};

class Threads : public testing::TestWithParam<EngineUnderTest> {};

/// What was finished is right, the rest says cancelled or not computed and holds NaN.
/// Returns the number of fits that are not finished.
Index expect_cut_short(const Answer& answer, Status status, double tol_of_good) {
  EXPECT_TRUE(answer.model.stats.interrupted);
  Index unfinished = 0;
  for_each_fit(answer,
               [&](const oracle::Problem& problem, const oracle::Solution& found, Index f, Index) {
                 const auto ended = static_cast<Status>(answer.model.status[at(f)]);
                 if (is_good(ended)) {
                   if (oracle::null_loss(problem) > 0)
                     expect_optimal(problem, found, tol_of_good, "finished");
                   return;
                 }
                 ++unfinished;
                 EXPECT_TRUE(ended == status || ended == Status::kNotComputed) << name(ended);
                 if (ended == Status::kNotComputed) {
                   EXPECT_TRUE(std::isnan(answer.model.objective[at(f)]));
                 }
               });
  return unfinished;
}

TEST_P(Threads, CancellingKeepsWhatIsFinished) {
  const Case given = mixed(GetParam().l1_ratios().back());
  for (int threads : {1, 3}) {
    for (int polls : {0, 5}) {
      Call call(GetParam(), given);
      call.options.threads = threads;
      StopsSoon observer(polls);
      const Answer answer{call.given, fit_path(call.data, call.options, &observer)};
      // A run may be quick enough to need fewer polls than that.
      if (polls > 0 && !answer.model.stats.interrupted) continue;
      const Index unfinished = expect_cut_short(answer, Status::kCancelled, tol(GetParam()));
      if (polls == 0) {
        EXPECT_GE(unfinished, given.R);
      }
    }
  }
}

TEST_P(Threads, ATimeLimitKeepsWhatIsFinished) {
  const Case given = mixed(GetParam().l1_ratios().back());
  Call call(GetParam(), given);
  call.options.threads = 2;
  call.options.time_limit = 1e-9;
  const Answer answer{call.given, fit_path(call.data, call.options)};
  EXPECT_GT(expect_cut_short(answer, Status::kTimeLimit, tol(GetParam())), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, Threads, testing::ValuesIn(engines_under_test()),
                         [](const testing::TestParamInfo<EngineUnderTest>& engine) {
                           return engine.param.name;
                         });

}  // namespace
}  // namespace thresher

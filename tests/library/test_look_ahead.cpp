// How many lambdas are solved before X is read for all of them.

#include "backend/cpu_working_set_backend.hpp"
#include "problem_case.hpp"

namespace thresher::testing_library {
namespace {

/// A path in residual mode, one lambda at a time: supports, and how far it then looks ahead.
std::vector<std::pair<Index, Index>> supports_and_look_ahead(Index n_rows, double l1_ratio) {
  constexpr Index kFeatures = 320, kLambdas = 12, kMost = 4;
  ProblemCase c(n_rows, kFeatures, l1_ratio);
  const Columns& columns = c.columns;
  Problem& problem = c.problem;
  problem.lambda = log_grid(0.95 * lambda_max(columns, problem), 0.05, kLambdas);

  ResidualBackend backend(columns, nullptr, 1, kMost, true);
  const Index slot = 0;
  const Problem* loaded = &problem;
  backend.load({&slot, 1}, {&loaded, 1});
  EXPECT_EQ(backend.max_look_ahead(slot), kMost);
  std::vector<std::pair<Index, Index>> out;
  for (Index l = 0; l < kLambdas; ++l) {
    const PathBlock block{slot, l, 1};
    backend.choose_working_sets({&block, 1});
    backend.solve_working_sets({&block, 1}, 10'000);
    backend.correlate({&block, 1});
    CandidateReport report;
    backend.certify({&block, 1}, {&report, 1});
    backend.advance(slot, 0);
    out.emplace_back(backend.harvest(slot, 0, false).coef.size(), backend.max_look_ahead(slot));
  }
  return out;
}

TEST(LookAhead, EndsWhereSolvingCostsMoreThanReadingX) {
  Index n_small = 0, n_large = 0;
  for (const auto& [support, ahead] : supports_and_look_ahead(200, 1.0)) {
    EXPECT_EQ(ahead, support > 20 ? 1 : 4) << support;
    ++(support > 20 ? n_large : n_small);
  }
  EXPECT_GT(n_small, 1);
  EXPECT_GT(n_large, 1);
}

TEST(LookAhead, GoesOnInTheSpaceOfTheRows) {
  Index n_beyond = 0;
  for (const auto& [support, ahead] : supports_and_look_ahead(40, 0.1)) {
    EXPECT_EQ(ahead, support > 20 && support < 40 ? 1 : 4) << support;
    if (support >= 40) ++n_beyond;
  }
  EXPECT_GT(n_beyond, 1);
}

// The working set of a lambda at which nothing is active, but for all of lambda = 0: the answer
// there was 0 as well, "precision limit", gap 0.8.
TEST(LookAhead, StopsBeforeLambdaZero) {
  for (const Mode mode : {Mode::kGram, Mode::kResidual}) {
    for (const Index n_features : {20, 400}) {
      SCOPED_TRACE(std::string(mode == Mode::kGram ? "gram, " : "residual, ") +
                   std::to_string(n_features));
      const Table table(n_features == 20 ? 50 : 450, n_features, 1);
      const double grid[] = {100.0, 0.0, 0.0};
      Options options;
      options.engine = Engine::kActiveSet;
      options.mode = mode;
      options.early_stop.reset();
      options.lambda_grid = MatrixView<const double>::row_major(grid, 1, 3);
      const Model model = fit_path(table.data(), options);
      EXPECT_EQ(model.n_nonzero[0], 0) << "the case does not reach what it is there for";
      for (const Index f : {1, 2}) {
        EXPECT_EQ(status(model, f), Status::kConverged) << name(status(model, f));
        EXPECT_EQ(model.n_nonzero[at(f)], n_features);
      }
      EXPECT_GT(model.iterations[1], 0) << "the active set left it to least squares by columns";
    }
  }
}

}  // namespace
}  // namespace thresher::testing_library

// Plan::bytes against the peak resident size of a child process that does the call and nothing
// else; and what becomes of a call that does not fit its limit.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "library_case.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THRESHER_SHADOW_MEMORY 1
#else
#define THRESHER_SHADOW_MEMORY 0
#endif

namespace thresher::testing_library {
namespace {

std::size_t status_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  std::string word;
  std::size_t value = 0;
  while (file >> word) {
    if (word == field && file >> value) return value * 1024;
  }
  return 0;
}

struct Measured {
  std::size_t planned = 0;
  std::size_t grown = 0;  ///< peak resident size less that before the call
  Index n_tiles = 0;
  bool good = false;
};

/// Simulates in the child, so that its heap is fresh, and reports through a pipe.
Measured measure(const std::function<Model(const Table&)>& call, Index n, Index p, Index r) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    Measured out;
    try {
      const Table table(n, p, r);
      // The peak so far includes the simulation: start again from what is resident now.
      std::ofstream("/proc/self/clear_refs") << 5;
      const std::size_t before = status_bytes("VmRSS:");
      const Model model = call(table);
      out.grown = status_bytes("VmHWM:") - before;
      out.planned = model.stats.planned_bytes;
      out.n_tiles = model.stats.n_tiles;
      out.good = model.stats.n_not_converged == 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    const ssize_t written = write(ends[1], &out, sizeof out);
    _exit(written == sizeof out ? 0 : 1);
  }
  close(ends[1]);
  Measured out;
  const ssize_t got = read(ends[0], &out, sizeof out);
  close(ends[0]);
  int ending = 0;
  waitpid(child, &ending, 0);
  if (got != sizeof out || ending != 0) return {};
  return out;
}

void expect_plan_is_true(const std::string& what, const Measured& measured) {
  ASSERT_TRUE(measured.good) << what;
  const double ratio = static_cast<double>(measured.grown) / static_cast<double>(measured.planned);
  std::printf("%s: planned %.0f MB, grown by %.0f MB, ratio %.3f, %d tiles\n", what.c_str(),
              static_cast<double>(measured.planned) * 1e-6,
              static_cast<double>(measured.grown) * 1e-6, ratio,
              static_cast<int>(measured.n_tiles));
  EXPECT_GE(measured.planned, std::size_t{500'000'000});
  EXPECT_NEAR(ratio, 1.0, 0.1);
}

class PlannedMemory : public testing::Test {
 protected:
  void SetUp() override {
    if (THRESHER_SHADOW_MEMORY) {
      GTEST_SKIP() << "the plan knows nothing of a sanitizer's shadow memory";
    }
  }
};

TEST_F(PlannedMemory, LassoPathOfOneWideTable) {
  const auto call = [](const Table& table) {
    Options options;
    options.threads = 2;
    options.n_lambdas = 50;
    options.lambda_min_ratio = 0.05;
    return fit_path(table.data(), options);
  };
  expect_plan_is_true("lasso path, 600 x 90,000, 8 responses", measure(call, 600, 90'000, 8));
}

TEST_F(PlannedMemory, CrossValidationInGramMode) {
  const auto call = [](const Table& table) {
    Options options;
    options.threads = 2;
    options.n_lambdas = 20;
    options.lambda_min_ratio = 0.003;  // supports near what the plan allows for
    options.mode = Mode::kGram;
    return cross_validate(table.data(), options);
  };
  expect_plan_is_true("gram cross-validation, 2,500 x 2,400, 10 folds",
                      measure(call, 2'500, 2'400, 2));
}

TEST_F(PlannedMemory, CrossValidationThatKeepsManyResults) {
  const auto call = [](const Table& table) {
    Options options;
    options.threads = 2;
    // A given grid: an automatic one may be extended, which no plan foresees.
    std::vector<double> grid;
    for (int l = 0; l < 100; ++l) grid.push_back(2.0 * std::pow(0.93, l));
    options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 100);
    CvOptions cv;
    cv.n_folds = 2;
    return cross_validate(table.data(), options, cv);
  };
  expect_plan_is_true("cross-validation, 40 x 15, 12,000 responses", measure(call, 40, 15, 12'000));
}

TEST_F(PlannedMemory, RidgeOfAWideTable) {
  const auto call = [](const Table& table) {
    Options options;
    options.threads = 2;
    options.l1_ratio = {0.0};
    // From 10 times the top eigenvalue to where rounding leaves nothing proven: folds take a copy
    // of X then, which is the most they need.
    std::vector<double> grid;
    for (int l = 0; l < 20; ++l) grid.push_back(1.4e3 * std::pow(0.06, l));
    options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, 20);
    CvOptions cv;
    cv.n_folds = 5;
    options.keep_chosen = true;
    return cross_validate(table.data(), options, cv);
  };
  expect_plan_is_true("ridge cross-validation, 400 x 48,000, 30 responses",
                      measure(call, 400, 48'000, 30));
}

TEST(MemoryLimit, AProblemThatDoesNotFitIsTiled) {
  const Table table(40, 60, 30);
  Options options;
  options.n_lambdas = 40;
  options.threads = 1;
  options.max_memory = std::size_t{1} << 30;
  const Plan whole = plan_path(table.data(), options);
  EXPECT_EQ(whole.n_tiles, 1);
  EXPECT_EQ(whole.responses_per_tile, 30);
  EXPECT_EQ(whole.limit, options.max_memory);
  const Model one = fit_path(table.data(), options);
  options.max_memory = whole.bytes - 1;
  const Plan tiled = plan_path(table.data(), options);
  EXPECT_GE(tiled.n_tiles, 2);
  EXPECT_LE(tiled.bytes, options.max_memory);
  const Model model = fit_path(table.data(), options);
  EXPECT_EQ(model.stats.n_tiles, tiled.n_tiles);
  EXPECT_EQ(model.stats.planned_bytes, tiled.bytes);
  expect_same_model(model, one, "tiled");
}

/// The refusal names the bytes needed and the limit; with the first the call runs.
TEST(MemoryLimit, IsRefusedWithTheNumbersIfNotEvenOneResponseFits) {
  const Table table(40, 60, 30);
  Options options;
  options.n_lambdas = 40;
  options.threads = 1;
  options.max_memory = 1000;
  std::size_t needed = 0;
  try {
    fit_path(table.data(), options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
    const std::string message = error.what();
    EXPECT_NE(message.find("max_memory must hold one response"), std::string::npos) << message;
    EXPECT_NE(message.find("got 1000"), std::string::npos) << message;
    std::istringstream(message.substr(message.find("need ") + 5)) >> needed;
  }
  EXPECT_GT(needed, at(40 * 60 * 8));
  options.max_memory = needed - 1;
  EXPECT_THROW(fit_path(table.data(), options), Error);
  EXPECT_THROW(plan_path(table.data(), options), Error);
  options.max_memory = needed;
  EXPECT_EQ(plan_path(table.data(), options).responses_per_tile, 1);
  EXPECT_EQ(fit_path(table.data(), options).stats.n_tiles, 30);
}

TEST(MemoryLimit, ThePlanIsReadable) {
  const Table table(40, 60, 30);
  Options options;
  options.max_memory = std::size_t{1} << 30;
  const Plan plan = plan_cross_validation(table.data(), options);
  EXPECT_EQ(plan.n_fits, 30 * 11 * 100);
  EXPECT_EQ(plan.engine, Engine::kActiveSet);
  EXPECT_GT(plan.seconds, 0.0);
  const std::string text = plan.text();
  for (const std::string& part :
       {std::string("active-set"), std::to_string(plan.bytes), std::string("limit 1 GiB")}) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace thresher::testing_library

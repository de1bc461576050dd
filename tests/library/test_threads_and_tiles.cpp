// How a call is cut into threads and tiles must not show in any bit of the model; for ridge, tiles
// may show in its rounding (docs/decisions/0007-tiles-threads-and-bits.md).

#include <algorithm>

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

struct Setting {
  const char* name;
  Engine engine;
  Mode mode;
  Index n, p;
  double l1_ratio;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

const Setting kSettings[] = {
    {"residual", Engine::kActiveSet, Mode::kResidual, 30, 70, 1.0},
    {"gram", Engine::kActiveSet, Mode::kGram, 60, 12, 0.7},
    {"proximal", Engine::kProximalGradient, Mode::kAuto, 40, 15, 0.6},
    {"ridge", Engine::kRidge, Mode::kAuto, 30, 45, 0.0},
    {"reference", Engine::kReference, Mode::kAuto, 20, 8, 0.8},
};

Options options_of(const Setting& setting) {
  Options options;
  options.engine = setting.engine;
  options.mode = setting.mode;
  options.l1_ratio = {setting.l1_ratio};
  options.n_lambdas = 20;
  options.standardize = true;
  return options;
}

CvOptions three_folds() {
  CvOptions cv;
  cv.n_folds = 3;
  cv.predictions = true;
  return cv;
}

class Threads : public testing::TestWithParam<Setting> {};

TEST_P(Threads, SameBitsForAnyNumber) {
  const Setting& setting = GetParam();
  const Table table(setting.n, setting.p, 9);
  Options options = options_of(setting);
  options.threads = 1;
  const Model path = fit_path(table.data(), options);
  const Model cv = cross_validate(table.data(), options, three_folds());
  EXPECT_EQ(path.stats.threads, 1);
  for (const int threads : {1, 2, 3, 7, 16}) {
    options.threads = threads;
    const std::string what = std::to_string(threads) + " threads";
    const Model again = fit_path(table.data(), options);
    EXPECT_EQ(again.stats.threads, threads);
    expect_same_model(again, path, "path, " + what);
    expect_same_model(cross_validate(table.data(), options, three_folds()), cv,
                      "cross-validation, " + what);
  }
}

TEST_P(Threads, SameBitsWithOwnWeightsAndGapsInY) {
  const Setting& setting = GetParam();
  Table table(setting.n, setting.p, 5);
  for (Index r = 0; r < 5; ++r) table.y(3 * r, r) = std::nan("");
  Data data = table.data();
  data.missing_responses = true;
  Options options = options_of(setting);
  options.threads = 1;
  const Model one = cross_validate(data, options, three_folds());
  options.threads = 7;
  expect_same_model(cross_validate(data, options, three_folds()), one, "7 threads");
}

INSTANTIATE_TEST_SUITE_P(Engines, Threads, testing::ValuesIn(kSettings),
                         [](const auto& one) { return std::string(one.param.name); });

constexpr double kRounding = 1e-13;

class Tiles : public testing::TestWithParam<Setting> {};

/// Ever tighter limits, from one tile for all responses to one response each.
TEST_P(Tiles, SameModelForAnySize) {
  const Setting& setting = GetParam();
  const Table table(setting.n, setting.p, 9);
  Options options = options_of(setting);
  options.threads = 2;
  options.max_memory = std::size_t{4} << 30;
  const auto plan = [&] { return plan_cross_validation(table.data(), options, three_folds()); };
  const Model whole = cross_validate(table.data(), options, three_folds());
  ASSERT_EQ(whole.stats.n_tiles, 1);
  const std::size_t all = plan().bytes;
  std::vector<Index> seen = {1};
  for (std::size_t limit = all; limit > 0;) {
    options.max_memory = limit;
    Index per_tile = 0;
    try {
      per_tile = plan().responses_per_tile;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kOutOfMemory);
      break;
    }
    const Index n_tiles = (9 + per_tile - 1) / per_tile;
    if (n_tiles != seen.back()) {
      seen.push_back(n_tiles);
      const Model tiled = cross_validate(table.data(), options, three_folds());
      EXPECT_EQ(tiled.stats.n_tiles, n_tiles);
      EXPECT_LE(tiled.stats.planned_bytes, limit);
      const std::string what = std::to_string(n_tiles) + " tiles";
      if (setting.engine == Engine::kRidge) {
        expect_close_model(tiled, whole, kRounding, what);
      } else {
        expect_same_model(tiled, whole, what);
      }
    }
    limit -= std::min<std::size_t>(limit, 512);
  }
  EXPECT_EQ(seen.back(), 9) << "one response each was never reached";
  EXPECT_GE(seen.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(Engines, Tiles, testing::ValuesIn(kSettings),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace thresher::testing_library

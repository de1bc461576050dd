// Prints what a full path costs; no assertion on seconds, which belong to the machine.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "dataset_case.hpp"

namespace thresher::testing_datasets {
namespace {

class DatasetTiming : public testing::TestWithParam<const char*> {};

TEST_P(DatasetTiming, FullPathOnOneThread) {
  const DataSet& set = data_set(GetParam());
  Options options;
  options.threads = 1;
  options.lambda_min_ratio = 1e-3;
  options.early_stop.reset();
  for (Index r = 0; r < set.n_responses; ++r) {
    Data data = set.data(false);
    data.Y = MatrixView<const double>::column_major(set.Y.data() + r * set.n, set.n, 1);
    std::array<double, 5> seconds{};
    double worst_gap = 0.0;
    for (double& s : seconds) {
      const Model model = fit_path(data, options);
      EXPECT_EQ(model.stats.n_fits, 100);
      EXPECT_EQ(model.stats.n_not_converged, 0);
      s = model.stats.solve_seconds;
      worst_gap = model.stats.worst_gap;
    }
    std::sort(seconds.begin(), seconds.end());
    std::printf("%-10s response %d: median %.1f ms of five (%.1f to %.1f), worst gap %.1e\n",
                GetParam(), static_cast<int>(r), 1e3 * seconds[2], 1e3 * seconds[0],
                1e3 * seconds[4], worst_gap);
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, DatasetTiming, testing::Values("meats", "susie_n2"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace thresher::testing_datasets

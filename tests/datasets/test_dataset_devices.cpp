// The CPU and the device (a GPU, or the kernels on the emulator) on every set: both at their
// tightest, objectives and gaps recomputed in double from X, y and the coefficients.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tuple>

#include "backend/accelerator_library.hpp"
#include "dataset_case.hpp"

namespace thresher::testing_datasets {
namespace {

constexpr double kAgreement = 1e-10;  // of the null loss; the bound

/// The library that THRESHER_CUDA_LIBRARY names, else this build's emulated one.
bool device_is_there(std::string& why_not) {
#ifdef THRESHER_EMULATED_LIBRARY
  setenv("THRESHER_CUDA_LIBRARY", THRESHER_EMULATED_LIBRARY, /*overwrite=*/0);
#endif
  return open_accelerator(why_not) != nullptr;
}

class DatasetDevices : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(DatasetDevices, CpuAndCudaAgree) {
  std::string why_not;
  if (!device_is_there(why_not)) GTEST_SKIP() << "cuda: " << why_not;
  const auto& [name, variant] = GetParam();
  const DataSet& set = data_set(name);
  const bool weighted = variant == "weighted";
  const Judge judge(set, weighted, variant == "standardized");
  double worst = 0.0, worst_gap = 0.0;
  for (const Block& block : set.blocks_of(variant)) {
    std::vector<double> lambda;
    for (const ReferenceFit& fit : block.fits) lambda.push_back(fit.lambda);
    Data data = set.data(weighted);
    data.Y =
        MatrixView<const double>::column_major(set.Y.data() + block.response * set.n, set.n, 1);
    const std::vector<double> l2_factor(at(set.p), block.l2_factor);
    data.l2_factor = l2_factor;
    Options options;
    options.standardize = variant == "standardized";
    options.l1_ratio = {block.l1_ratio};
    options.tol = 1e-12;
    options.early_stop.reset();
    options.lambda_grid =
        MatrixView<const double>::row_major(lambda.data(), 1, static_cast<Index>(lambda.size()));
    options.device = Device::kCpu;
    const Model on_cpu = fit_path(data, options);
    options.device = Device::kCuda;
    const Model on_device = fit_path(data, options);
    ASSERT_EQ(on_device.stats.device, Device::kCuda) << on_device.stats.device_note;
    for (Index l = 0; l < static_cast<Index>(lambda.size()); ++l) {
      SCOPED_TRACE(name + " " + block.text() + " lambda " + std::to_string(l));
      const Judge::Penalty penalty{lambda[at(l)], block.l1_ratio, block.l2_factor};
      const Judge::Verdict cpu = judge.verdict(on_cpu, l, block.response, penalty);
      const Judge::Verdict device = judge.verdict(on_device, l, block.response, penalty);
      const double apart = std::fabs(cpu.objective - device.objective) / block.null_loss;
      const auto status = static_cast<Status>(on_device.status[at(l)]);
      EXPECT_TRUE(is_good(status)) << thresher::name(status) << ", gap " << on_device.gap[at(l)];
      EXPECT_LE(apart, kAgreement) << thresher::name(status) << ", gaps " << cpu.relative_gap
                                   << " and " << device.relative_gap;
      // What the device certifies is what the host finds, to the rounding of either.
      if (status == Status::kConverged) {
        EXPECT_LE(device.relative_gap, 2e-12);
      }
      worst = std::max(worst, apart);
      worst_gap = std::max(worst_gap, device.relative_gap);
    }
  }
  std::printf("%-12s %-12s cpu and cuda at most %.1e of the null loss apart, worst gap %.1e\n",
              set.name.c_str(), variant.c_str(), worst, worst_gap);
}

INSTANTIATE_TEST_SUITE_P(Sets, DatasetDevices,
                         testing::Combine(testing::ValuesIn(kSets),
                                          testing::Values("plain", "standardized", "weighted")),
                         [](const auto& one) {
                           return std::get<0>(one.param) + "_" + std::get<1>(one.param);
                         });

}  // namespace
}  // namespace thresher::testing_datasets

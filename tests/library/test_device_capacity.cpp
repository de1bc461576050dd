// Supports larger than what a device keeps room for: fits end, and say how.

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

#ifdef THRESHER_EMULATED_LIBRARY
Model path_on_device(const Table& table, double l1_ratio) {
  const EmulatedDevice device;
  Options options;
  options.l1_ratio = {l1_ratio};
  options.n_lambdas = 3;
  options.lambda_min_ratio = 0.05;
  options.early_stop.reset();
  options.engine = Engine::kActiveSet;
  options.mode = Mode::kResidual;
  options.device = Device::kCuda;
  options.time_limit = 100.0;  // where rounds once went on for ever
  return fit_path(table.data(), options);
}

TEST(DeviceCapacity, ElasticNetsHaveSupportsOfManyTimesTheRows) {
  const Table table(10, 1500, 1);
  const Model model = path_on_device(table, 0.01);

  for (Index l = 0; l < model.n_lambdas; ++l) EXPECT_EQ(status(model, l), Status::kConverged) << l;
  EXPECT_GT(model.n_nonzero[2], 4 * table.n);
}

TEST(DeviceCapacity, AFullActiveSetIsAnIterationLimit) {
  const Table table(10, 1500, 1);
  const Model model = path_on_device(table, 0.0001);

  EXPECT_EQ(status(model, 2), Status::kIterationLimit);
  EXPECT_EQ(model.n_nonzero[2], 1024);
  EXPECT_GT(model.gap[2], 1e-7);
}
#else
TEST(DeviceCapacity, NeedsAnEmulatedDevice) { GTEST_SKIP() << "this build has no emulated device"; }
#endif

}  // namespace
}  // namespace thresher::testing_library

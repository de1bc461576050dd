// Where a call runs: asked for, chosen, given up; on a fake device that is the CPU, so that what
// ran there can be compared bit for bit.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "library/library_case.hpp"
#include "thresher/model_file.hpp"

namespace thresher::testing_library {
namespace {

class Watcher final : public Observer {
 public:
  void progress(const Progress& state) override {
    ordered = ordered && state.fits_done >= last.fits_done;
    within = within && state.fits_done <= state.fits_total;
    last = state;
  }
  Progress last;
  bool ordered = true, within = true;
};

/// Ridge: the fake's spectrum backend fails on demand.
class DeviceChoice : public testing::Test {
 protected:
  DeviceChoice() {
    options.l1_ratio = {0.0};
    options.n_lambdas = 20;
    options.threads = 2;
    options.max_memory = std::size_t{1} << 30;
    cv.n_folds = 4;
    setenv("THRESHER_CUDA_LIBRARY", THRESHER_FAKE_ACCELERATOR, 1);
    unsetenv("THRESHER_FAKE_DEVICE");
  }
  ~DeviceChoice() override {
    unsetenv("THRESHER_CUDA_LIBRARY");
    unsetenv("THRESHER_FAKE_DEVICE");
  }

  static void tell(const char* word) { setenv("THRESHER_FAKE_DEVICE", word, 1); }
  static void no_library() { setenv("THRESHER_CUDA_LIBRARY", "/nowhere/libfoo.so", 1); }

  Model on(Device device, Observer* observer = nullptr) {
    options.device = device;
    return cross_validate(table.data(), options, cv, observer);
  }

  template <class Run>
  static void expect_error(Errc code, const std::string& message, Run&& run) {
    try {
      run();
      ADD_FAILURE() << "accepted; expected: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_EQ(std::string(error.what()), message);
    }
  }

  /// Many enough fits for device auto to think of a device; still done in a moment.
  void make_large() {
    table = Table(12, 3, 1'500);
    options.n_lambdas = 50;
  }

  Table table{30, 12, 3};
  Options options;
  CvOptions cv;
};

TEST_F(DeviceChoice, CpuNeverLooksForADevice) {
  tell("no device");
  const Model model = on(Device::kCpu);
  EXPECT_EQ(model.stats.device, Device::kCpu);
  EXPECT_EQ(model.stats.device_name, "");
  EXPECT_EQ(model.stats.device_note, "");
  EXPECT_EQ(model.metadata.at("device"), "cpu");
  EXPECT_EQ(model.metadata.count("device_note"), 0u);
}

TEST_F(DeviceChoice, CudaRunsOnTheDeviceAndSaysSo) {
  const Model here = on(Device::kCpu);
  Watcher watcher;
  const Model there = on(Device::kCuda, &watcher);
  expect_same_model(there, here, "device");
  EXPECT_EQ(there.stats.device, Device::kCuda);
  EXPECT_EQ(there.stats.device_name, "fake device");
  EXPECT_EQ(there.stats.device_note, "");
  EXPECT_EQ(there.metadata.at("device"), "cuda");
  EXPECT_EQ(there.metadata.at("device_name"), "fake device");
  EXPECT_EQ(watcher.last.fits_done, watcher.last.fits_total);
}

TEST_F(DeviceChoice, CudaWithoutADeviceIsRefusedWithTheReason) {
  no_library();
  options.device = Device::kCuda;
  const std::string rest = ": device must be cuda, got none: libfoo.so is not installed";
  expect_error(Errc::kDevice, "fit_path" + rest, [&] { fit_path(table.data(), options); });
  expect_error(Errc::kDevice, "cross_validate" + rest,
               [&] { cross_validate(table.data(), options, cv); });
  expect_error(Errc::kDevice, "plan_path" + rest, [&] { plan_path(table.data(), options); });
  setenv("THRESHER_CUDA_LIBRARY", THRESHER_FAKE_ACCELERATOR, 1);
  tell("no device");
  expect_error(Errc::kDevice, "fit_path: device must be cuda, got none: no CUDA device is present",
               [&] { fit_path(table.data(), options); });
  tell("no info");
  expect_error(Errc::kDevice,
               "fit_path: device must be cuda, got none: fake: the device says nothing",
               [&] { fit_path(table.data(), options); });
}

TEST_F(DeviceChoice, BadInputIsRefusedBeforeADeviceIsLookedFor) {
  no_library();
  options.device = Device::kCuda;
  options.n_lambdas = 0;
  expect_error(Errc::kInvalidArgument, "fit_path: n_lambdas must be at least 1, got 0",
               [&] { fit_path(table.data(), options); });
}

TEST_F(DeviceChoice, TheReferenceEngineStaysOnTheCpu) {
  options.engine = Engine::kReference;
  const Model model = on(Device::kAuto);
  EXPECT_EQ(model.stats.device, Device::kCpu);
  EXPECT_EQ(model.stats.device_note, "the reference engine runs on the CPU alone");
  options.device = Device::kCuda;
  expect_error(Errc::kInvalidArgument,
               "fit_path: device must be auto or cpu for engine reference, got cuda",
               [&] { fit_path(table.data(), options); });
}

TEST_F(DeviceChoice, AutoLeavesSmallWorkOnTheCpu) {
  const Model model = on(Device::kAuto);
  EXPECT_EQ(model.stats.device, Device::kCpu);
  EXPECT_EQ(model.stats.device_note, "the work is too small for a device to pay");
  EXPECT_EQ(model.metadata.at("device_note"), model.stats.device_note);
}

TEST_F(DeviceChoice, AutoTakesTheDeviceForLargeWorkWhateverTheThreads) {
  make_large();
  for (const int threads : {1, 2, 16}) {
    options.threads = threads;
    const Plan plan = plan_cross_validation(table.data(), options, cv);
    EXPECT_EQ(plan.device, Device::kCuda) << threads;
    EXPECT_EQ(plan.device_name, "fake device");
    EXPECT_NE(plan.text().find("device     cuda, fake device\n"), std::string::npos) << plan.text();
  }
  EXPECT_EQ(on(Device::kAuto).stats.device, Device::kCuda);
  no_library();
  const Plan plan = plan_cross_validation(table.data(), options, cv);
  EXPECT_EQ(plan.device, Device::kCpu);
  EXPECT_NE(plan.text().find("device     cpu (libfoo.so is not installed)\n"), std::string::npos)
      << plan.text();
}

TEST_F(DeviceChoice, AutoFallsBackToTheCpuWhenTheDeviceFails) {
  make_large();
  const Model here = on(Device::kCpu);
  struct Case {
    const char *word, *said;
  };
  for (const Case& failure :
       {Case{"out of memory",
             "fake: no room for 3000000 bytes; 1000000 of 2000000 bytes are free on the device"},
        Case{"lost", "fake: the device fell off the bus"}}) {
    SCOPED_TRACE(failure.word);
    tell(failure.word);
    Watcher watcher;
    const Model model = on(Device::kAuto, &watcher);
    expect_same_model(model, here, failure.word);
    EXPECT_EQ(model.stats.device, Device::kCpu);
    EXPECT_EQ(model.stats.n_fits, here.stats.n_fits);
    EXPECT_EQ(model.stats.device_note,
              "cuda was given up after 0 of 375000 fits: " + std::string(failure.said));
    EXPECT_EQ(model.metadata.at("device"), "cpu");
    EXPECT_EQ(model.metadata.at("device_note"), model.stats.device_note);
    EXPECT_TRUE(watcher.ordered && watcher.within);
    EXPECT_EQ(watcher.last.fits_done, watcher.last.fits_total);
  }
}

/// What the CPU's engines need and a device does not is made when the device is given up; and every
/// engine really asks the device.
TEST_F(DeviceChoice, EveryEngineAsksTheDeviceAndGoesOnWithoutIt) {
  make_large();
  options.n_lambdas = 10;
  struct Setting {
    const char* name;
    Engine engine;
    Mode mode;
    double l1_ratio;
    bool given_grid;
  };
  const std::vector<double> grid = {1.0, 0.7, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03};
  for (const Setting& setting :
       {Setting{"gram", Engine::kActiveSet, Mode::kGram, 1.0, false},
        Setting{"residual", Engine::kActiveSet, Mode::kResidual, 1.0, false},
        Setting{"residual, no panels on the host", Engine::kActiveSet, Mode::kResidual, 1.0, true},
        Setting{"proximal", Engine::kProximalGradient, Mode::kAuto, 0.5, true},
        Setting{"ridge", Engine::kRidge, Mode::kAuto, 0.0, false}}) {
    SCOPED_TRACE(setting.name);
    options.engine = setting.engine;
    options.mode = setting.mode;
    options.l1_ratio = {setting.l1_ratio};
    options.lambda_grid = setting.given_grid
                              ? MatrixView<const double>::row_major(grid.data(), 1, 10)
                              : MatrixView<const double>{};
    tell("");
    const Model here = on(Device::kCpu);
    tell("lost");
    const Model model = on(Device::kAuto);
    expect_same_model(model, here, setting.name);
    EXPECT_EQ(model.stats.device, Device::kCpu);
    EXPECT_NE(model.stats.device_note.find("fell off the bus"), std::string::npos)
        << model.stats.device_note;
  }
}

TEST_F(DeviceChoice, ADeviceLostOnTheWayKeepsWhatItFinished) {
  make_large();
  const Model here = on(Device::kCpu);
  // A tile decomposes the systems of its four folds, and again where their grids are extended:
  // there the device fails.
  options.max_memory = plan_cross_validation(table.data(), options, cv).bytes - 1;
  const Plan plan = plan_cross_validation(table.data(), options, cv);
  ASSERT_GE(plan.n_tiles, 2);
  tell("lost later");
  Watcher watcher;
  const Model model = on(Device::kAuto, &watcher);
  expect_same_model(model, here, "lost later");
  EXPECT_EQ(model.stats.device, Device::kCpu);
  EXPECT_EQ(model.stats.device_note, "cuda was given up after " +
                                         std::to_string(plan.responses_per_tile * 4 * 50) +
                                         " of 375000 fits: fake: the device fell off the bus");
  EXPECT_TRUE(watcher.ordered && watcher.within);
  EXPECT_EQ(watcher.last.fits_done, watcher.last.fits_total);
  // Another call opens it again.
  tell("");
  EXPECT_EQ(on(Device::kAuto).stats.device, Device::kCuda);
}

TEST_F(DeviceChoice, CudaThatFailsIsAnErrorOfTheCaller) {
  tell("out of memory");
  expect_error(Errc::kOutOfMemory,
               "cross_validate: device cuda failed: fake: no room for 3000000 bytes; 1000000 of "
               "2000000 bytes are free on the device",
               [&] { on(Device::kCuda); });
  tell("lost");
  expect_error(Errc::kDevice,
               "cross_validate: device cuda failed: fake: the device fell off the bus",
               [&] { on(Device::kCuda); });
}

TEST_F(DeviceChoice, TheModelFileSaysWhatHappenedInTheEnd) {
  make_large();
  tell("lost");
  options.device = Device::kAuto;
  const std::string path =
      std::filesystem::temp_directory_path() / ("thresher_device_" + std::to_string(getpid()));
  ModelFileWriter writer(path);
  const RunStats stats = fit_path(table.data(), options, writer);
  writer.finish();
  const Model model = load_model(path);
  std::filesystem::remove(path);
  EXPECT_EQ(model.metadata.at("device"), "cpu");
  EXPECT_EQ(model.metadata.at("device_note"), stats.device_note);
  EXPECT_NE(stats.device_note.find("given up"), std::string::npos);
}

}  // namespace
}  // namespace thresher::testing_library

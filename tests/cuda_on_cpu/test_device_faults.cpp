// Every call that a fit makes of CUDA, cuBLAS and cuSOLVER fails once and for good, the first, a
// middle and the last time; kernels die; memory is short: an error that names what failed or the
// CPU's answer, nothing kept on the device, and the next fit right.

#include <cublas_api.h>
#include <cusolver_common.h>
#include <driver_types.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "emulator.hpp"
#include "library/library_case.hpp"

namespace thresher::testing_library {
namespace {

using emulator::Control;

struct Work {
  const char* name;
  Engine engine;
  Mode mode;
  std::vector<double> l1_ratio;
  bool is_float = false;
  bool folds = false;
};

void PrintTo(const Work& work, std::ostream* out) { *out << work.name; }

/// How a fit ended: a model or an error.
struct Outcome {
  std::optional<Model> model;
  Errc code = Errc::kInvalidArgument;
  std::string said;
};

struct Fault {
  std::string api;
  long nth;
  bool for_good;
  int code;
  bool memory;       // a failed allocation
  std::string word;  // that an error's message must have beside the call's name
};

std::string text_of(const Fault& fault) {
  return fault.api + " fails with " + std::to_string(fault.code) + " at call " +
         std::to_string(fault.nth) + (fault.for_good ? " and from then on" : " once");
}

bool releases(const std::string& api) {
  static const std::set<std::string> kReleases = {
      "cudaFree",      "cudaFreeHost",      "cudaStreamDestroy",      "cudaEventDestroy",
      "cublasDestroy", "cusolverDnDestroy", "cusolverDnDestroyParams"};
  return kReleases.contains(api);
}

bool allocates(const std::string& api) {
  static const std::set<std::string> kAllocations = {"cudaMalloc", "cudaMallocHost", "cublasCreate",
                                                     "cusolverDnCreate", "cusolverDnCreateParams"};
  return kAllocations.contains(api);
}

/// What `api` may return, once or for good.
Fault fault_of(const std::string& api, long nth, bool for_good) {
  Fault out{api, nth, for_good, 0, allocates(api), ""};
  if (api.starts_with("cublas")) {
    out.code = out.memory ? CUBLAS_STATUS_ALLOC_FAILED
               : for_good ? CUBLAS_STATUS_INTERNAL_ERROR
                          : CUBLAS_STATUS_EXECUTION_FAILED;
    out.word = "CUBLAS_STATUS_";
  } else if (api.starts_with("cusolver")) {
    out.code = out.memory ? CUSOLVER_STATUS_ALLOC_FAILED
               : for_good ? CUSOLVER_STATUS_INTERNAL_ERROR
                          : CUSOLVER_STATUS_EXECUTION_FAILED;
    out.word = "cuSOLVER status " + std::to_string(out.code);
  } else {
    out.code = out.memory ? cudaErrorMemoryAllocation
               : for_good ? cudaErrorIllegalAddress
                          : cudaErrorLaunchFailure;
    out.word = out.memory ? "cudaErrorMemoryAllocation"
               : for_good ? "cudaErrorIllegalAddress"
                          : "cudaErrorLaunchFailure";
  }
  return out;
}

/// The work at hand in a size that the emulator does in a moment.
class DeviceFaultCase : public testing::Test {
 protected:
  DeviceFaultCase() {
    setenv("THRESHER_CUDA_LIBRARY", THRESHER_CUDA_EMULATED, 1);
    control = emulator::open(THRESHER_CUDA_EMULATED);
    fresh_device();
    X_float.assign(table.X.begin(), table.X.end());
    options.threads = 1;  // calls come in one order
    options.max_memory = std::size_t{1} << 30;
    options.early_stop.reset();
    cv.n_folds = 2;
    give_grid({0.6, 0.2});
  }
  ~DeviceFaultCase() override {
    fresh_device();
    unsetenv("THRESHER_CUDA_LIBRARY");
  }

  /// Memory within reach of host code: opening and closing it takes most of the time, and other
  /// tests watch it.
  static emulator::Config settings(const Control& device) {
    emulator::Config out = device.environment();
    out.protect = false;
    return out;
  }
  void fresh_device() { control->reset(settings(*control)); }

  void give_grid(std::vector<double> values) {
    grid = std::move(values);
    options.lambda_grid = MatrixView<const double>::row_major(grid.data(), 1, std::ssize(grid));
  }

  void take(const Work& given) {
    work = given;
    options.engine = work.engine;
    options.mode = work.mode;
    options.l1_ratio = work.l1_ratio;
  }

  /// Many more lambdas than are solved: enough work for device auto to look for a device.
  void make_large() {
    std::vector<double> longer = grid;
    for (int l = 0; l < 36'000; ++l) longer.push_back(grid.back() * (1.0 - 1e-6 * (l + 1)));
    give_grid(longer);
    options.early_stop = 0.3;
  }

  Model solve(Device device, Observer* observer = nullptr) {
    Options chosen = options;
    chosen.device = device;
    Data data = table.data();
    if (work.is_float) {
      data.X = MatrixView<const float>::column_major(X_float.data(), table.n, table.p);
    }
    return work.folds ? cross_validate(data, chosen, cv, observer)
                      : fit_path(data, chosen, observer);
  }

  Outcome try_solve(Device device) {
    Outcome out;
    try {
      out.model = solve(device);
    } catch (const Error& error) {
      out.code = error.code();
      out.said = error.what();
    }
    return out;
  }

  double slack() const { return work.is_float ? 1e-4 : 1e-6; }

  /// The same fits as on the CPU, as far as their certificates say.
  void expect_right(const Model& model) {
    ASSERT_EQ(model.status.size(), here.status.size());
    EXPECT_TRUE(model.stats.n_fits == here.stats.n_fits && model.stats.n_not_converged == 0);
    for (std::size_t f = 0; f < here.status.size(); ++f) {
      if (here.status[f] == static_cast<std::uint8_t>(Status::kNotComputed)) {
        EXPECT_EQ(model.status[f], here.status[f]);
        continue;
      }
      ASSERT_TRUE(is_good(static_cast<Status>(model.status[f])));
      EXPECT_NEAR(model.objective[f], here.objective[f], slack() * here.objective[f]);
      EXPECT_NEAR(model.intercept[f], here.intercept[f], 100 * slack());
      const auto b = coefficients(model, static_cast<Index>(f));
      const auto want = coefficients(here, static_cast<Index>(f));
      for (std::size_t j = 0; j < b.size(); ++j) EXPECT_NEAR(b[j], want[j], 10 * slack());
    }
    for (std::size_t f = 0; here.cv && f < here.cv->error.size(); ++f) {
      EXPECT_NEAR(model.cv->error[f], here.cv->error[f], 10 * slack() * here.cv->error[f]);
    }
  }

  void expect_nothing_kept() {
    EXPECT_EQ(control->leaks(), "");
    for (const std::string& report : control->reports()) ADD_FAILURE() << report;
    control->clear_reports();
  }

  void plant(const Fault& fault) {
    if (fault.for_good) {
      control->fail_from(fault.api.c_str(), fault.nth, fault.code);
    } else {
      control->fail(fault.api.c_str(), fault.nth, fault.code);
    }
  }

  /// Distinct names of a clean run with their number of calls.
  std::map<std::string, long> calls_of_clean_run(Device device) {
    fresh_device();
    const std::uint64_t before = control->kernels_run();
    const Model model = solve(device);
    EXPECT_EQ(model.stats.device, Device::kCuda) << model.stats.device_note;
    EXPECT_EQ(model.stats.device_note, "");
    expect_right(model);
    expect_nothing_kept();
    std::map<std::string, long> out;
    for (const std::string& api : control->call_log()) ++out[api];
    EXPECT_FALSE(out.empty());
    kernels = static_cast<long>(control->kernels_run() - before);
    return out;
  }

  /// A device in use may go unharmed through a release that fails, through the last wait of a
  /// destructor, and through a failed allocation with fewer problems at a time.
  static void expect_may_be_survived(const Fault& fault, long count, const Model& model) {
    const bool rung =
        model.stats.device_note.find(" problems at a time (memory)") != std::string::npos;
    const bool last_wait = fault.api == "cudaStreamSynchronize" && fault.nth == count;
    EXPECT_TRUE(releases(fault.api) || last_wait || (fault.memory && rung))
        << "the failure went unnoticed: " << model.stats.device_note;
  }

  static void expect_names(const std::string& said, const Fault& fault) {
    // Launches carry their kernel's name.
    const bool launch = fault.api == "cudaLaunchKernelEx" || fault.api == "cudaFuncSetAttribute";
    const std::string name =
        fault.api.ends_with("_64") ? fault.api.substr(0, fault.api.size() - 3) : fault.api;
    if (launch) {
      EXPECT_NE(said.find(".cuh:"), std::string::npos) << said;
    } else {
      EXPECT_NE(said.find(name), std::string::npos) << said;
    }
    EXPECT_NE(said.find(fault.word), std::string::npos) << said;
  }

  Control* control = nullptr;
  Table table{10, 6, 2};
  std::vector<float> X_float;
  std::vector<double> grid;
  Options options;
  CvOptions cv;
  Work work{};
  Model here;  // on the CPU
  long kernels = 0;
};

class DeviceFaults : public DeviceFaultCase, public testing::WithParamInterface<Work> {
 protected:
  void SetUp() override {
    take(GetParam());
    here = solve(Device::kCpu);
  }
};

const Work kResidual{"Residual", Engine::kActiveSet, Mode::kResidual, {1.0}};

std::vector<Work> works() {
  return {kResidual,
          {"Gram", Engine::kActiveSet, Mode::kGram, {0.8}},
          {"ProximalDouble", Engine::kProximalGradient, Mode::kAuto, {0.5}},
          {"ProximalFloat", Engine::kProximalGradient, Mode::kAuto, {0.5}, true},
          {"Ridge", Engine::kRidge, Mode::kAuto, {0.0}},
          {"Folds", Engine::kAuto, Mode::kResidual, {1.0, 0.0}, false, true}};
}

std::string work_name(const testing::TestParamInfo<Work>& work) { return work.param.name; }

INSTANTIATE_TEST_SUITE_P(Works, DeviceFaults, testing::ValuesIn(works()), work_name);

/// Device auto on work that counts as large. Without folds: they know no early stop, which is what
/// makes it small.
class AutoDeviceFaults : public DeviceFaults {
 protected:
  void SetUp() override {
    take(GetParam());
    make_large();
    here = solve(Device::kCpu);
  }
};

std::vector<Work> works_without_folds() {
  std::vector<Work> out = works();
  std::erase_if(out, [](const Work& work) { return work.folds; });
  return out;
}

INSTANTIATE_TEST_SUITE_P(Works, AutoDeviceFaults, testing::ValuesIn(works_without_folds()),
                         work_name);

TEST_P(DeviceFaults, EveryCallMayFail) {
  for (const auto& [api, count] : calls_of_clean_run(Device::kCuda)) {
    for (const long nth : std::set<long>{1, (count + 1) / 2, count}) {
      for (const bool for_good : {false, true}) {
        const Fault fault = fault_of(api, nth, for_good);
        SCOPED_TRACE(text_of(fault));
        control->clear_calls();
        plant(fault);

        const Outcome outcome = try_solve(Device::kCuda);

        EXPECT_GE(control->calls(api.c_str()), nth) << "the fault was not reached";
        if (outcome.model) {
          expect_may_be_survived(fault, count, *outcome.model);
          EXPECT_EQ(outcome.model->stats.device, Device::kCuda);
          expect_right(*outcome.model);
        } else {
          EXPECT_EQ(outcome.code, fault.memory ? Errc::kOutOfMemory : Errc::kDevice);
          expect_names(outcome.said, fault);
        }
        expect_nothing_kept();

        control->clear_faults();
        expect_right(solve(Device::kCuda));
        expect_nothing_kept();
      }
    }
  }
}

TEST_P(AutoDeviceFaults, EveryCallMayFail) {
  for (const auto& [api, count] : calls_of_clean_run(Device::kAuto)) {
    for (const long nth : std::set<long>{1, (count + 1) / 2, count}) {
      // Once in the middle, for good at the ends: the other test has the rest.
      const Fault fault = fault_of(api, nth, nth == 1 || nth == count);
      SCOPED_TRACE(text_of(fault));
      plant(fault);

      const Model model = solve(Device::kAuto);

      if (model.stats.device == Device::kCuda) {
        expect_may_be_survived(fault, count, model);
        expect_right(model);
      } else {
        expect_same_model(model, here, "on the CPU");
        expect_names(model.stats.device_note, fault);
        EXPECT_EQ(model.metadata.at("device"), "cpu");
        EXPECT_EQ(model.metadata.at("device_note"), model.stats.device_note);
      }
      expect_nothing_kept();
      control->clear_faults();
    }
  }
  expect_right(solve(Device::kAuto));
  expect_nothing_kept();
}

TEST_P(DeviceFaults, EveryCallMayRunOutOfMemory) {
  calls_of_clean_run(Device::kCuda);
  const long total = control->total_calls();
  for (long nth = 1; nth <= total; nth += std::max(1L, total / 40)) {
    for (const bool for_good : {false, true}) {
      SCOPED_TRACE("call " + std::to_string(nth) + (for_good ? " and later" : " once"));
      if (for_good) {
        control->fail_any_from(nth);
      } else {
        control->fail_any(nth);
      }
      const Outcome outcome = try_solve(Device::kCuda);
      if (outcome.model) {
        expect_right(*outcome.model);
      } else {
        EXPECT_TRUE(outcome.code == Errc::kOutOfMemory || outcome.code == Errc::kDevice);
        EXPECT_NE(outcome.said.find("device"), std::string::npos) << outcome.said;
      }
      expect_nothing_kept();
      control->clear_faults();
    }
  }
  expect_right(solve(Device::kCuda));
}

TEST_P(DeviceFaults, KernelsMayDie) {
  calls_of_clean_run(Device::kCuda);
  ASSERT_GT(kernels, 0);
  for (const long nth : {1L, (kernels + 1) / 2, kernels}) {
    for (const int code : {cudaErrorIllegalAddress, cudaErrorLaunchFailure}) {
      SCOPED_TRACE("kernel " + std::to_string(nth) + " dies of " + std::to_string(code));
      control->fail_kernel(nth, code);

      const Outcome outcome = try_solve(Device::kCuda);

      ASSERT_FALSE(outcome.model) << "the failure went unnoticed";
      EXPECT_EQ(outcome.code, Errc::kDevice);
      EXPECT_NE(outcome.said.find(code == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress"
                                                                  : "cudaErrorLaunchFailure"),
                std::string::npos)
          << outcome.said;
      EXPECT_NE(outcome.said.find("cuda"), std::string::npos) << outcome.said;
      expect_nothing_kept();

      // The process has lost its device; what is left is the CPU, and a new process.
      const Outcome again = try_solve(Device::kCuda);
      EXPECT_FALSE(again.model);
      EXPECT_EQ(again.code, Errc::kDevice);
      EXPECT_NE(again.said.find("the device cannot be opened: "), std::string::npos) << again.said;
      expect_same_model(solve(Device::kCpu), here, "on the CPU");
      expect_nothing_kept();
      fresh_device();
      expect_right(solve(Device::kCuda));
    }
  }
}

TEST_P(AutoDeviceFaults, KernelsMayDie) {
  calls_of_clean_run(Device::kAuto);
  for (const long nth : {1L, (kernels + 1) / 2, kernels}) {
    SCOPED_TRACE("kernel " + std::to_string(nth));
    control->fail_kernel(nth, cudaErrorIllegalAddress);
    for (int time = 0; time < 2; ++time) {  // the second time, the device cannot be opened
      const Model model = solve(Device::kAuto);
      expect_same_model(model, here, "on the CPU");
      EXPECT_EQ(model.stats.device, Device::kCpu);
      EXPECT_NE(model.stats.device_note.find(time == 0 ? "cuda was given up" : "cannot be opened"),
                std::string::npos)
          << model.stats.device_note;
      EXPECT_NE(model.stats.device_note.find("cudaErrorIllegalAddress"), std::string::npos);
      expect_nothing_kept();
    }
    fresh_device();
    expect_right(solve(Device::kAuto));
  }
}

/// From too little for one problem to plenty, in steps of a quarter.
TEST_P(DeviceFaults, AnyMemoryLimitGivesTheAnswerOrSaysWhatIsMissing) {
  calls_of_clean_run(Device::kCuda);
  const std::regex wanted(
      "[0-9]+ bytes.*[0-9]+ (of [0-9]+ )?bytes are free|"
      "need [0-9]+ bytes, free are [0-9]+");
  emulator::Config config = settings(*control);
  const std::size_t plenty = 4 * control->peak_bytes();
  bool refused = false, halved = false, at_ease = false;
  for (std::size_t memory = 256; memory < plenty; memory += memory / 4) {
    SCOPED_TRACE(std::to_string(memory) + " bytes");
    config.memory = memory;
    control->reset(config);
    const Outcome outcome = try_solve(Device::kCuda);
    if (outcome.model) {
      expect_right(*outcome.model);
      const std::string& note = outcome.model->stats.device_note;
      static const std::regex kRung("cuda: [0-9]+ of [0-9]+ problems at a time \\(memory\\)");
      EXPECT_TRUE(note.empty() || std::regex_match(note, kRung)) << note;
      halved = halved || !note.empty();
      at_ease = note.empty();
    } else {
      EXPECT_FALSE(at_ease) << "less memory was enough: " << outcome.said;
      EXPECT_EQ(outcome.code, Errc::kOutOfMemory) << outcome.said;
      EXPECT_TRUE(std::regex_search(outcome.said, wanted)) << outcome.said;
      refused = true;
    }
    EXPECT_LE(control->peak_bytes(), memory);
    expect_nothing_kept();
  }
  EXPECT_TRUE(refused);
  EXPECT_TRUE(at_ease);
  EXPECT_TRUE(halved || work.engine == Engine::kRidge);  // ridge takes columns as they fit
}

TEST_P(AutoDeviceFaults, AnyMemoryLimitGivesTheAnswer) {
  calls_of_clean_run(Device::kAuto);
  emulator::Config config = settings(*control);
  const std::size_t plenty = 4 * control->peak_bytes();
  bool on_cpu = false, on_device = false;
  for (std::size_t memory = 256; memory < plenty; memory += memory / 2) {
    SCOPED_TRACE(std::to_string(memory) + " bytes");
    config.memory = memory;
    control->reset(config);
    const Model model = solve(Device::kAuto);
    if (model.stats.device == Device::kCuda) {
      on_device = true;
      expect_right(model);
    } else {
      on_cpu = true;
      expect_same_model(model, here, "on the CPU");
      EXPECT_NE(model.stats.device_note.find("cuda was given up after 0 of "), std::string::npos)
          << model.stats.device_note;
      EXPECT_NE(model.stats.device_note.find("free"), std::string::npos) << model.stats.device_note;
    }
    expect_nothing_kept();
  }
  EXPECT_TRUE(on_cpu && on_device);
}

/// Asks to stop when it has been asked `polls` times.
class Stopper final : public Observer {
 public:
  explicit Stopper(int polls) : left_(polls) {}
  bool cancelled() override { return left_.fetch_sub(1) <= 0; }

 private:
  std::atomic<int> left_;
};

TEST_P(DeviceFaults, CancellingGivesEverythingBack) {
  calls_of_clean_run(Device::kCuda);
  bool finished = false;
  for (int polls = 0; !finished; ++polls) {
    ASSERT_LT(polls, 1000);
    SCOPED_TRACE(polls);
    Stopper stopper(polls);
    const Model model = solve(Device::kCuda, &stopper);
    finished = !model.stats.interrupted;
    for (std::size_t f = 0; f < model.status.size(); ++f) {
      const auto status = static_cast<Status>(model.status[f]);
      EXPECT_TRUE(is_good(status) || status == Status::kCancelled || status == Status::kNotComputed)
          << name(status);
      if (is_good(status) && !work.folds) {
        EXPECT_NEAR(model.objective[f], here.objective[f], slack() * here.objective[f]);
      }
    }
    expect_nothing_kept();
  }
  expect_right(solve(Device::kCuda));
}

TEST_F(DeviceFaultCase, AnEigensolverThatGivesUpLeavesItsSystemToTheCpu) {
  for (const Work& given : works()) {
    if (given.l1_ratio.back() != 0.0) continue;
    SCOPED_TRACE(given.name);
    take(given);
    here = solve(Device::kCpu);
    const long systems = calls_of_clean_run(Device::kCuda).at("cusolverDnXsyevd");
    for (long nth = 1; nth <= systems; ++nth) {
      for (const int info : {3, -2}) {
        control->fail_solver(nth, info);
        const Model model = solve(Device::kCuda);
        expect_right(model);
        EXPECT_EQ(model.stats.device_note,
                  "cuda: a decomposition on the CPU (the device's did not converge)");
        expect_nothing_kept();
      }
    }
  }
}

TEST_F(DeviceFaultCase, CrossValidationGoesOnOnTheCpu) {
  take({"RidgeFolds", Engine::kRidge, Mode::kAuto, {0.0}, false, true});
  make_large();
  table = Table(8, 2, 1);
  here = solve(Device::kCpu);
  for (const char* api : {"cublasCreate", "cusolverDnXsyevd", "cudaLaunchKernelEx"}) {
    const Fault fault = fault_of(api, 1, true);
    SCOPED_TRACE(text_of(fault));
    plant(fault);
    const Model model = solve(Device::kAuto);
    expect_same_model(model, here, "on the CPU");
    EXPECT_EQ(model.stats.device, Device::kCpu);
    expect_names(model.stats.device_note, fault);
    expect_nothing_kept();
    control->clear_faults();
  }
}

TEST_F(DeviceFaultCase, AForkedChildIsToldWhy) {
  take(kResidual);
  here = solve(Device::kCpu);
  expect_right(solve(Device::kCuda));  // now the device belongs to this process
  make_large();
  const Model large = solve(Device::kCpu);

  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // What CUDA says to a child.
    control->fail_from("cudaGetDeviceCount", 1, cudaErrorInitializationError);
    control->fail_from("cudaSetDevice", 1, cudaErrorInitializationError);
    int failed = 0;
    const char* words = "the device must be used by the process that opened it";
    const Outcome asked = try_solve(Device::kCuda);
    if (asked.model || asked.code != Errc::kDevice) failed |= 1;
    if (asked.said.find(words) == std::string::npos) failed |= 2;
    const Outcome free_choice = try_solve(Device::kAuto);
    if (!free_choice.model || free_choice.model->coef_values != large.coef_values) {
      failed |= 4;
    } else if (free_choice.model->stats.device_note.find(words) == std::string::npos) {
      failed |= 8;
    }
    _exit(failed);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  expect_nothing_kept();
  EXPECT_EQ(solve(Device::kAuto).stats.device, Device::kCuda);
}

TEST_F(DeviceFaultCase, TwoThreadsMayUseTheDeviceAtOnce) {
  for (const Work& given : works()) {
    SCOPED_TRACE(given.name);
    take(given);
    here = solve(Device::kCpu);
    std::vector<Outcome> outcomes(2);
    std::vector<std::thread> threads;
    for (Outcome& outcome : outcomes) {
      threads.emplace_back([&] {
        for (int time = 0; time < 3; ++time) outcome = try_solve(Device::kCuda);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Outcome& outcome : outcomes) {
      ASSERT_TRUE(outcome.model) << outcome.said;
      expect_right(*outcome.model);
    }
    expect_nothing_kept();
  }
}

}  // namespace
}  // namespace thresher::testing_library

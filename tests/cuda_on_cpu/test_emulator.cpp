#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "emulated_case.hpp"
#include "planted_faults.cuh"
#include "thresher/error.hpp"

// The emulator must notice each planted fault and must find nothing in the correct kernels.
namespace thresher::emulator {
namespace {

using cuda::DeviceArray;
using cuda::Fault;
using cuda::kFaultThreads;

std::vector<float> integers(std::size_t n) {  // small: their sums are exact
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(i % 7) - 2.0f;
  return out;
}

float sum_of(std::span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0f);
}

std::vector<float> reversed_within_warps(std::vector<float> x) {
  for (auto warp = x.begin(); warp != x.end(); warp += 32) std::reverse(warp, warp + 32);
  return x;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

// What was noticed, in one string; also ends the device's life so that nothing is left to TearDown.
class FaultTest : public EmulatedTest {
 protected:
  std::string notices() {
    std::string text;
    for (const std::string& report : control().reports()) text += report + "\n";
    return text;
  }
  void TearDown() override { control().reset({}); }
  void expect_noticed(const char* text) {
    EXPECT_NE(notices().find(text), std::string::npos) << "missing: " << text << "\n" << notices();
  }
  void expect_checked(const char* text) {  // by the checked build at least
    if (checked()) expect_noticed(text);
  }
  /// Uses memory wrongly. Under AddressSanitizer that is the end of the process, seen here; false
  /// then: there is nothing more to see.
  template <class Use>
  static bool survives(Use use) {
    if (!kAddressSanitizer) {
      use();
      return true;
    }
    EXPECT_DEATH(use(),
                 "AddressSanitizer: use-after-poison|runtime error: index 128 out of bounds");
    return false;
  }
  bool checked() { return control().checks_accesses(); }

  /// Runs column_sums; true if the sums came out right.
  bool column_sums_right(Fault fault, Index n = 1000) {
    const std::vector<float> x = integers(static_cast<std::size_t>(3 * n));
    const DeviceArray<float> device_x = on_device(x);
    DeviceArray<float> sums(3);
    cuda::launch_column_sums(fault, device_x.data(), n, 3, sums.data(), nullptr);
    const std::vector<float> got = on_host(sums);
    for (std::size_t b = 0; b < 3; ++b) {
      const float column =
          sum_of({x.data() + b * static_cast<std::size_t>(n), static_cast<std::size_t>(n)});
      if (!(std::fabs(got[b] - 2.0f * column + column) <= 1e-2f)) return false;
    }
    return true;
  }
  std::vector<float> add_one(Fault fault, Index n) {
    const DeviceArray<float> x = on_device(integers(static_cast<std::size_t>(n)));
    DeviceArray<float> y(n);
    y.zero(nullptr);
    cuda::launch_add_one(fault, x.data(), y.data(), n, nullptr);
    return on_host(y);
  }
  std::vector<float> exchange(Fault fault) {
    const DeviceArray<float> x = on_device(integers(kFaultThreads));
    DeviceArray<float> y(kFaultThreads);
    y.zero(nullptr);
    cuda::launch_exchange(fault, x.data(), y.data(), nullptr);
    return on_host(y);
  }
};

// ---- no fault, no report ----

class CorrectKernels : public ScheduledTest {};
INSTANTIATE_TEST_SUITE_P(Schedules, CorrectKernels, testing::ValuesIn(schedules()), schedule_name);

TEST_P(CorrectKernels, AreRightAndSilent) {
  const Index n = 777;
  const std::vector<float> x = integers(static_cast<std::size_t>(2 * n));
  const DeviceArray<float> device_x = on_device(x);
  DeviceArray<float> sums(2), y(2 * n), reversed(kFaultThreads);

  cuda::launch_column_sums(Fault::kNone, device_x.data(), n, 2, sums.data(), nullptr);
  cuda::launch_add_one(Fault::kNone, device_x.data(), y.data(), 2 * n, nullptr);
  cuda::launch_exchange(Fault::kNone, device_x.data(), reversed.data(), nullptr);

  const std::span<const float> all(x);
  EXPECT_NEAR(on_host(sums)[0], sum_of(all.first(777)), 1e-2);
  EXPECT_NEAR(on_host(sums)[1], sum_of(all.last(777)), 1e-2);
  std::vector<float> plus_one = x;
  for (float& v : plus_one) v += 1.0f;
  EXPECT_EQ(on_host(y), plus_one);
  EXPECT_EQ(on_host(reversed),
            reversed_within_warps({x.begin(), x.begin() + std::ptrdiff_t{kFaultThreads}}));
}

TEST_P(CorrectKernels, CountWithAtomicsAndBallots) {
  const std::vector<float> x = integers(1000);
  const DeviceArray<float> device_x = on_device(x);
  DeviceArray<unsigned long long> counts(3);
  DeviceArray<double> values(1);
  counts.zero(nullptr);
  values.zero(nullptr);

  cuda::launch_atomics(device_x.data(), 1000, counts.data(), values.data(), nullptr);

  unsigned long long positive = 0;
  double total = 0.0;
  for (const float v : x) {
    positive += v > 0.0f ? 1 : 0;
    total += v > 0.0f ? static_cast<double>(v) : 0.0;
  }
  EXPECT_EQ(on_host(counts), (std::vector<unsigned long long>{positive, positive, 2}));
  EXPECT_EQ(on_host(values)[0], total);
}

TEST_P(CorrectKernels, GiveNeighbouringBytesToDifferentThreads) {
  std::vector<std::uint8_t> given(100, 1);
  for (std::size_t i = 0; i < given.size(); i += 3) given[i] = 2;
  const DeviceArray<std::uint8_t> marks = on_device(given);

  cuda::launch_clear_marks(Fault::kNone, marks.data(), marks.size(), nullptr);

  for (std::uint8_t& mark : given) mark = mark == 2 ? 0 : mark;
  EXPECT_EQ(on_host(marks), given);
}

TEST_P(CorrectKernels, WaitForTheWholeGrid) {
  const unsigned n_blocks = 5;
  const std::vector<float> x = integers(32 * n_blocks);
  const DeviceArray<float> device_x = on_device(x);
  DeviceArray<float> partial(4 * Index{n_blocks}), sums(Index{n_blocks});

  cuda::launch_grid_sum(true, device_x.data(), n_blocks, partial.data(), sums.data(), nullptr);

  EXPECT_EQ(on_host(sums), std::vector<float>(n_blocks, sum_of(x)));
}

TEST_P(CorrectKernels, UseLargeSharedMemoryWhenTheyAsk) {
  DeviceArray<float> y(1);

  cuda::launch_with_shared(true, 200000, 256, y.data(), nullptr);

  EXPECT_EQ(on_host(y)[0], 1.0f);
}

TEST_F(EmulatedTest, OneSeedGivesOneSchedule) {
  const auto run = [&] {
    control().reset({.seed = 5, .order = Order::kRandom, .streams = Streams::kRandom});
    DeviceArray<float> y(1);
    std::vector<float> values;
    for (int i = 0; i < 20; ++i) {
      cuda::launch_with_shared(true, 64, 32, y.data(), nullptr);
      std::vector<float> got = on_host(y);
      values.push_back(got[0]);
    }
    return control().call_log();
  };

  EXPECT_EQ(run(), run());
}

// ---- barriers and races ----

TEST_F(FaultTest, BarrierMissingAfterAWrite) {
  const bool right = column_sums_right(Fault::kNoBarrierAfterWrite);

  EXPECT_TRUE(!right || checked());
  expect_checked("race within a block");
}

TEST_F(FaultTest, BarrierMissingBeforeReuse) {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    control().reset({.seed = seed});
    wrong += column_sums_right(Fault::kNoBarrierBeforeReuse) ? 0 : 1;
    expect_checked("race within a block");
  }

  EXPECT_GT(wrong, 0) << "the skewed order never starved a thread";
}

TEST_F(FaultTest, WarpInLockStepIsNotAssumed) {
  const std::vector<float> got = exchange(Fault::kLockStep);

  EXPECT_TRUE(got != reversed_within_warps(integers(kFaultThreads)) || checked());
  expect_checked("race within a block");
}

TEST_F(FaultTest, NeighboursRaceInGlobalMemory) {
  exchange(Fault::kNeighbourRace);

  if (!checked()) GTEST_SKIP() << "only the checked build sees it under every schedule";
  expect_noticed("race within a block");
}

TEST_F(FaultTest, AByteIsReadWhileItsOwnerWritesIt) {
  std::vector<std::uint8_t> given(100, 2);
  const DeviceArray<std::uint8_t> marks = on_device(given);

  cuda::launch_clear_marks(Fault::kNeighbourRace, marks.data(), marks.size(), nullptr);
  (void)on_host(marks);

  if (!checked()) GTEST_SKIP() << "only the checked build sees it: the values agree";
  expect_noticed("race within a block");
}

TEST_F(FaultTest, ManyThreadsWriteOneLocation) {
  add_one(Fault::kSameLocation, 100);

  if (!checked()) GTEST_SKIP() << "only the checked build sees it: the values agree";
  expect_noticed("race within a block");
}

TEST_F(FaultTest, ManyBlocksWriteOneLocation) {
  add_one(Fault::kBetweenBlocks, 1000);

  if (!checked()) GTEST_SKIP() << "only the checked build sees it: the values agree";
  expect_noticed("race between blocks");
}

// ---- bounds and initialisation ----

TEST_F(FaultTest, ReadPastTheEnd) {
  if (!survives([&] { add_one(Fault::kReadPastEnd, 100); })) return;

  if (!checked()) GTEST_SKIP() << "only the checked build and AddressSanitizer see reads";
  expect_noticed("out of bounds: read of 4 bytes");
  expect_noticed("planted_faults.cu:");
}

TEST_F(FaultTest, WritePastTheEnd) {
  if (!survives([&] { add_one(Fault::kWritePastEnd, 100); })) return;

  expect_noticed("written beside");
  expect_checked("out of bounds: write");
}

TEST_F(FaultTest, WriteBelowTheStart) {
  if (!survives([&] { add_one(Fault::kWriteBelowStart, 100); })) return;

  expect_noticed("written beside");
  expect_checked("out of bounds: write");
}

TEST_F(FaultTest, ReadPastASharedArray) {
  std::vector<float> got;
  if (!survives([&] { got = exchange(Fault::kSharedPastEnd); })) return;

  EXPECT_NE(got[0], reversed_within_warps(integers(kFaultThreads))[0]);
  expect_checked("out of bounds: read");
}

TEST_F(FaultTest, UninitialisedSharedMemoryIsNan) {
  EXPECT_FALSE(column_sums_right(Fault::kUninitialisedShared));

  expect_checked("uninitialised read");
}

TEST_F(FaultTest, UninitialisedGlobalMemoryIsNan) {
  DeviceArray<float> x(10), y(10);
  cuda::launch_add_one(Fault::kNone, x.data(), y.data(), 10, nullptr);

  EXPECT_TRUE(std::isnan(on_host(y)[3]));
  expect_checked("uninitialised read");
}

TEST_F(FaultTest, CopyOfUninitialisedMemory) {
  DeviceArray<float> x(10);

  EXPECT_TRUE(std::isnan(on_host(x)[9]));
  expect_checked("reads uninitialised device memory");
}

TEST_F(FaultTest, IndexIn32Bits) {
  Config large;
  large.memory = std::size_t{40} << 30;  // reserved, not touched
  control().reset(large);
  const Index ld = Index{1} << 31;
  DeviceArray<float> y(2 * ld + 1);

  for (const bool narrow : {false, true}) {
    ASSERT_EQ(cudaMemset(y.data() + 2 * ld, 0, sizeof(float)), cudaSuccess);
    cuda::launch_far_writes(narrow, y.data(), ld, 3, nullptr);
    float last = 0.0f;
    cuda::copy_to_host(y.data() + 2 * ld, 1, &last, nullptr);
    EXPECT_EQ(last == 2.0f, !narrow);
  }
}

// ---- divergence ----

TEST_F(FaultTest, ThreadsThatExitBeforeABarrier) {
  EXPECT_THROW(column_sums_right(Fault::kExitBeforeBarrier, 64), Error);

  expect_noticed("divergence");
  expect_noticed("64 of 128 threads have exited");
}

TEST_F(FaultTest, BarrierInBothArmsOfABranch) {
  exchange(Fault::kBarrierInBothArms);

  expect_noticed("divergent barrier");
}

TEST_F(FaultTest, HalfAWarpInAShuffleOfAllLanes) {
  EXPECT_THROW(exchange(Fault::kHalfWarpShuffle), Error);

  expect_noticed("mismatched warp collective");
}

TEST_F(FaultTest, LaneOutsideItsOwnMask) {
  EXPECT_THROW(exchange(Fault::kShuffleOutsideMask), Error);

  expect_noticed("is not in its own mask");
}

TEST_F(FaultTest, Trap) {
  EXPECT_THROW(add_one(Fault::kTrap, 100), Error);

  expect_noticed("__trap() at planted_faults.cu:");
}

// ---- memory and streams, from the host ----

TEST_F(FaultTest, HostReadsDeviceMemory) {
  const DeviceArray<float> x = on_device(integers(10));

  EXPECT_DEATH(
      {
        volatile float seen = x.data()[3];
        (void)seen;
      },
      "");
  HostAccess access(control());
  EXPECT_EQ(x.data()[3], 1.0f);
}

TEST_F(FaultTest, DoubleFree) {
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 64), cudaSuccess);
  ASSERT_EQ(cudaFree(p), cudaSuccess);

  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
  expect_noticed("freed before or never allocated");
}

TEST_F(FaultTest, UseAfterFree) {
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 40), cudaSuccess);
  ASSERT_EQ(cudaFree(p), cudaSuccess);
  DeviceArray<float> y(10);
  const auto use = [&] {
    cuda::launch_add_one(Fault::kNone, static_cast<float*>(p), y.data(), 10, nullptr);
    EXPECT_TRUE(std::isnan(on_host(y)[0]));
  };
  if (!survives(use)) return;

  expect_checked("freed allocation");
}

TEST_F(FaultTest, Leaks) {
  void *device = nullptr, *pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaMalloc(&device, 100), cudaSuccess);
  ASSERT_EQ(cudaMallocHost(&pinned, 100), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);

  EXPECT_EQ(control().leaks(),
            "100 bytes of device memory, 1 streams, 1 events, 1 page-locked host blocks");
}

TEST_F(FaultTest, CopyPastTheEnd) {
  DeviceArray<float> x(10);
  const std::vector<float> values(11);

  EXPECT_EQ(cudaMemcpy(x.data(), values.data(), 44, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  expect_noticed("not inside a live device allocation");
}

TEST_F(FaultTest, KernelIsGivenAHostPointer) {
  std::vector<float> x(10), y(10);
  cuda::launch_add_one(Fault::kNone, x.data(), y.data(), 10, nullptr);
  (void)cudaDeviceSynchronize();

  expect_noticed("pageable host pointer");
  expect_checked("kernel accesses host memory");
}

struct Stream {
  Stream() { cuda::check(cudaStreamCreateWithFlags(&get, cudaStreamNonBlocking), "stream"); }
  ~Stream() { (void)cudaStreamDestroy(get); }
  cudaStream_t get = nullptr;
};

TEST_F(FaultTest, PinnedResultIsReadTooEarly) {
  const Stream stream;
  const DeviceArray<float> x = on_device(integers(10), stream.get);
  cuda::PinnedArray<float> result(10);
  cuda::copy_to_host(x.data(), 10, result.data(), stream.get);

  EXPECT_TRUE(std::isnan(result[3]));
  ASSERT_EQ(cudaStreamSynchronize(stream.get), cudaSuccess);
  EXPECT_EQ(result[3], 1.0f);
}

TEST_F(FaultTest, StreamsDoNotWaitForEachOther) {
  for (const bool waits : {false, true}) {
    control().reset({});
    {
      const Stream first, second;
      cuda::PinnedArray<float> source(10), result(10);
      for (Index i = 0; i < 10; ++i) source[i] = 4.0f;
      DeviceArray<float> x(10), y(10);
      cudaEvent_t copied = nullptr;
      ASSERT_EQ(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), cudaSuccess);
      cuda::copy_to_device(source.data(), 10, x.data(), first.get);
      ASSERT_EQ(cudaEventRecord(copied, first.get), cudaSuccess);
      if (waits) cuda::check(cudaStreamWaitEvent(second.get, copied, 0), "wait");
      cuda::launch_add_one(Fault::kNone, x.data(), y.data(), 10, second.get);
      cuda::copy_to_host(y.data(), 10, result.data(), second.get);
      ASSERT_EQ(cudaStreamSynchronize(second.get), cudaSuccess);
      EXPECT_EQ(result[0] == 5.0f, waits);
      ASSERT_EQ(cudaEventDestroy(copied), cudaSuccess);
    }
    EXPECT_EQ(control().leaks(), "");
    EXPECT_TRUE(!checked() || notices().empty() == waits) << notices();
  }
}

// ---- launches that must be refused ----

TEST_F(FaultTest, SharedMemoryThatWasNotAskedFor) {
  DeviceArray<float> y(1);

  EXPECT_THROW(cuda::launch_with_shared(false, 100000, 32, y.data(), nullptr), Error);
  EXPECT_THROW(cuda::launch_with_shared(true, 240000, 32, y.data(), nullptr), Error);
}

TEST_F(FaultTest, GridTooLargeToBeResident) {
  EXPECT_THROW(cuda::launch_grid_sum(true, nullptr, 10000, nullptr, nullptr, nullptr), Error);
}

TEST_F(FaultTest, GridBarrierInAnOrdinaryLaunch) {
  const DeviceArray<float> x = on_device(integers(64));
  DeviceArray<float> partial(8), sums(2);
  cuda::launch_grid_sum(false, x.data(), 2, partial.data(), sums.data(), nullptr);

  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  expect_noticed("not launched cooperatively");
}

TEST_F(FaultTest, TooManyThreads) {
  DeviceArray<float> y(1);

  EXPECT_THROW(cuda::launch_with_shared(false, 64, 1025, y.data(), nullptr), Error);
}

TEST_F(FaultTest, MemoryLimit) {
  Config small;
  small.memory = 1000;
  control().reset(small);

  DeviceArray<char> first(600);
  try {
    DeviceArray<char> second(600);
    FAIL() << "expected thresher::Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
  }
  EXPECT_EQ(control().bytes_in_use(), 600u);
  EXPECT_EQ(control().peak_bytes(), 600u);
}

// ---- faults on order ----

TEST_F(FaultTest, TheNthCallFailsOnce) {
  void* p = nullptr;
  control().fail("cudaMalloc", 2, cudaErrorMemoryAllocation);

  EXPECT_EQ(cudaMalloc(&p, 8), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&p, 8), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&p, 8), cudaSuccess);
  EXPECT_EQ(control().calls("cudaMalloc"), 3);
}

TEST_F(FaultTest, TheNthCallAndAllLaterOnesFail) {
  control().fail_from("cudaStreamSynchronize", 2, cudaErrorLaunchFailure);

  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure);
  control().clear_faults();
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
}

TEST_F(FaultTest, AnyCallCanFailAndReleasingCallsStillRelease) {
  const auto use_device = [&] {
    const DeviceArray<float> x = on_device(integers(10));
    DeviceArray<float> y(10);
    cuda::launch_add_one(Fault::kNone, x.data(), y.data(), 10, nullptr);
    (void)on_host(y);
  };
  control().reset({});
  use_device();
  const long n_calls = control().total_calls();

  for (long nth = 1; nth <= n_calls; ++nth) {
    control().reset({});
    control().fail_any(nth);
    bool threw = false;
    try {
      use_device();
    } catch (const Error&) {
      threw = true;
    }
    const std::string api = control().call_log()[static_cast<std::size_t>(nth - 1)];
    EXPECT_EQ(threw, api != "cudaFree") << api;
    EXPECT_EQ(control().leaks(), "") << api;
    EXPECT_EQ(notices(), "") << api;
  }
}

TEST_F(FaultTest, KernelThatDiesSticksToTheDevice) {
  control().fail_kernel(1, cudaErrorIllegalAddress);
  DeviceArray<float> y(1);
  cuda::launch_with_shared(false, 64, 32, y.data(), nullptr);

  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorIllegalAddress);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 8), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
}

// ---- settings from outside, verdict at exit ----

TEST_F(FaultTest, EnvironmentChoosesTheSchedule) {
  setenv("THRESHER_EMULATOR_ORDER", "reverse", 1);
  setenv("THRESHER_EMULATOR_STREAMS", "random", 1);
  setenv("THRESHER_EMULATOR_SEED", "42", 1);
  setenv("THRESHER_EMULATOR_MEMORY", "123456", 1);
  const Config config = control().environment();
  setenv("THRESHER_EMULATOR_ORDER", "backwards", 1);

  EXPECT_EQ(config.order, Order::kReverse);
  EXPECT_EQ(config.streams, Streams::kRandom);
  EXPECT_EQ(config.seed, 42u);
  EXPECT_EQ(config.memory, 123456u);
  EXPECT_EXIT((void)control().environment(), testing::ExitedWithCode(97),
              "THRESHER_EMULATOR_ORDER has no value 'backwards'");
  for (const char* name : {"ORDER", "STREAMS", "SEED", "MEMORY"}) {
    unsetenv((std::string("THRESHER_EMULATOR_") + name).c_str());
  }
}

TEST_F(FaultTest, StrictProgramsFailAtExit) {
  const auto end_with = [](bool leak, bool strict) {
    if (strict) setenv("THRESHER_EMULATOR_STRICT", "1", 1);
    void* p = nullptr;
    cuda::check(cudaMalloc(&p, 8), "cudaMalloc");
    if (!leak) (void)cudaFree(p);
    std::exit(0);
  };

  EXPECT_EXIT(end_with(true, true), testing::ExitedWithCode(97), "leaked 8 bytes of device memory");
  EXPECT_EXIT(end_with(true, false), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(end_with(false, true), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace thresher::emulator

#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "device_memory.hpp"
#include "emulator.hpp"

// For tests of single kernels on the emulator: programs made by thresher_add_emulated_tests.
namespace thresher::emulator {

inline const char* name_of(Order order) {
  constexpr const char* kNames[] = {"InOrder", "Reverse", "Random", "Skewed"};
  return kNames[static_cast<int>(order)];
}
inline const char* name_of(Streams streams) {
  constexpr const char* kNames[] = {"Eager", "Lazy", "Random"};
  return kNames[static_cast<int>(streams)];
}

/// A few schedules that differ in everything.
inline std::vector<Config> schedules() {
  std::vector<Config> out(5);
  out[0].order = Order::kInOrder;
  out[0].streams = Streams::kEager;
  out[1].order = Order::kReverse;
  out[2].order = Order::kRandom;
  out[2].streams = Streams::kRandom;
  out[3].seed = 2;
  out[4].seed = 3;
  out[4].streams = Streams::kRandom;
  return out;
}

inline std::string schedule_name(const testing::TestParamInfo<Config>& info) {
  return std::string(name_of(info.param.order)) + name_of(info.param.streams) + "Seed" +
         std::to_string(info.param.seed);
}

/// A new device for every test, which must end with no report, no leak and no pending error.
class EmulatedTest : public testing::Test {
 protected:
  void SetUp() override { control().reset(control().environment()); }
  void TearDown() override {
    for (const std::string& text : control().reports()) ADD_FAILURE() << text;
    EXPECT_EQ(control().leaks(), "");
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
  static Control& control() { return *thresher_emulator_control(); }
};

/// The same under a schedule: INSTANTIATE_TEST_SUITE_P(..., testing::ValuesIn(schedules()),
/// schedule_name).
class ScheduledTest : public EmulatedTest, public testing::WithParamInterface<Config> {
 protected:
  void SetUp() override { control().reset(GetParam()); }
};

template <class T>
cuda::DeviceArray<T> on_device(const std::vector<T>& values, cudaStream_t stream = nullptr) {
  return cuda::to_device(std::span<const T>(values), stream);
}

template <class T>
std::vector<T> on_host(const cuda::DeviceArray<T>& values, cudaStream_t stream = nullptr) {
  std::vector<T> out(static_cast<std::size_t>(values.size()));
  cuda::copy_to_host(values.data(), values.size(), out.data(), stream);
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return out;
}

}  // namespace thresher::emulator

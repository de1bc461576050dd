// What the command says about devices, with a fake one.

#include <cstdlib>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "command/command_fixture.hpp"
#include "thresher/model_file.hpp"

namespace thresher {
namespace {

class DeviceCommand : public CommandFixture {
 protected:
  void SetUp() override {
    CommandFixture::SetUp();
    setenv("THRESHER_CUDA_LIBRARY", THRESHER_FAKE_ACCELERATOR, 1);
    unsetenv("THRESHER_FAKE_DEVICE");
    simulate("s", {"--rows", "30", "--features", "20"});
  }
  void TearDown() override {
    unsetenv("THRESHER_CUDA_LIBRARY");
    unsetenv("THRESHER_FAKE_DEVICE");
    CommandFixture::TearDown();
  }

  Outcome ridge(const std::string& device) {
    return run({"path", "-x", "s/X.npy", "-y", "s/Y.npy", "-o", "m", "--l1-ratio", "0", "--device",
                device, "--json", "m.json"});
  }
};

TEST_F(DeviceCommand, RunsOnTheDeviceAndSaysSo) {
  const Outcome outcome = ridge("cuda");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("\ndevice: cuda, fake device\n"), std::string::npos) << outcome.out;
  const auto json = nlohmann::json::parse(read("m.json"));
  EXPECT_EQ(json.at("device"), "cuda");
  EXPECT_EQ(json.at("device_name"), "fake device");
  EXPECT_EQ(json.at("device_note"), "");
  EXPECT_EQ(load_model(path("m")).metadata.at("device"), "cuda");
}

TEST_F(DeviceCommand, SaysWhyItDidNot) {
  const Outcome outcome = ridge("auto");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::string line = "\ndevice: cpu (the work is too small for a device to pay)\n";
  EXPECT_NE(outcome.out.find(line), std::string::npos) << outcome.out;
}

TEST_F(DeviceCommand, WithoutADeviceCudaIsRefusedAndNothingWritten) {
  setenv("THRESHER_FAKE_DEVICE", "no device", 1);
  const auto before = files();
  const Outcome outcome = ridge("cuda");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "thresher: fit_path: device must be cuda, got none: no CUDA device is present\n");
  EXPECT_EQ(files(), before);
}

TEST_F(DeviceCommand, ADeviceThatFailsIsAFailureWithCudaAlone) {
  setenv("THRESHER_FAKE_DEVICE", "lost", 1);
  const auto before = files();
  const Outcome outcome = ridge("cuda");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "thresher: fit_path: device cuda failed: fake: the device fell off the bus\n");
  EXPECT_EQ(files(), before);
}

TEST_F(DeviceCommand, InfoNamesTheDeviceAndTheLibrarysSize) {
  const std::string text = run({"info"}).out;
  EXPECT_NE(text.find("\ndevice           cuda, fake device (977 KB of 1.91 MB free, no driver)\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("\ndevice library   " THRESHER_FAKE_ACCELERATOR " ("), std::string::npos)
      << text;
  const auto json = nlohmann::json::parse(run({"info", "--json"}).out);
  EXPECT_EQ(json.at("device"), "cuda");
  EXPECT_EQ(json.at("device_total_bytes"), 2'000'000);
  EXPECT_GT(json.at("device_library_bytes").get<int>(), 1000);
}

TEST_F(DeviceCommand, InfoSaysWhyThereIsNone) {
  setenv("THRESHER_CUDA_LIBRARY", "/nowhere/libfoo.so", 1);
  const std::string text = run({"info"}).out;
  EXPECT_NE(text.find("\ndevice           cpu (libfoo.so is not installed)\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("device library"), std::string::npos) << text;
}

}  // namespace
}  // namespace thresher

// Opening a device library: every way in which there is none ends in one clause that says why.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "backend/accelerator_library.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher {
namespace {

class AcceleratorLibrary : public testing::Test {
 protected:
  void SetUp() override { unsetenv("THRESHER_FAKE_DEVICE"); }
  void TearDown() override {
    unsetenv("THRESHER_FAKE_DEVICE");
    unsetenv("THRESHER_CUDA_LIBRARY");
  }

  static void use_library(const std::string& path) {
    setenv("THRESHER_CUDA_LIBRARY", path.c_str(), 1);
  }

  static std::string reason() {
    std::string why_not = "left as it was";
    EXPECT_EQ(open_accelerator(why_not), nullptr);
    return why_not;
  }
};

TEST_F(AcceleratorLibrary, IsOpenedWhereTheEnvironmentSays) {
  use_library(THRESHER_FAKE_ACCELERATOR);
  EXPECT_EQ(accelerator_library_path(), THRESHER_FAKE_ACCELERATOR);
  std::string why_not = "left as it was";
  const auto device = open_accelerator(why_not);
  ASSERT_NE(device, nullptr) << why_not;
  EXPECT_EQ(why_not, "");
  EXPECT_EQ(device->info().name, "fake device");
  EXPECT_EQ(device->info().free_bytes, 1'000'000u);
}

TEST_F(AcceleratorLibrary, CanBeOpenedTwiceAndClosedInAnyOrder) {
  use_library(THRESHER_FAKE_ACCELERATOR);
  std::string why_not;
  auto first = open_accelerator(why_not);
  auto second = open_accelerator(why_not);
  ASSERT_TRUE(first && second);
  EXPECT_NE(first, second);
  first.reset();
  EXPECT_EQ(second->info().name, "fake device");
}

/// The Error's code belongs to the library, which must not be unmapped under it.
TEST_F(AcceleratorLibrary, AnErrorOfADeviceOutlivesIt) {
  use_library(THRESHER_FAKE_ACCELERATOR);
  setenv("THRESHER_FAKE_DEVICE", "no info", 1);
  try {
    std::string why_not;
    open_accelerator(why_not)->info();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kDevice);
    EXPECT_STREQ(error.what(), "fake: the device says nothing");
  }
}

TEST_F(AcceleratorLibrary, AMissingFileIsNotInstalled) {
  use_library("/nowhere/at/all/libfoo.so");
  EXPECT_EQ(reason(), "libfoo.so is not installed");
}

TEST_F(AcceleratorLibrary, AFileThatIsNoLibraryIsNamedWithWhatTheLoaderSays) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("thresher_text_" + std::to_string(getpid()) + ".so");
  std::ofstream(file) << "no shared object, but long enough to be read as the header of one ....";
  use_library(file);
  EXPECT_EQ(reason(), file.filename().string() + " cannot be loaded: invalid ELF header");
  std::filesystem::remove(file);
}

TEST_F(AcceleratorLibrary, ALibraryWithoutTheEntryPointIsRefused) {
  use_library(THRESHER_NOT_AN_ACCELERATOR);
  EXPECT_EQ(reason(),
            "libnot_an_accelerator.so is not a device library: it has no thresher_cuda_open");
}

TEST_F(AcceleratorLibrary, PassesOnWhatTheLibrarySays) {
  use_library(THRESHER_FAKE_ACCELERATOR);
  setenv("THRESHER_FAKE_DEVICE", "other version", 1);
  EXPECT_EQ(reason(), std::string("libthresher_cuda has version 9.0.0, the program's is ") +
                          THRESHER_VERSION);
  setenv("THRESHER_FAKE_DEVICE", "no device", 1);
  EXPECT_EQ(reason(), "no CUDA device is present");
  setenv("THRESHER_FAKE_DEVICE", "no reason", 1);
  EXPECT_EQ(reason(), "the device library gave no reason");
}

/// Whatever this machine has: a device, or a reason.
TEST_F(AcceleratorLibrary, OfThisBuildOpensOrSaysWhyNot) {
  setenv("THRESHER_CUDA_LIBRARY", "", 1);
  const std::string name = "libthresher_cuda.so." + std::to_string(THRESHER_VERSION_MAJOR) + "." +
                           std::to_string(THRESHER_VERSION_MINOR);
  EXPECT_TRUE(accelerator_library_path().ends_with(name)) << accelerator_library_path();
  std::string why_not;
  if (const auto device = open_accelerator(why_not)) {
    EXPECT_EQ(why_not, "");
    EXPECT_NE(device->info().name, "");
  } else {
    std::printf("no device: %s\n", why_not.c_str());
    EXPECT_NE(why_not, "");
  }
}

}  // namespace
}  // namespace thresher

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/accelerator_library.hpp"
#include "emulator.hpp"

// The emulated libraries as an ordinary program meets them: named in the environment, opened at run
// time.
namespace thresher::emulator {
namespace {

class EmulatedLibrary : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { setenv("THRESHER_CUDA_LIBRARY", GetParam(), 1); }
  void TearDown() override { unsetenv("THRESHER_CUDA_LIBRARY"); }
};
std::vector<const char*> libraries() {
  return {
      THRESHER_CUDA_EMULATED,
#ifdef THRESHER_CUDA_CHECKED
      THRESHER_CUDA_CHECKED,
#endif
  };
}

std::string flavour_of(const testing::TestParamInfo<const char*>& library) {
  const std::string path = library.param;
  return path.find("checked") != std::string::npos ? "Checked" : "Plain";
}

INSTANTIATE_TEST_SUITE_P(Flavours, EmulatedLibrary, testing::ValuesIn(libraries()), flavour_of);

TEST_P(EmulatedLibrary, IsADeviceWithTheLimitsThatTestsGiveIt) {
  Control* control = open(GetParam());
  ASSERT_NE(control, nullptr);
  Config config;
  config.memory = 12345678;
  control->reset(config);
  std::string why_not;

  const std::shared_ptr<Accelerator> device = open_accelerator(why_not);
  ASSERT_NE(device, nullptr) << why_not;
  const AcceleratorInfo info = device->info();

  EXPECT_NE(info.name.find("emulated"), std::string::npos) << info.name;
  EXPECT_EQ(info.total_bytes, 12345678u);
  EXPECT_GT(control->calls("cudaMemGetInfo"), 0);
  EXPECT_EQ(control->leaks(), "");
}

TEST_P(EmulatedLibrary, IsNoDeviceWhenTheDriverSaysSo) {
  Control* control = open(GetParam());
  ASSERT_NE(control, nullptr);
  control->reset({});
  control->fail("cudaGetDeviceCount", 1, 100);  // cudaErrorNoDevice
  std::string why_not;

  EXPECT_EQ(open_accelerator(why_not), nullptr);
  EXPECT_EQ(why_not, "no CUDA device is present");
}

TEST(Emulator, IsNotInOtherLibraries) {
  EXPECT_EQ(open("libm.so.6"), nullptr);
  EXPECT_EQ(open("/nowhere/libthresher_cuda.so"), nullptr);
}

}  // namespace
}  // namespace thresher::emulator

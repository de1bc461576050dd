// A device library whose device is the CPU, and that fails where the environment variable
// THRESHER_FAKE_DEVICE says so (a word, see below).

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "backend/accelerator.hpp"
#include "backend/cpu_proximal_backend.hpp"
#include "cpu_spectrum_verbs.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher {
namespace {

std::string_view told() {
  const char* word = std::getenv("THRESHER_FAKE_DEVICE");
  return word != nullptr ? word : "";
}

/// Counts verbs of all backends; `lost later` fails from the eighth on, wherever it is made.
void fail_if_told() {
  static std::atomic<int> verbs{0};
  if (told() == "out of memory") {
    throw Error(Errc::kOutOfMemory, "fake: no room for 3000000 bytes");
  }
  if (told() == "lost") throw Error(Errc::kDevice, "fake: the device fell off the bus");
  if (told() != "lost later") {
    verbs = 0;
  } else if (++verbs > 7) {
    throw Error(Errc::kDevice, "fake: the device fell off the bus");
  }
}

/// The CPU's, under another name.
class FakeSpectrumBackend final : public CpuSpectrumVerbs {
 public:
  std::unique_ptr<Spectrum> decompose(RidgeSystem&& system, bool want_map) const override {
    fail_if_told();
    return cpu_spectrum_backend().decompose(std::move(system), want_map);
  }
  bool takes_products() const override { return cpu_spectrum_backend().takes_products(); }
};

class FakeAccelerator final : public Accelerator {
 public:
  AcceleratorInfo info() override {
    if (told() == "no info") throw Error(Errc::kDevice, "fake: the device says nothing");
    return {"fake device", "no driver", 2'000'000, 1'000'000};
  }
  std::unique_ptr<WorkingSetBackend> working_set_backend(const WorkingSetTask&) override {
    fail_if_told();
    throw Error(Errc::kDevice, "fake: no working-set backend");
  }
  std::unique_ptr<ProximalBackend<double>> proximal_backend(const double* matrix, Index n_samples,
                                                            Index n_features) override {
    fail_if_told();
    return std::make_unique<CpuProximalBackend<double>>(matrix, n_samples, n_features);
  }
  std::unique_ptr<ProximalBackend<float>> proximal_backend(const float* matrix, Index n_samples,
                                                           Index n_features) override {
    fail_if_told();
    return std::make_unique<CpuProximalBackend<float>>(matrix, n_samples, n_features);
  }
  std::unique_ptr<SpectrumBackend> spectrum_backend() override {
    return std::make_unique<FakeSpectrumBackend>();
  }
};

}  // namespace
}  // namespace thresher

extern "C" __attribute__((visibility("default"))) int thresher_cuda_open(
    const char* version, thresher::Accelerator** out, char* reason, std::size_t reason_size);
extern "C" int thresher_cuda_open(const char* version, thresher::Accelerator** out, char* reason,
                                  std::size_t reason_size) {
  *out = nullptr;
  std::string why;
  if (std::strcmp(version, THRESHER_VERSION) != 0 || thresher::told() == "other version") {
    why = std::string("libthresher_cuda has version 9.0.0, the program's is ") + version;
  } else if (thresher::told() == "no device") {
    why = "no CUDA device is present";
  } else if (thresher::told() != "no reason") {
    *out = new thresher::FakeAccelerator;
  }
  std::snprintf(reason, reason_size, "%s", why.c_str());
  return *out != nullptr ? 0 : 1;
}

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "backend/accelerator.hpp"
#include "cuda_check.hpp"
#include "cuda_context.hpp"
#include "cuda_proximal_backend.hpp"
#include "cuda_spectrum_backend.hpp"
#include "cuda_working_set_backend.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

class CudaDevice final : public Accelerator {
 public:
  explicit CudaDevice(const DeviceLimits& limits) : limits_(limits) {}

  AcceleratorInfo info() override {
    use_device(limits_);
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, limits_.device), "cudaGetDeviceProperties");
    int driver = 0, runtime = 0;
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    AcceleratorInfo out;
    out.name = properties.name;
    out.version =
        "driver for CUDA " + version_text(driver) + ", built with CUDA " + version_text(runtime);
    check(cudaMemGetInfo(&out.free_bytes, &out.total_bytes), "cudaMemGetInfo");
    return out;
  }

  std::unique_ptr<WorkingSetBackend> working_set_backend(const WorkingSetTask& task) override {
    return std::make_unique<CudaWorkingSetBackend>(limits_, task);
  }
  std::unique_ptr<ProximalBackend<double>> proximal_backend(const double* matrix, Index n_samples,
                                                            Index n_features) override {
    use_device(limits_);
    return std::make_unique<CudaProximalBackend<double>>(limits_, matrix, n_samples, n_features);
  }
  std::unique_ptr<ProximalBackend<float>> proximal_backend(const float* matrix, Index n_samples,
                                                           Index n_features) override {
    use_device(limits_);
    return std::make_unique<CudaProximalBackend<float>>(limits_, matrix, n_samples, n_features);
  }
  std::unique_ptr<SpectrumBackend> spectrum_backend() override {
    use_device(limits_);
    return make_spectrum_backend(limits_);
  }

 private:
  DeviceLimits limits_;
};

/// Opens device 0 (CUDA_VISIBLE_DEVICES chooses which one that is).
std::unique_ptr<Accelerator> open(std::string& reason) {
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  if (driver == 0) {
    reason = "no NVIDIA driver is installed";
    return nullptr;
  }
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver / 1000 < runtime / 1000) {
    reason = "the driver is too old: it serves CUDA " + version_text(driver) + ", this needs " +
             version_text(runtime);
    return nullptr;
  }
  refuse_after_fork();
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    (void)cudaGetLastError();
    reason = "no CUDA device is present";
    return nullptr;
  }
  check(status, "cudaGetDeviceCount");
  DeviceLimits limits;
  use_device(limits);
  int major = 0, minor = 0, shared = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, limits.device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, limits.device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&limits.multiprocessors, cudaDevAttrMultiProcessorCount,
                               limits.device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, limits.device),
        "cudaDeviceGetAttribute");
  limits.shared_bytes = static_cast<std::size_t>(std::max(shared, 0));
  if (major < 7 || (major == 7 && minor < 5)) {
    reason = "the device is too old: compute capability " + std::to_string(major) + "." +
             std::to_string(minor) + ", this needs 7.5";
    return nullptr;
  }
  return std::make_unique<CudaDevice>(limits);
}

}  // namespace
}  // namespace thresher::cuda

extern "C" __attribute__((visibility("default"))) int thresher_cuda_open(
    const char* version, thresher::Accelerator** out, char* reason, std::size_t reason_size) {
  *out = nullptr;
  std::string why;
  try {
    if (std::strcmp(version, THRESHER_VERSION) != 0) {
      why = std::string("libthresher_cuda has version ") + THRESHER_VERSION +
            ", the program's is " + version;
    } else {
      *out = thresher::cuda::open(why).release();
    }
  } catch (const thresher::Error& error) {
    why = error.code() == thresher::Errc::kOutOfMemory
              ? std::string("the device has too little free memory to be opened")
              : std::string("the device cannot be opened: ") + error.what();
  } catch (const std::exception& error) {
    why = error.what();
  }
  std::snprintf(reason, reason_size, "%s", why.c_str());
  return *out != nullptr ? 0 : 1;
}

#include "thresher/status.hpp"

#include "thresher/version.hpp"

namespace thresher {

std::string_view name(Status status) {
  switch (status) {
    case Status::kConverged:
      return "converged";
    case Status::kPrecisionLimit:
      return "precision limit";
    case Status::kIterationLimit:
      return "iteration limit";
    case Status::kTimeLimit:
      return "time limit";
    case Status::kCancelled:
      return "cancelled";
    case Status::kNumericalBreakdown:
      return "numerical breakdown";
    case Status::kNotComputed:
      return "not computed";
  }
  return "unknown";
}

std::string_view name(Engine engine) {
  switch (engine) {
    case Engine::kAuto:
      return "auto";
    case Engine::kActiveSet:
      return "active-set";
    case Engine::kProximalGradient:
      return "proximal-gradient";
    case Engine::kRidge:
      return "ridge";
    case Engine::kReference:
      return "reference";
  }
  return "unknown";
}

std::string_view name(Mode mode) {
  switch (mode) {
    case Mode::kAuto:
      return "auto";
    case Mode::kGram:
      return "gram";
    case Mode::kResidual:
      return "residual";
  }
  return "unknown";
}

std::string_view name(Device device) {
  switch (device) {
    case Device::kAuto:
      return "auto";
    case Device::kCpu:
      return "cpu";
    case Device::kCuda:
      return "cuda";
  }
  return "unknown";
}

const char* version() noexcept { return THRESHER_VERSION; }

}  // namespace thresher

#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "backend/accelerator_library.hpp"
#include "cuda_on_cpu/emulator.hpp"

namespace thresher::testing_device {

/// Where a test runs, by name:
///
///   "cpu"           no accelerator
///   "cuda"          the library that THRESHER_CUDA_LIBRARY names, else the kernels on the emulator
///   "cuda_checked"  the kernels on the emulator, every access of a kernel checked
///
/// An emulated device is a fresh one. check() at the end of a test fails it for what the emulator
/// has to report, such as races, uninitialised reads and memory that was not given back.
class TestDevice {
 public:
  explicit TestDevice(const std::string& name) : on_cpu_(name == "cpu") {
    if (on_cpu_) return;
    const char* named = std::getenv("THRESHER_CUDA_LIBRARY");
    const std::string before = named != nullptr ? named : "";
    const std::string emulated = name == "cuda" ? plain() : checked();
    if (name != "cuda" || before.empty()) {
      if (emulated.empty()) {
        why_not_ = "this build has no emulated device";
        return;
      }
      setenv("THRESHER_CUDA_LIBRARY", emulated.c_str(), 1);
    }
    control_ = emulator::open(accelerator_library_path().c_str());
    if (control_ != nullptr) control_->reset(control_->environment());
    accelerator_ = open_accelerator(why_not_);
    if (before.empty()) {
      unsetenv("THRESHER_CUDA_LIBRARY");
    } else {
      setenv("THRESHER_CUDA_LIBRARY", before.c_str(), 1);
    }
  }

  bool there() const { return on_cpu_ || accelerator_ != nullptr; }
  const std::string& why_not() const { return why_not_; }
  Accelerator* accelerator() const { return accelerator_.get(); }  ///< null on the CPU
  emulator::Control* emulator() const { return control_; }         ///< null if it is none

  void check() {
    accelerator_.reset();
    if (control_ == nullptr) return;
    for (const std::string& report : control_->reports()) ADD_FAILURE() << report;
    EXPECT_EQ(control_->leaks(), "");
    control_->reset(control_->environment());
  }

 private:
  static std::string plain() {
#ifdef THRESHER_EMULATED_LIBRARY
    return THRESHER_EMULATED_LIBRARY;
#else
    return "";
#endif
  }
  static std::string checked() {
#ifdef THRESHER_CHECKED_LIBRARY
    return THRESHER_CHECKED_LIBRARY;
#else
    return "";
#endif
  }

  bool on_cpu_;
  std::string why_not_;
  emulator::Control* control_ = nullptr;
  std::shared_ptr<Accelerator> accelerator_;
};

}  // namespace thresher::testing_device

#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu_proximal_backend.hpp"
#include "test_device.hpp"

namespace thresher::testing_proximal {

/// Tests that every backend runs, by the name of a TestDevice. Where there is no such device the
/// rows skip with the reason.
class BackendTest : public testing::TestWithParam<const char*> {
 protected:
  BackendTest() : device_(GetParam()) {}

  void SetUp() override {
    if (!device_.there()) GTEST_SKIP() << GetParam() << ": " << device_.why_not();
  }
  void TearDown() override { device_.check(); }

  Accelerator* accelerator() const { return device_.accelerator(); }
  emulator::Control* emulator() const { return device_.emulator(); }

  template <class T>
  std::unique_ptr<ProximalBackend<T>> backend(const T* matrix, Index n_samples,
                                              Index n_features) const {
    if (accelerator() != nullptr) {
      return accelerator()->proximal_backend(matrix, n_samples, n_features);
    }
    return std::make_unique<CpuProximalBackend<T>>(matrix, n_samples, n_features);
  }

 private:
  testing_device::TestDevice device_;
};

inline std::string device_name(const testing::TestParamInfo<const char*>& row) { return row.param; }

/// A matrix in the memory of a backend. Between its columns lie `gap` values that must not be
/// touched.
template <class T>
class Placed {
 public:
  Placed(ProximalBackend<T>& backend, const std::vector<T>& values, Index rows, Index cols,
         Index gap = 0)
      : backend_(backend),
        rows_(rows),
        cols_(cols),
        stride_(rows + gap),
        memory_(backend.allocate(stride_ * cols)) {
    for (Index b = 0; b < cols; ++b) {
      backend.upload({values.data() + b * rows, static_cast<std::size_t>(rows)},
                     memory_.get() + b * stride_);
    }
  }

  MatrixView<T> view() const { return {memory_.get(), rows_, cols_, 1, stride_}; }
  MatrixView<const T> read() const { return {memory_.get(), rows_, cols_, 1, stride_}; }

  std::vector<T> values() const {
    std::vector<T> out(static_cast<std::size_t>(rows_ * cols_));
    std::vector<T> column(static_cast<std::size_t>(stride_));
    for (Index b = 0; b < cols_; ++b) {
      backend_.download(memory_.get() + b * stride_, column);
      for (Index i = rows_; i < stride_; ++i) {
        EXPECT_EQ(column[static_cast<std::size_t>(i)], T(0)) << "behind column " << b;
      }
      std::copy_n(column.begin(), rows_, out.begin() + b * rows_);
    }
    return out;
  }

 private:
  ProximalBackend<T>& backend_;
  Index rows_, cols_, stride_;
  std::shared_ptr<T[]> memory_;
};

}  // namespace thresher::testing_proximal

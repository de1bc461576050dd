#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/accelerator_library.hpp"
#include "backend/cpu_proximal_backend.hpp"
#include "cuda_on_cpu/emulator.hpp"

namespace thresher::testing_proximal {

/// Tests that every backend runs, by name. Without a device the "cuda" rows skip with the reason;
/// on an emulated device they also end with no report and no leak.
class BackendTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "cpu") return;
    emulator_ = emulator::open(accelerator_library_path().c_str());
    if (emulator_ != nullptr) emulator_->reset(emulator_->environment());
    std::string why_not;
    device_ = open_accelerator(why_not);
    if (device_ == nullptr) GTEST_SKIP() << "cuda: " << why_not;
  }

  void TearDown() override {
    device_.reset();
    if (emulator_ == nullptr) return;
    for (const std::string& text : emulator_->reports()) ADD_FAILURE() << text;
    EXPECT_EQ(emulator_->leaks(), "");
  }

  template <class T>
  std::unique_ptr<ProximalBackend<T>> backend(const T* matrix, Index n_samples,
                                              Index n_features) const {
    if (device_ != nullptr) return device_->proximal_backend(matrix, n_samples, n_features);
    return std::make_unique<CpuProximalBackend<T>>(matrix, n_samples, n_features);
  }

 private:
  std::shared_ptr<Accelerator> device_;
  emulator::Control* emulator_ = nullptr;
};

#define THRESHER_ON_EVERY_BACKEND(Suite)                                    \
  INSTANTIATE_TEST_SUITE_P(Backends, Suite, testing::Values("cpu", "cuda"), \
                           [](const auto& row) { return row.param; })

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

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "emulated_case.hpp"
#include "gather_columns.cuh"
#include "inactive_proof.cuh"
#include "working_set_gradient.cuh"

// What whole solves cannot show of single kernels: bounds that are all but reached, and sizes that
// no test can fill.
namespace thresher::emulator {
namespace {

using cuda::DeviceArray;

/// A part of the bound on |x_j' z - xh_j' zh|, see inactive_proof.cuh.
struct Part {
  const char* name;
  double column_error, column_norm, packed_error, packed_norm, sum_error;
};

class InactiveProof : public EmulatedTest, public testing::WithParamInterface<Part> {
 protected:
  static constexpr Index kRows = 64;
  static constexpr Index kFeatures = 70;  // three words of the mask, the last one ragged
  static constexpr double kProduct = 64;  // of columns and a residual of ones

  /// The mask for features that all have x_j' z = kProduct, `computed` in low precision.
  static std::vector<unsigned> mask(double computed, double threshold) {
    const Part& part = GetParam();
    const std::vector<double> ones(kRows * kFeatures, 1.0), zeros(kFeatures, 0.0);
    const auto X = on_device(ones), weight = on_device(ones), factor = on_device(ones);
    const auto mean = on_device(zeros), none = on_device(zeros);
    const auto outside = on_device(std::vector<std::uint8_t>(kFeatures, 0));
    const auto values = on_device(std::vector<float>(kFeatures, static_cast<float>(computed)));
    const auto column_error = on_device(std::vector<double>(kFeatures, part.column_error));
    const auto column_norm = on_device(std::vector<double>(kFeatures, part.column_norm));
    const DeviceArray<double> exact(kFeatures);
    const DeviceArray<unsigned> found(3);
    cuda::ProblemView problem;
    problem.rows.weight = weight.data();
    problem.rows.mean = mean.data();
    problem.factors = {factor.data(), factor.data(), none.data(), outside.data()};
    const auto problems = on_device(std::vector<cuda::ProblemView>{problem});
    cuda::SlotSums given{};
    given.z_norm = std::sqrt(static_cast<double>(kRows));
    given.packed_error = part.packed_error;
    given.packed_norm = part.packed_norm;
    const auto sums = on_device(std::vector<cuda::SlotSums>{given});
    cuda::RoundSlot now;
    now.lambda = threshold;
    const auto round = on_device(std::vector<cuda::RoundSlot>{now});
    cuda::WorkingSetState state;
    state.n = kRows;
    state.p = kFeatures;
    state.n_words = 3;
    state.X = X.data();
    state.problem = problems.data();
    state.in_working = outside.data();
    state.projected = weight.data();
    state.sums = sums.data();
    state.exact = exact.data();
    state.mask = found.data();

    cuda::prove_inactive(state, round.data(), 1,
                         cuda::Correlations<float>{values.data(), column_error.data(),
                                                   column_norm.data(), part.sum_error},
                         nullptr);
    return on_host(found);
  }

  static double bound() {
    const Part& part = GetParam();
    return part.column_error * std::sqrt(static_cast<double>(kRows)) +
           part.column_norm * (part.packed_error + part.sum_error * part.packed_norm);
  }
};

// Rounding to half precision loses up to 2^-12 of a number, a sum of tensor cores 66 * 2^-22; both
// vectors have the norm 8.
INSTANTIATE_TEST_SUITE_P(Parts, InactiveProof,
                         testing::Values(Part{"Column", 8 * 0x1p-12, 8.0, 0.0, 8.0, 0.0},
                                         Part{"Packing", 0.0, 8.0, 8 * 0x1p-12, 8.0, 0.0},
                                         Part{"Sum", 0.0, 8.0, 0.0, 8.0, 66 * 0x1p-22}),
                         [](const auto& part) { return std::string(part.param.name); });

// The computed products are too small by 0.99 of what they may be, the thresholds between.
TEST_P(InactiveProof, MissesNothingThatTheBoundAllows) {
  EXPECT_EQ(mask(kProduct - 0.99 * bound(), kProduct - 0.04 * bound()),
            (std::vector<unsigned>{~0u, ~0u, 0x3fu}));
}

TEST_P(InactiveProof, ProvesWhatTheBoundExcludes) {
  // By the bound alone: the true product would refute it.
  EXPECT_EQ(mask(kProduct - 1.1 * bound(), kProduct - 0.05 * bound()),
            (std::vector<unsigned>{0u, 0u, 0u}));
}

class FarColumns : public EmulatedTest {
 protected:
  void SetUp() override {
    Config large = control().environment();
    large.memory = std::size_t{100} << 30;  // reserved; a few pages are touched
    control().reset(large);
  }

  static constexpr Index kRows = 8;
  static constexpr Index kFar = (Index{1} << 29) + 1;  // its entries lie 2^32 after column 1's

  template <class T>
  static void put(const DeviceArray<T>& X, Index j, T value) {
    const std::vector<T> column(kRows, value);
    cuda::copy_to_device(column.data(), kRows, X.data() + j * kRows, nullptr);
    ASSERT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  }
};

TEST_F(FarColumns, AreReadByTheGradientOfAWorkingSet) {
  const DeviceArray<double> X(kRows * (kFar + 1)), mean(kFar + 1);
  put(X, 1, 1.0);
  put(X, kFar, 5.0);
  ASSERT_EQ(cudaMemset(mean.data() + kFar, 0, sizeof(double)), cudaSuccess);
  const auto weighted = on_device(std::vector<double>(kRows, 1.0));
  const auto feature = on_device(std::vector<int>{static_cast<int>(kFar)});
  const auto one = on_device(std::vector<int>{1}), zero = on_device(std::vector<int>{0});
  const DeviceArray<double> grad(1);
  cuda::ProblemView problem;
  problem.rows.mean = mean.data();
  const auto problems = on_device(std::vector<cuda::ProblemView>{problem});
  const auto round = on_device(std::vector<cuda::RoundSlot>(1));
  cuda::WorkingSetState state;
  state.n = kRows;
  state.p = kFar + 1;
  state.capacity = 1;
  state.X = X.data();
  state.problem = problems.data();
  state.feature = feature.data();
  state.n_working = one.data();
  state.n_gram = zero.data();
  state.weighted = state.projected = weighted.data();
  state.grad = state.grad_projected = grad.data();

  cuda::working_set_gradient(state, round.data(), 1, /*only_new=*/false, /*workers=*/1, nullptr);

  EXPECT_EQ(on_host(grad), std::vector<double>{40.0});
}

TEST_F(FarColumns, AreGathered) {
  const DeviceArray<float> X(kRows * (kFar + 1)), to(2 * kRows);
  put(X, 1, 1.0f);
  put(X, kFar, 5.0f);
  const auto which = on_device(std::vector<Index>{kFar, 1});

  cuda::gather_columns<float>({X.data(), which.data(), to.data(), kRows, 2}, nullptr);

  std::vector<float> want(kRows, 5.0f);
  want.resize(2 * kRows, 1.0f);
  EXPECT_EQ(on_host(to), want);
}

}  // namespace
}  // namespace thresher::emulator

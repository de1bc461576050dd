#pragma once

// Small simulated data for tests of the public calls, and comparisons of models.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "thresher/error.hpp"
#include "thresher/fit.hpp"

namespace thresher::testing_library {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Correlated columns with an offset; each response follows a few of them. Column-major.
struct Table {
  Index n, p, n_responses;
  std::vector<double> X, Y;

  Table(Index rows, Index columns, Index responses, unsigned seed = 1)
      : n(rows),
        p(columns),
        n_responses(responses),
        X(at(rows * columns)),
        Y(at(rows * responses)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < n; ++i) {
      double previous = normal(random);
      for (Index j = 0; j < p; ++j) {
        previous = 0.5 * previous + std::sqrt(0.75) * normal(random);
        X[at(j * n + i)] = 3.0 + previous;
      }
    }
    for (Index r = 0; r < n_responses; ++r) {
      for (Index i = 0; i < n; ++i) {
        double& y = Y[at(r * n + i)];
        y = 5.0 + normal(random);
        for (Index k = 0; k < 4; ++k) {
          y += (k % 2 == 0 ? 1.0 : -0.7) * X[at((7 * r + 5 * k) % p * n + i)];
        }
      }
    }
  }

  double x(Index i, Index j) const { return X[at(j * n + i)]; }
  double y(Index i, Index r) const { return Y[at(r * n + i)]; }
  double& y(Index i, Index r) { return Y[at(r * n + i)]; }

  Data data() const {
    Data out;
    out.X = MatrixView<const double>::column_major(X.data(), n, p);
    out.Y = MatrixView<const double>::column_major(Y.data(), n, n_responses);
    return out;
  }

  /// The rows for which keep(i) holds, of one response.
  Table subset(Index r, const std::function<bool(Index)>& keep) const {
    Table out(*this);
    out.X.clear();
    out.Y.clear();
    out.n = 0;
    out.n_responses = 1;
    for (Index i = 0; i < n; ++i) out.n += keep(i) ? 1 : 0;
    for (Index j = 0; j < p; ++j) {
      for (Index i = 0; i < n; ++i) {
        if (keep(i)) out.X.push_back(x(i, j));
      }
    }
    for (Index i = 0; i < n; ++i) {
      if (keep(i)) out.Y.push_back(y(i, r));
    }
    return out;
  }
};

inline std::vector<double> coefficients(const Model& model, Index fit) {
  std::vector<double> out(at(model.n_features), 0.0);
  for (Index k = model.coef_indptr[at(fit)]; k < model.coef_indptr[at(fit + 1)]; ++k) {
    out[at(model.coef_indices[at(k)])] = model.coef_values[at(k)];
  }
  return out;
}

inline Status status(const Model& model, Index fit) {
  return static_cast<Status>(model.status[at(fit)]);
}

/// Bit for bit, NaN included.
template <class T>
void expect_same_bits(const std::vector<T>& a, const std::vector<T>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  EXPECT_TRUE(a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) << what;
}

/// Within `rounding` of the largest magnitude in `b`, or of 1.
inline void expect_close(const std::vector<double>& a, const std::vector<double>& b,
                         double rounding, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  double scale = 1.0;
  for (const double value : b) scale = std::max(scale, std::fabs(value));
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::isnan(a[i]), std::isnan(b[i])) << what << " at " << i;
    if (std::isnan(b[i])) continue;
    ASSERT_NEAR(a[i], b[i], rounding * scale) << what << " at " << i;
  }
}

/// Every number of two models: real ones by `expect_real(a, b, what)`, all others bit for bit.
template <class ExpectReal>
void expect_models(const Model& a, const Model& b, const std::string& what,
                   const ExpectReal& expect_real) {
  SCOPED_TRACE(what);
  expect_real(a.lambda, b.lambda, "lambda");
  expect_real(a.intercept, b.intercept, "intercept");
  expect_real(a.objective, b.objective, "objective");
  expect_real(a.gap, b.gap, "gap");
  expect_real(a.deviance, b.deviance, "deviance");
  expect_same_bits(a.status, b.status, "status");
  expect_same_bits(a.n_nonzero, b.n_nonzero, "n_nonzero");
  expect_same_bits(a.coef_indptr, b.coef_indptr, "coef_indptr");
  expect_same_bits(a.coef_indices, b.coef_indices, "coef_indices");
  expect_real(a.coef_values, b.coef_values, "coef_values");
  ASSERT_EQ(a.cv.has_value(), b.cv.has_value());
  if (!a.cv) return;
  expect_real(a.cv->error, b.cv->error, "cv.error");
  expect_real(a.cv->se, b.cv->se, "cv.se");
  expect_real(a.cv->train_error, b.cv->train_error, "cv.train_error");
  expect_real(a.cv->fold_error, b.cv->fold_error, "cv.fold_error");
  expect_same_bits(a.cv->best, b.cv->best, "cv.best");
  expect_same_bits(a.cv->one_se, b.cv->one_se, "cv.one_se");
  expect_real(a.cv->predictions, b.cv->predictions, "cv.predictions");
}

inline void expect_same_model(const Model& a, const Model& b, const std::string& what) {
  expect_models(a, b, what, [](const auto& left, const auto& right, const char* name) {
    expect_same_bits(left, right, name);
  });
}

inline void expect_close_model(const Model& a, const Model& b, double rounding,
                               const std::string& what) {
  expect_models(a, b, what, [&](const auto& left, const auto& right, const char* name) {
    expect_close(left, right, rounding, name);
  });
}

/// While it lives Device::kCuda means the emulator, in builds that have it.
class EmulatedDevice {
 public:
#ifdef THRESHER_EMULATED_LIBRARY
  EmulatedDevice() { setenv("THRESHER_CUDA_LIBRARY", THRESHER_EMULATED_LIBRARY, 1); }
  ~EmulatedDevice() { unsetenv("THRESHER_CUDA_LIBRARY"); }
#else
  EmulatedDevice() {}
#endif
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
};

/// Where and how the active set solves: both modes on the CPU, and on the emulator if there is one.
inline std::vector<std::pair<Device, Mode>> places() {
  std::vector<std::pair<Device, Mode>> result;
  for (const Mode mode : {Mode::kGram, Mode::kResidual}) {
    result.emplace_back(Device::kCpu, mode);
#ifdef THRESHER_EMULATED_LIBRARY
    result.emplace_back(Device::kCuda, mode);
#endif
  }
  return result;
}

}  // namespace thresher::testing_library

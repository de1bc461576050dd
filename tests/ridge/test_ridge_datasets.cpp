#include <cmath>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "readers/matrix_file.hpp"
#include "ridge_case.hpp"
#include "test_device.hpp"

namespace thresher {
namespace {

using namespace testing_ridge;

std::string folder(const std::string& set) { return std::string(THRESHER_TEST_DATA) + "/" + set; }

std::vector<double> column_major(const std::string& path, Index* n, Index* p) {
  const MatrixFile file = read_matrix(path);
  *n = file.rows;
  *p = file.cols;
  std::vector<double> out(at(file.rows * file.cols));
  for (Index j = 0; j < file.cols; ++j) {
    for (Index i = 0; i < file.rows; ++i) {
      out[at(j * file.rows + i)] = element(file.view(), i, j);
    }
  }
  return out;
}

/// The values of a three-dimensional .npy of doubles in C order, which the readers refuse.
std::vector<double> last_doubles(const std::string& path, Index count) {
  std::ifstream file(path, std::ios::binary);
  std::vector<double> out(at(count));
  file.seekg(-static_cast<std::streamoff>(sizeof(double)) * count, std::ios::end);
  file.read(reinterpret_cast<char*>(out.data()),
            static_cast<std::streamsize>(sizeof(double)) * count);
  EXPECT_TRUE(file.good());
  return out;
}

/// grants_other is stored as compressed rows.
std::vector<double> sparse_matrix(const std::string& path, Index n, Index p) {
  Index length = 0, one = 0;
  const std::vector<double> data = column_major(path + "/X_csr_data.npy", &length, &one);
  const std::vector<double> indices = column_major(path + "/X_csr_indices.npy", &length, &one);
  const std::vector<double> indptr = column_major(path + "/X_csr_indptr.npy", &length, &one);
  std::vector<double> out(at(n * p), 0.0);
  for (Index i = 0; i < n; ++i) {
    for (auto k = static_cast<std::size_t>(indptr[at(i)]);
         k < static_cast<std::size_t>(indptr[at(i) + 1]); ++k) {
      out[at(static_cast<Index>(indices[k]) * n + i)] = data[k];
    }
  }
  return out;
}

class RidgeDatasets : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  RidgeDatasets() : device_(std::get<1>(GetParam())) {}

  void SetUp() override {
    if (!device_.there()) GTEST_SKIP() << std::get<1>(GetParam()) << ": " << device_.why_not();
    accelerator = device_.accelerator();
  }
  void TearDown() override {
    accelerator = nullptr;
    device_.check();
  }

 private:
  testing_device::TestDevice device_;
};

TEST_P(RidgeDatasets, ObjectiveAndFitOfTheReference) {
  const std::string path = folder(std::get<0>(GetParam()));
  std::ifstream reference_file(path + "/reference.json"), meta_file(path + "/meta.json");
  const nlohmann::json reference = nlohmann::json::parse(reference_file);
  const nlohmann::json meta = nlohmann::json::parse(meta_file);
  Case c;
  c.Y = column_major(path + "/Y.npy", &c.n, &c.n_responses);
  if (std::ifstream(path + "/X.npy")) {
    Index n = 0;
    c.X = column_major(path + "/X.npy", &n, &c.p);
    ASSERT_EQ(n, c.n);
  } else {
    c.p = meta.at("p").get<Index>();
    c.X = sparse_matrix(path, c.n, c.p);
  }
  for (const auto& block : reference.at("ridge")) {
    c.lambda.push_back(block.at("lambda").get<double>());
  }
  const Solved solved = solve(c, 2, 1e-11);
  for (std::size_t l = 0; l < c.lambda.size(); ++l) {
    const auto& block = reference.at("ridge")[l];
    for (Index r = 0; r < c.n_responses; ++r) {
      SCOPED_TRACE("lambda " + std::to_string(l) + " response " + std::to_string(r));
      const Fit& fit = solved.fit(-1, r, static_cast<Index>(l));
      const double p0 = null_loss(c, r, all_weights(c));
      EXPECT_EQ(fit.status, Status::kConverged) << fit.gap;
      EXPECT_LE(fit.gap, 1e-12);
      EXPECT_NEAR(fit.objective, block.at("objective")[at(r)].get<double>(), 1e-9 * p0);
      const double intercept = block.at("intercept")[at(r)].get<double>();
      EXPECT_NEAR(fit.intercept, intercept, 1e-6 * (std::fabs(intercept) + std::sqrt(p0)));
    }
  }
  // Coefficients [strength, response, column]: compared through the fitted values they give.
  const std::vector<double> coef = last_doubles(
      path + "/ridge_coef.npy", static_cast<Index>(c.lambda.size()) * c.n_responses * c.p);
  const auto stored = [&](Index l, Index r, Index j) {
    return coef[at((l * c.n_responses + r) * c.p + j)];
  };
  for (std::size_t l = 0; l < c.lambda.size(); ++l) {
    for (Index r = 0; r < c.n_responses; ++r) {
      std::vector<double> b(at(c.p), 0.0);
      for (const auto& [j, x] : solved.fit(-1, r, static_cast<Index>(l)).coef) b[at(j)] = x;
      Real squares = 0.0L, mean = 0.0L;
      std::vector<Real> difference(at(c.n), 0.0L);
      for (Index j = 0; j < c.p; ++j) {
        const Real d = b[at(j)] - static_cast<Real>(stored(static_cast<Index>(l), r, j));
        for (Index i = 0; i < c.n; ++i) difference[at(i)] += d * c.x(i, j);
      }
      for (const Real d : difference) mean += d / static_cast<Real>(c.n);
      for (const Real d : difference) squares += (d - mean) * (d - mean) / static_cast<Real>(c.n);
      EXPECT_LE(static_cast<double>(std::sqrt(squares)),
                1e-6 * std::sqrt(2.0 * null_loss(c, r, all_weights(c))));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, RidgeDatasets,
                         testing::Combine(testing::Values("diabetes", "meats", "pd_speech",
                                                          "susie_n2", "chicago", "golub",
                                                          "grants_other"),
                                          testing::Values("cpu", "cuda")),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param)) + "_" +
                                  std::get<1>(row.param);
                         });

}  // namespace
}  // namespace thresher

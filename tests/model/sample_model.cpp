#include "model/sample_model.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <utility>

#include "model/memory_sink.hpp"
#include "model/model_tensors.hpp"

namespace thresher {

ModelHeader sample_header(const SampleSize& size) {
  ModelHeader header;
  header.n_samples = size.n_samples;
  header.n_features = size.n_features;
  header.n_responses = size.n_responses;
  header.n_l1_ratios = size.n_l1_ratios;
  header.n_folds = size.n_folds;
  for (Index a = 0; a < size.n_l1_ratios; ++a) {
    header.l1_ratio.push_back(1.0 / static_cast<double>(a + 1));
  }
  header.metadata = {{"options", "{\"tol\": 1e-7}"}, {"seed", "1"}, {"device", "cpu \"é\"\n"}};
  return header;
}

ResponseResult sample_result(const SampleSize& size, Index response) {
  std::mt19937_64 random(size.seed * 1000 + static_cast<std::uint64_t>(response));
  std::uniform_real_distribution<double> real(-2.0, 2.0);
  const auto below = [&](Index n) {
    return static_cast<Index>(random() % static_cast<std::uint64_t>(n));
  };
  ResponseResult result;
  result.response = response;
  result.n_lambdas = size.n_lambdas + (response == 1 ? size.longer_by : 0);
  const Index fits = size.n_l1_ratios * result.n_lambdas;
  for (Index f = 0; f < fits; ++f) {
    const bool computed = below(8) != 0;
    const bool kept = computed && below(4) != 0;
    result.lambda.push_back(std::abs(real(random)));
    for (auto* values : {&result.intercept, &result.objective, &result.gap, &result.deviance}) {
      values->push_back(computed ? real(random) : std::numeric_limits<double>::quiet_NaN());
    }
    result.status.push_back(computed ? static_cast<std::uint8_t>(below(4)) : 6);
    result.engine.push_back(static_cast<std::uint8_t>(below(5)));
    result.mode.push_back(static_cast<std::uint8_t>(below(3)));
    result.rank_deficient.push_back(static_cast<std::uint8_t>(below(2)));
    result.iterations.push_back(below(1000));
    result.coef_kept.push_back(kept ? 1 : 0);
    auto& coef = result.coef.emplace_back();
    for (Index j = 0; kept && j < size.n_features; ++j) {
      if (below(2) != 0) coef.emplace_back(j, real(random));
    }
    result.n_nonzero.push_back(kept ? static_cast<Index>(coef.size()) : below(size.n_features));
  }
  if (size.n_folds > 0) {
    for (auto* values : {&result.cv_error, &result.cv_se, &result.cv_train_error}) {
      for (Index f = 0; f < fits; ++f) values->push_back(real(random));
    }
    for (Index f = 0; f < fits * size.n_folds; ++f) result.cv_fold_error.push_back(real(random));
    for (Index* choice : {result.best, result.one_se}) {
      choice[0] = below(size.n_l1_ratios);
      choice[1] = below(result.n_lambdas);
    }
    result.boundary = below(2) != 0;
    for (Index i = 0; size.predictions && i < size.n_samples; ++i) {
      result.predictions.push_back(real(random));
    }
  }
  return result;
}

Model sample_model(const SampleSize& size, const std::vector<Index>& taken) {
  MemorySink sink;
  sink.begin(sample_header(size));
  for (const Index r : taken) sink.take(sample_result(size, r));
  return sink.finish();
}

Model sample_model(const SampleSize& size) {
  std::vector<Index> all;
  for (Index r = 0; r < size.n_responses; ++r) all.push_back(r);
  return sample_model(size, all);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "thresher-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  EXPECT_TRUE(file.good()) << path;
}

void expect_same_bits(const Model& want, const Model& got) {
  EXPECT_EQ(want.n_samples, got.n_samples);
  EXPECT_EQ(want.n_features, got.n_features);
  EXPECT_EQ(want.n_responses, got.n_responses);
  EXPECT_EQ(want.n_l1_ratios, got.n_l1_ratios);
  EXPECT_EQ(want.n_lambdas, got.n_lambdas);
  ASSERT_EQ(want.cv.has_value(), got.cv.has_value());
  ModelShape shape;
  shape.has_cv = want.cv.has_value();
  shape.has_predictions = true;  // an empty vector compares like any other
  if (shape.has_cv) {
    EXPECT_EQ(want.cv->n_folds, got.cv->n_folds);
  }
  std::vector<std::pair<std::string, std::string>> arrays[2];
  int side = 0;
  for (const Model* model : {&want, &got}) {
    for_each_tensor(*model, shape, [&](const char* name, const TensorShape&, const auto& values) {
      const std::size_t bytes = values.size() * sizeof(values[0]);
      arrays[side].emplace_back(name,
                                std::string(reinterpret_cast<const char*>(values.data()), bytes));
    });
    ++side;
  }
  for (std::size_t t = 0; t < arrays[0].size(); ++t) {
    EXPECT_TRUE(arrays[0][t] == arrays[1][t]) << arrays[0][t].first;
  }
  EXPECT_EQ(want.feature_names, got.feature_names);
  EXPECT_EQ(want.response_names, got.response_names);
  auto want_metadata = want.metadata;
  auto got_metadata = got.metadata;
  want_metadata.erase("library_version");
  got_metadata.erase("library_version");
  EXPECT_EQ(want_metadata, got_metadata);
}

}  // namespace thresher

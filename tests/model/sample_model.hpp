#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thresher/model.hpp"

namespace thresher {

/// What a sample run looks like.
struct SampleSize {
  Index n_samples = 7;
  Index n_features = 9;
  Index n_responses = 4;
  Index n_l1_ratios = 2;
  Index n_lambdas = 3;
  Index n_folds = 0;
  Index longer_by = 0;  // response 1 has so many more lambdas
  bool predictions = false;
  std::uint64_t seed = 1;
};

ModelHeader sample_header(const SampleSize& size);

/// Random but valid results; some fits are not computed, some keep no coefficients.
ResponseResult sample_result(const SampleSize& size, Index response);

/// The model of all responses in `taken`, through MemorySink.
Model sample_model(const SampleSize& size, const std::vector<Index>& taken);
Model sample_model(const SampleSize& size);

/// A fresh folder, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  /// All names in the folder, hidden ones included, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

std::string read_bytes(const std::string& path);
void write_bytes(const std::string& path, const std::string& bytes);

/// Expects every array of `got`, names and metadata included, to have the bits of `want`. The
/// metadata entry library_version, which the writer adds, is left out.
void expect_same_bits(const Model& want, const Model& got);

}  // namespace thresher

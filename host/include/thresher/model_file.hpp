#pragma once

#include <map>
#include <memory>
#include <string>

#include "thresher/api.hpp"
#include "thresher/model.hpp"

namespace thresher {

/// Writes `model` in the safetensors layout (docs/model_file.md). The old file stays until the new
/// one is complete on disk; on failure no temporary file is left.
/// Throws   Error{kFile} naming the path and the system's reason.
THRESHER_API void save_model(const Model& model, const std::string& path);

/// Reads and checks a model file: lengths, offsets, index ranges, finiteness.
/// Throws   Error{kFile} if it cannot be read, Error{kInvalidArgument} if it is not a valid model.
THRESHER_API Model load_model(const std::string& path);

/// A sink that streams results to disk, so that memory stays flat for any number of responses.
/// Nothing appears at `path` before finish(). Without finish() nothing is left behind.
class THRESHER_API ModelFileWriter : public ModelSink {
 public:
  explicit ModelFileWriter(const std::string& path);
  ~ModelFileWriter() override;
  ModelFileWriter(const ModelFileWriter&) = delete;
  ModelFileWriter& operator=(const ModelFileWriter&) = delete;

  void set_names(std::vector<std::string> features, std::vector<std::string> responses);
  void begin(const ModelHeader& header) override;
  void take(ResponseResult&& result) override;
  void amend(const std::map<std::string, std::string>& metadata) override;
  /// Writes the file and moves it into place. Responses that were never taken are "not computed".
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thresher

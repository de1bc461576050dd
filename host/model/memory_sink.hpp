#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "thresher/model.hpp"

namespace thresher {

/// A sink that builds the Model in memory, with the rules of ModelFileWriter: shorter grids and
/// responses never taken are padded with "not computed".
class MemorySink : public ModelSink {
 public:
  /// Throws Error{kInvalidArgument} if the header's sizes are wrong or begin was called before.
  void begin(const ModelHeader& header) override;
  /// Throws Error{kInvalidArgument} if the result does not fit the header or is out of order.
  void take(ResponseResult&& result) override;
  void amend(const std::map<std::string, std::string>& metadata) override {
    model_.metadata = metadata;
  }
  /// The model; the sink is empty afterwards. model.stats is left for the caller to fill.
  Model finish();

 private:
  void lengthen(Index n_lambdas);
  void pad_to(Index response);
  void grow_coef(std::size_t more);

  ModelHeader header_;
  bool begun_ = false;
  Model model_;  // coef_indptr holds counts until finish()
  Index last_ = -1;
  Index n_taken_ = 0;
};

}  // namespace thresher

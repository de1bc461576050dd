#pragma once

#include <array>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "command/npy_stream.hpp"
#include "thresher/model.hpp"

namespace thresher::command {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// One fit of a response after cross-validation. Position -1: none was chosen.
struct ChosenFit {
  Index l1_ratio_position = -1;
  Index lambda_position = -1;
  double l1_ratio = kNone;
  double lambda = kNone;
  Index n_nonzero = 0;
  double error = kNone, se = kNone, train_error = kNone;
};

/// What the table and the JSON summary say about a response after cross-validation.
struct ChosenSummary {
  Index response = 0;
  ChosenFit best, one_se;
  bool boundary = false;
  /// Largest by size at best, only for responses in the table.
  std::vector<std::pair<Index, double>> top_features;
};

/// A path of the table: one response, one l1_ratio.
struct PathSummary {
  Index response = 0;
  double l1_ratio = kNone;
  double first_lambda = kNone, last_lambda = kNone;
  Index n_fits = 0;
  Index n_nonzero = 0;  ///< at the last lambda
  double deviance = kNone;
  double worst_gap = 0.0;
};

inline constexpr std::size_t kStatuses = 7;
inline constexpr std::size_t kEngines = 5;
inline constexpr std::size_t kModes = 3;

struct RunSummary {
  Index n_samples = 0, n_features = 0, n_responses = 0, n_l1_ratios = 0, n_lambdas = 0, n_folds = 0;
  Index n_taken = 0;                            ///< responses
  std::vector<ChosenSummary> chosen;            ///< after cross-validation: every response taken
  std::vector<PathSummary> paths;               ///< else: those of the first responses
  std::array<Index, kStatuses> status_count{};  ///< fits on all rows, by Status
  std::array<Index, kEngines> engine_count{};   ///< fits computed on all rows
  std::array<Index, kModes> mode_count{};
};

/// Responses with rows in the table.
inline constexpr Index kTableResponses = 20;
inline constexpr std::size_t kTopFeatures = 5;

/// Hands every result on to `next` after noting the few figures the reports need, and streams
/// out-of-fold predictions to a file of their own if one is named.
class SummarySink : public ModelSink {
 public:
  SummarySink(ModelSink& next, std::string predictions_path)
      : next_(next), predictions_path_(std::move(predictions_path)) {}

  void begin(const ModelHeader& header) override;
  void take(ResponseResult&& result) override;
  void amend(const std::map<std::string, std::string>& metadata) override { next_.amend(metadata); }
  /// After the last take: counts what never came as "not computed".
  void finish();
  /// Puts the predictions in place; NaN for responses that never came.
  void commit_predictions();

  const RunSummary& summary() const { return summary_; }
  /// Time spent writing inside begin and take.
  double write_seconds() const { return write_seconds_; }

 private:
  void note(const ResponseResult& result);
  void append_absent_predictions(Index end);

  ModelSink& next_;
  std::string predictions_path_;
  std::optional<NpyStream> predictions_;
  Index n_predicted_ = 0;
  std::vector<double> l1_ratio_;
  RunSummary summary_;
  double write_seconds_ = 0.0;
};

}  // namespace thresher::command

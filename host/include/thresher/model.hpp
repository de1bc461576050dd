#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "thresher/api.hpp"
#include "thresher/status.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// The part of a model that cross-validation adds. Arrays are row-major over the shapes named.
struct CvTable {
  Index n_folds = 0;
  std::vector<double> error;  ///< [R, A, L] mean squared error, folds weighed by held-out weight
  std::vector<double> se;     ///< [R, A, L] its standard error
  std::vector<double> train_error;     ///< [R, A, L]
  std::vector<double> fold_error;      ///< [R, A, L, K]
  std::vector<Index> best;             ///< [R, 2] (l1_ratio index, lambda index)
  std::vector<Index> one_se;           ///< [R, 2]
  std::vector<std::uint8_t> boundary;  ///< [R] 1: the best lambda is the end of the grid
  std::vector<double> predictions;     ///< [R, n_samples] out-of-fold at `best`, or empty
};

/// Wall-clock seconds, memory and the worst certificate of a run.
struct RunStats {
  double setup_seconds = 0.0;
  double solve_seconds = 0.0;  ///< data in memory to result in memory, set-up included
  double worst_gap = 0.0;      ///< of all fits that ended well, folds included
  Index n_fits = 0;            ///< fits computed, folds included
  Index n_not_converged = 0;   ///< fits that ended by a limit or a breakdown, folds included
  Index n_tiles = 0;
  int threads = 0;
  std::size_t planned_bytes = 0;
  bool interrupted = false;      ///< cancelled or out of time
  Device device = Device::kCpu;  ///< where all fits ran; kCpu if a device was given up on the way
  std::string device_name;       ///< of the device, or empty
  /// Why not on a device, or what it took to stay there ("cuda: 512 of 2048 problems at a time
  /// (memory)"); empty if there is nothing to say.
  std::string device_note;
};

/// All fits of a run: R responses, A l1_ratios, L lambdas. Fit (r, a, l) has the flat number
/// f = (r * A + a) * L + l, owns coef entries [coef_indptr[f], coef_indptr[f + 1]) and everything
/// is on the scale of the X that was given. What was not computed holds NaN.
struct Model {
  Index n_samples = 0;
  Index n_features = 0;
  Index n_responses = 0;
  Index n_l1_ratios = 0;
  Index n_lambdas = 0;

  std::vector<double> l1_ratio;                                     ///< [A]
  std::vector<double> lambda, intercept, objective, gap, deviance;  ///< [R, A, L]
  std::vector<std::uint8_t> status, engine, mode;  ///< [R, A, L], enums of status.hpp
  std::vector<std::uint8_t> rank_deficient;  ///< [R, A, L] 1: the answer is not unique (lambda = 0)
  std::vector<Index> n_nonzero, iterations;  ///< [R, A, L]
  std::vector<Index> coef_indptr;            ///< [R*A*L + 1]
  std::vector<std::uint8_t> coef_kept;       ///< [R, A, L]
  std::vector<Index> coef_indices;           ///< sorted within a fit
  std::vector<double> coef_values;

  std::optional<CvTable> cv;
  std::vector<std::string> feature_names;   ///< (n_features) or empty
  std::vector<std::string> response_names;  ///< (n_responses) or empty
  std::map<std::string, std::string> metadata;
  RunStats stats;  ///< not stored in the file

  Index fit(Index r, Index a, Index l) const { return (r * n_l1_ratios + a) * n_lambdas + l; }
};

/// All fits of one response, as handed to a ModelSink; arrays are row-major over [A, L].
/// n_lambdas may differ between responses (an extended grid); the model takes the longest.
struct ResponseResult {
  Index response = 0;
  Index n_lambdas = 0;
  std::vector<double> lambda, intercept, objective, gap, deviance;
  std::vector<std::uint8_t> status, engine, mode, rank_deficient;
  std::vector<Index> n_nonzero, iterations;
  std::vector<std::uint8_t> coef_kept;
  std::vector<std::vector<std::pair<Index, double>>> coef;  ///< per fit, sorted by feature
  // After cross-validation:
  std::vector<double> cv_error, cv_se, cv_train_error;  ///< [A, L]
  std::vector<double> cv_fold_error;                    ///< [A, L, K]
  Index best[2] = {0, 0};
  Index one_se[2] = {0, 0};
  bool boundary = false;
  std::vector<double> predictions;  ///< [n_samples] or empty
};

/// What is known before the first result.
struct ModelHeader {
  Index n_samples = 0, n_features = 0, n_responses = 0, n_l1_ratios = 0;
  Index n_folds = 0;  ///< 0: no cross-validation
  std::vector<double> l1_ratio;
  std::map<std::string, std::string> metadata;  ///< options, device, versions, seed
};

/// Takes results as tiles finish: begin once, then take for ascending responses, all from the
/// thread that called fit_path or cross_validate. A run that was interrupted takes fewer responses.
class THRESHER_API ModelSink {
 public:
  virtual ~ModelSink() = default;
  virtual void begin(const ModelHeader& header) = 0;
  virtual void take(ResponseResult&& result) = 0;
  /// Called once after the last take: metadata as it stands now that everything has run, in place
  /// of the header's.
  virtual void amend(const std::map<std::string, std::string>&) {}
};

}  // namespace thresher

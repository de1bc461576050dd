#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "thresher/api.hpp"
#include "thresher/model.hpp"
#include "thresher/observer.hpp"
#include "thresher/options.hpp"

namespace thresher {

/// Fits a path of lambdas for every response and l1_ratio on all rows.
/// Repeat   Same bits for any number of threads.
/// Throws   Error{kInvalidArgument} for bad input, naming the argument, the rule and the value;
///          Error{kOutOfMemory} if not even one response fits the memory limit;
///          Error{kDevice}, or kOutOfMemory from the device, only if options.device is kCuda.
THRESHER_API Model fit_path(const Data& data, const Options& options = {},
                            Observer* observer = nullptr);

/// The same, results handed to `sink` as tiles of responses finish.
THRESHER_API RunStats fit_path(const Data& data, const Options& options, ModelSink& sink,
                               Observer* observer = nullptr);

/// K-fold cross-validation: fits on all rows plus, for every fold, fits without its rows, on the
/// lambda grid of the full data. Definitions of the errors: docs/choosing_lambda.md.
THRESHER_API Model cross_validate(const Data& data, const Options& options = {},
                                  const CvOptions& cv = {}, Observer* observer = nullptr);

THRESHER_API RunStats cross_validate(const Data& data, const Options& options, const CvOptions& cv,
                                     ModelSink& sink, Observer* observer = nullptr);

/// Which closed form ridge_closed_form uses for its errors.
enum class ClosedForm {
  kLeaveOneOut,  ///< sum_i w_i e_i^2, e_i the error at row i without row i (see docs/method.md)
  kGcv,          ///< generalized cross-validation, sum_i w_i r_i^2 / (1 - tr H / n)^2
};

/// Ridge (l1_ratio 0) for all lambdas by one eigendecomposition, with lambda chosen per response by
/// a closed form. The model's cv part has n_folds = 0 and no fold errors; cv.se is NaN and
/// cv.one_se equals cv.best for kGcv.
THRESHER_API Model ridge_closed_form(const Data& data, const Options& options, ClosedForm form,
                                     Observer* observer = nullptr);

/// What a call would do, without doing it.
struct Plan {
  std::size_t bytes = 0;  ///< peak memory the call adds, results included
  std::size_t limit = 0;  ///< the memory limit in force
  Index responses_per_tile = 0;
  Index n_tiles = 0;
  Index n_fits = 0;
  Engine engine = Engine::kAuto;
  Mode mode = Mode::kAuto;
  int threads = 0;
  Device device = Device::kCpu;          ///< where it would run; opened only if it may be used
  std::string device_name, device_note;  ///< as in RunStats
  double seconds = 0.0;  ///< on the CPU: estimate from flops and bytes; order of magnitude
  THRESHER_API std::string text() const;  ///< the plan as a few lines for people
};

THRESHER_API Plan plan_path(const Data& data, const Options& options = {});
THRESHER_API Plan plan_cross_validation(const Data& data, const Options& options = {},
                                        const CvOptions& cv = {});

/// X b + b0 for one fit per response: out (rows of X, n_responses).
/// choice[r] = (l1_ratio index, lambda index) of the fit used for response r.
/// Throws   Error{kInvalidArgument} if X has other columns than the model, or a chosen fit was not
///          computed or its coefficients were not kept.
THRESHER_API void predict(const Model& model, const AnyMatrix& X,
                          const std::vector<std::pair<Index, Index>>& choice,
                          MatrixView<double> out);

}  // namespace thresher

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "thresher/model.hpp"

// What a model file holds, written once: the reader, both writers and the memory sink follow the
// two lists below.

namespace thresher {

/// The sizes that fix the shape of every tensor of a model file.
struct ModelShape {
  Index n_samples = 0;
  Index n_features = 0;
  Index n_responses = 0;
  Index n_l1_ratios = 0;
  Index n_lambdas = 0;
  Index n_folds = 0;
  Index n_values = 0;  // coefficients stored
  bool has_cv = false;
  bool has_predictions = false;
};

using TensorShape = std::vector<Index>;

template <class T>
struct TensorType;
template <>
struct TensorType<double> {
  static constexpr const char* kName = "F64";
};
template <>
struct TensorType<Index> {
  static constexpr const char* kName = "I64";
};
template <>
struct TensorType<std::uint8_t> {
  static constexpr const char* kName = "U8";
};

/// Calls f(name, shape, vector) for every tensor in file order. model.cv must exist if
/// shape.has_cv, and check_sizes(shape) must have passed. Tensors of 8-byte elements come first:
/// the format allows no holes between tensors, and in this order each of them is aligned all the
/// same.
template <class SomeModel, class F>
void for_each_tensor(SomeModel& model, const ModelShape& s, F&& f) {
  const TensorShape fits = {s.n_responses, s.n_l1_ratios, s.n_lambdas};
  const TensorShape choice = {s.n_responses, 2};
  f("lambda", fits, model.lambda);
  f("intercept", fits, model.intercept);
  f("objective", fits, model.objective);
  f("gap", fits, model.gap);
  f("deviance", fits, model.deviance);
  f("l1_ratio", TensorShape{s.n_l1_ratios}, model.l1_ratio);
  if (s.has_cv) {
    f("cv.error", fits, model.cv->error);
    f("cv.se", fits, model.cv->se);
    f("cv.train_error", fits, model.cv->train_error);
    f("cv.fold_error", TensorShape{s.n_responses, s.n_l1_ratios, s.n_lambdas, s.n_folds},
      model.cv->fold_error);
    if (s.has_predictions) {
      f("cv.predictions", TensorShape{s.n_responses, s.n_samples}, model.cv->predictions);
    }
  }
  f("coef.values", TensorShape{s.n_values}, model.coef_values);
  f("coef.indices", TensorShape{s.n_values}, model.coef_indices);
  f("coef.indptr", TensorShape{s.n_responses * s.n_l1_ratios * s.n_lambdas + 1}, model.coef_indptr);
  f("n_nonzero", fits, model.n_nonzero);
  f("iterations", fits, model.iterations);
  if (s.has_cv) {
    f("cv.best", choice, model.cv->best);
    f("cv.one_se", choice, model.cv->one_se);
  }
  f("status", fits, model.status);
  f("engine", fits, model.engine);
  f("mode", fits, model.mode);
  f("rank_deficient", fits, model.rank_deficient);
  f("coef.kept", fits, model.coef_kept);
  if (s.has_cv) f("cv.boundary", TensorShape{s.n_responses}, model.cv->boundary);
}

/// Calls f(name, whole, part, inner, pad) for everything a response has per lambda. `part` is
/// row-major [A, n_lambdas, inner] of one response, `whole` the same of all responses; lambdas
/// and responses that are missing hold `pad`. `n_coef` counts the coefficients stored per fit.
template <class F>
void for_each_lambda_field(Model& whole, ResponseResult& part, std::vector<Index>& n_coef,
                           Index n_folds, F&& f) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  constexpr std::uint8_t kNotComputed = static_cast<std::uint8_t>(Status::kNotComputed);
  f("lambda", whole.lambda, part.lambda, Index{1}, kNone);
  f("intercept", whole.intercept, part.intercept, Index{1}, kNone);
  f("objective", whole.objective, part.objective, Index{1}, kNone);
  f("gap", whole.gap, part.gap, Index{1}, kNone);
  f("deviance", whole.deviance, part.deviance, Index{1}, kNone);
  f("status", whole.status, part.status, Index{1}, kNotComputed);
  f("engine", whole.engine, part.engine, Index{1}, std::uint8_t{0});
  f("mode", whole.mode, part.mode, Index{1}, std::uint8_t{0});
  f("rank_deficient", whole.rank_deficient, part.rank_deficient, Index{1}, std::uint8_t{0});
  f("coef.kept", whole.coef_kept, part.coef_kept, Index{1}, std::uint8_t{0});
  f("n_nonzero", whole.n_nonzero, part.n_nonzero, Index{1}, Index{0});
  f("iterations", whole.iterations, part.iterations, Index{1}, Index{0});
  f("coef.indptr", whole.coef_indptr, n_coef, Index{1}, Index{0});
  if (n_folds > 0) {
    f("cv.error", whole.cv->error, part.cv_error, Index{1}, kNone);
    f("cv.se", whole.cv->se, part.cv_se, Index{1}, kNone);
    f("cv.train_error", whole.cv->train_error, part.cv_train_error, Index{1}, kNone);
    f("cv.fold_error", whole.cv->fold_error, part.cv_fold_error, n_folds, kNone);
  }
}

/// a * b for sizes. Throws Error{kInvalidArgument} naming `what` if a factor is negative or the
/// product leaves Index.
Index checked_product(Index a, Index b, const std::string& what);

/// Throws unless all sizes are at least 1 (n_folds and n_values 0) and every tensor's bytes fit
/// in Index.
void check_sizes(const ModelShape& shape, const std::string& where);

/// The shape of a model in memory. Throws Error{kInvalidArgument}, the message starting with
/// `where`, unless every size, code, index and coefficient is valid.
ModelShape check_model(const Model& model, const std::string& where);

/// The same for what is known before the first result.
void check_header(const ModelHeader& header, const std::string& where);

/// Makes a result fit to be stored, and returns the number of coefficients stored per fit: a fit
/// whose coefficients or intercept are not finite keeps none and does not count as a good end;
/// cross-validation arrays that are empty become NaN; coefficients of fits not kept are dropped.
/// Throws   Error{kInvalidArgument} if sizes, codes or indices are wrong, or the response does not
///          come after `last`.
std::vector<Index> check_result(const ModelHeader& header, Index last, ResponseResult& result,
                                const std::string& where);

}  // namespace thresher

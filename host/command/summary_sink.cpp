#include "command/summary_sink.hpp"

#include <algorithm>
#include <cmath>

#include "command/stopwatch.hpp"

namespace thresher::command {
namespace {

double at(const std::vector<double>& values, std::size_t f) {
  return f < values.size() ? values[f] : kNone;
}

bool was_computed(std::uint8_t status) {
  return status != static_cast<std::uint8_t>(Status::kNotComputed);
}

ChosenFit chosen_fit(const ResponseResult& result, const Index (&position)[2],
                     const std::vector<double>& l1_ratio) {
  ChosenFit fit;
  if (position[0] < 0 || position[1] < 0 || position[0] >= static_cast<Index>(l1_ratio.size()) ||
      position[1] >= result.n_lambdas) {
    return fit;
  }
  const auto f = static_cast<std::size_t>(position[0] * result.n_lambdas + position[1]);
  // An interrupted response has no error to choose by.
  if (!std::isfinite(at(result.cv_error, f))) return fit;
  fit.l1_ratio_position = position[0];
  fit.lambda_position = position[1];
  fit.l1_ratio = l1_ratio[static_cast<std::size_t>(position[0])];
  fit.lambda = result.lambda[f];
  fit.n_nonzero = result.n_nonzero[f];
  fit.error = result.cv_error[f];
  fit.se = at(result.cv_se, f);
  fit.train_error = at(result.cv_train_error, f);
  return fit;
}

std::vector<std::pair<Index, double>> largest(std::vector<std::pair<Index, double>> coef) {
  const std::size_t count = std::min(kTopFeatures, coef.size());
  std::partial_sort(coef.begin(), coef.begin() + static_cast<std::ptrdiff_t>(count), coef.end(),
                    [](const auto& a, const auto& b) {
                      const double size_a = std::abs(a.second);
                      const double size_b = std::abs(b.second);
                      return size_a != size_b ? size_a > size_b : a.first < b.first;
                    });
  coef.resize(count);
  return coef;
}

}  // namespace

void SummarySink::begin(const ModelHeader& header) {
  const Stopwatch watch;
  summary_.n_samples = header.n_samples;
  summary_.n_features = header.n_features;
  summary_.n_responses = header.n_responses;
  summary_.n_l1_ratios = header.n_l1_ratios;
  summary_.n_folds = header.n_folds;
  l1_ratio_ = header.l1_ratio;
  if (!predictions_path_.empty()) {
    predictions_.emplace(predictions_path_, header.n_samples, header.n_responses,
                         NpyStream::Order::kColumns);
  }
  next_.begin(header);
  write_seconds_ += watch.seconds();
}

void SummarySink::take(ResponseResult&& result) {
  const Stopwatch watch;
  note(result);
  if (predictions_) {
    append_absent_predictions(result.response);
    result.predictions.resize(static_cast<std::size_t>(summary_.n_samples), kNone);
    predictions_->append(result.predictions);
    ++n_predicted_;
    result.predictions = {};  // in a file of their own, so not in the model as well
  }
  next_.take(std::move(result));
  write_seconds_ += watch.seconds();
}

void SummarySink::note(const ResponseResult& result) {
  ++summary_.n_taken;
  summary_.n_lambdas = std::max(summary_.n_lambdas, result.n_lambdas);
  for (std::size_t f = 0; f < result.status.size(); ++f) {
    const std::uint8_t status = result.status[f];
    if (status < kStatuses) ++summary_.status_count[status];
    if (!was_computed(status)) continue;
    if (f < result.engine.size() && result.engine[f] < kEngines) {
      ++summary_.engine_count[result.engine[f]];
    }
    if (f < result.mode.size() && result.mode[f] < kModes) ++summary_.mode_count[result.mode[f]];
  }

  if (summary_.n_folds > 0) {
    ChosenSummary chosen;
    chosen.response = result.response;
    chosen.best = chosen_fit(result, result.best, l1_ratio_);
    chosen.one_se = chosen_fit(result, result.one_se, l1_ratio_);
    chosen.boundary = result.boundary;
    if (chosen.best.lambda_position >= 0 && summary_.n_taken <= kTableResponses) {
      const auto f = static_cast<std::size_t>(chosen.best.l1_ratio_position * result.n_lambdas +
                                              chosen.best.lambda_position);
      if (f < result.coef.size()) chosen.top_features = largest(result.coef[f]);
    }
    summary_.chosen.push_back(std::move(chosen));
    return;
  }

  if (summary_.n_taken > kTableResponses) return;
  for (std::size_t a = 0; a < l1_ratio_.size(); ++a) {
    PathSummary path;
    path.response = result.response;
    path.l1_ratio = l1_ratio_[a];
    for (Index l = 0; l < result.n_lambdas; ++l) {
      const auto f = a * static_cast<std::size_t>(result.n_lambdas) + static_cast<std::size_t>(l);
      if (l == 0) path.first_lambda = at(result.lambda, f);
      if (f >= result.status.size() || !was_computed(result.status[f])) continue;
      ++path.n_fits;
      path.last_lambda = result.lambda[f];
      path.n_nonzero = result.n_nonzero[f];
      path.deviance = result.deviance[f];
      if (is_good(static_cast<Status>(result.status[f]))) {
        path.worst_gap = std::max(path.worst_gap, result.gap[f]);
      }
    }
    summary_.paths.push_back(path);
  }
}

void SummarySink::append_absent_predictions(Index end) {
  const std::vector<double> absent(static_cast<std::size_t>(summary_.n_samples), kNone);
  for (; n_predicted_ < end; ++n_predicted_) predictions_->append(absent);
}

void SummarySink::finish() {
  Index counted = 0;
  for (const Index count : summary_.status_count) counted += count;
  const Index all = summary_.n_responses * summary_.n_l1_ratios * summary_.n_lambdas;
  summary_.status_count[static_cast<std::size_t>(Status::kNotComputed)] +=
      std::max<Index>(0, all - counted);
}

void SummarySink::commit_predictions() {
  if (!predictions_) return;
  const Stopwatch watch;
  append_absent_predictions(summary_.n_responses);
  predictions_->commit();
  write_seconds_ += watch.seconds();
}

}  // namespace thresher::command

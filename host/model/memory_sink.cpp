#include "model/memory_sink.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <string_view>
#include <utility>

#include "model/model_tensors.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// Calls f(whole, inner, pad) for the per-lambda arrays of the model alone.
template <class F>
void for_each_whole(Model& model, Index n_folds, F&& f) {
  ResponseResult unused;
  std::vector<Index> no_coef;
  for_each_lambda_field(
      model, unused, no_coef, n_folds,
      [&](std::string_view, auto& whole, auto&, Index inner, auto pad) { f(whole, inner, pad); });
}

}  // namespace

void MemorySink::begin(const ModelHeader& header) {
  if (begun_) {
    throw Error(Errc::kInvalidArgument, "MemorySink::begin: must be called once, got twice");
  }
  check_header(header, "MemorySink::begin");
  header_ = header;
  begun_ = true;
  model_.n_samples = header.n_samples;
  model_.n_features = header.n_features;
  model_.n_responses = header.n_responses;
  model_.n_l1_ratios = header.n_l1_ratios;
  model_.n_lambdas = 0;
  model_.l1_ratio = header.l1_ratio;
  model_.metadata = header.metadata;
  if (header.n_folds > 0) {
    model_.cv.emplace();
    model_.cv->n_folds = header.n_folds;
  }
}

// Spreads rows of the old length to the new one, from the back so that one array is enough.
void MemorySink::lengthen(Index n_lambdas) {
  const Index before = model_.n_lambdas;
  if (n_lambdas <= before) return;
  ModelShape shape;
  shape.n_samples = header_.n_samples;
  shape.n_features = header_.n_features;
  shape.n_responses = header_.n_responses;
  shape.n_l1_ratios = header_.n_l1_ratios;
  shape.n_lambdas = n_lambdas;
  shape.n_folds = header_.n_folds;
  check_sizes(shape, "MemorySink::take");
  const Index rows_all = header_.n_responses * header_.n_l1_ratios;
  const Index rows = (last_ + 1) * header_.n_l1_ratios;
  for_each_whole(model_, header_.n_folds, [&](auto& whole, Index inner, auto pad) {
    whole.reserve(size(rows_all * n_lambdas * inner) + 1);  // coef.indptr has one entry more
    whole.resize(size(rows * n_lambdas * inner), pad);
    for (Index row = rows; row-- > 0;) {
      const auto old_row = whole.begin() + row * before * inner;
      const auto new_row = whole.begin() + row * n_lambdas * inner;
      std::copy_backward(old_row, old_row + before * inner, new_row + before * inner);
      std::fill(new_row + before * inner, new_row + n_lambdas * inner, pad);
    }
  });
  model_.n_lambdas = n_lambdas;
}

// Makes every array end where `response` begins.
void MemorySink::pad_to(Index response) {
  const Index fits = response * header_.n_l1_ratios * model_.n_lambdas;
  for_each_whole(model_, header_.n_folds, [&](auto& whole, Index inner, auto pad) {
    whole.resize(size(fits * inner), pad);
  });
  if (!model_.cv) return;
  model_.cv->best.resize(size(2 * response), 0);
  model_.cv->one_se.resize(size(2 * response), 0);
  model_.cv->boundary.resize(size(response), 0);
  if (!model_.cv->predictions.empty()) {
    model_.cv->predictions.resize(size(response * header_.n_samples), kNone);
  }
}

// A doubling vector holds old and new at once when it grows, which the memory limit of a run does
// not allow for. Memory that is reserved and never written costs nothing: so the room for all
// responses is taken from the average so far and a fifth more, and growing twice is rare.
void MemorySink::grow_coef(std::size_t more) {
  const std::size_t needed = model_.coef_values.size() + more;
  const double per_response = static_cast<double>(needed) / static_cast<double>(n_taken_);
  const double guess = 1.2 * per_response * static_cast<double>(header_.n_responses);
  const double most = static_cast<double>(model_.coef_values.max_size()) / 2;
  try {
    const auto room = static_cast<std::size_t>(std::min(guess, most));
    model_.coef_values.reserve(std::max(room, needed));
    model_.coef_indices.reserve(model_.coef_values.capacity());
  } catch (const std::bad_alloc&) {
    // A system that does not give memory it may not need: take little more than is needed now.
    model_.coef_values.reserve(needed + needed / 8);
    model_.coef_indices.reserve(needed + needed / 8);
  }
}

void MemorySink::take(ResponseResult&& result) {
  if (!begun_) {
    throw Error(Errc::kInvalidArgument, "MemorySink::take: begin must come first, got no begin");
  }
  ResponseResult part = std::move(result);
  std::vector<Index> n_coef = check_result(header_, last_, part, "MemorySink::take");
  lengthen(part.n_lambdas);
  pad_to(part.response);

  const Index n_a = header_.n_l1_ratios;
  for_each_lambda_field(
      model_, part, n_coef, header_.n_folds,
      [&](std::string_view, auto& whole, auto& values, Index inner, auto pad) {
        for (Index a = 0; a < n_a; ++a) {
          const auto row = values.begin() + a * part.n_lambdas * inner;
          whole.insert(whole.end(), row, row + part.n_lambdas * inner);
          whole.resize(whole.size() + size((model_.n_lambdas - part.n_lambdas) * inner), pad);
        }
      });
  ++n_taken_;
  std::size_t n_new = 0;
  for (const Index count : n_coef) n_new += size(count);
  if (model_.coef_values.size() + n_new > model_.coef_values.capacity()) grow_coef(n_new);
  for (const auto& coef : part.coef) {
    for (const auto& [j, value] : coef) {
      model_.coef_indices.push_back(j);
      model_.coef_values.push_back(value);
    }
  }
  if (model_.cv) {
    CvTable& cv = *model_.cv;
    cv.best.insert(cv.best.end(), part.best, part.best + 2);
    cv.one_se.insert(cv.one_se.end(), part.one_se, part.one_se + 2);
    cv.boundary.push_back(part.boundary ? 1 : 0);
    if (!part.predictions.empty() && cv.predictions.empty()) {
      cv.predictions.reserve(size(header_.n_responses * header_.n_samples));
      cv.predictions.resize(size(part.response * header_.n_samples), kNone);
    }
    cv.predictions.insert(cv.predictions.end(), part.predictions.begin(), part.predictions.end());
  }
  last_ = part.response;
}

Model MemorySink::finish() {
  if (!begun_) {
    throw Error(Errc::kInvalidArgument, "MemorySink::finish: begin must come first, got no begin");
  }
  lengthen(1);
  pad_to(header_.n_responses);
  model_.coef_indptr.push_back(0);
  Index end = 0;
  for (Index& entry : model_.coef_indptr) {
    const Index count = entry;
    entry = end;
    end += count;
  }
  Model finished = std::move(model_);
  *this = MemorySink();
  return finished;
}

}  // namespace thresher

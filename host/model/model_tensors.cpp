#include "model/model_tensors.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "thresher/error.hpp"

namespace thresher {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(Errc::kInvalidArgument, where + ": " + what);
}

std::string at(std::size_t i) { return " at entry " + std::to_string(i); }

void check_length(const std::string& where, std::string_view name, std::size_t got, Index want) {
  if (got != static_cast<std::size_t>(want)) {
    refuse(where, std::string(name) + " must have " + std::to_string(want) + " entries, got " +
                      std::to_string(got));
  }
}

template <class T>
void check_range(const std::string& where, std::string_view name, std::span<const T> values,
                 T most) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] > most) {
      refuse(where, std::string(name) + " must be in 0 .. " + std::to_string(most) + ", got " +
                        std::to_string(values[i]) + at(i));
    }
  }
}

// The per-fit values that a model and a single response have in common.
template <class Fits>
void check_fits(const std::string& where, const Fits& fits, Index n_features) {
  const auto bytes = [](const std::vector<std::uint8_t>& v) { return std::span(v); };
  constexpr Index kMost = std::numeric_limits<Index>::max();
  check_range<std::uint8_t>(where, "status", bytes(fits.status),
                            static_cast<std::uint8_t>(Status::kNotComputed));
  check_range<std::uint8_t>(where, "engine", bytes(fits.engine),
                            static_cast<std::uint8_t>(Engine::kReference));
  check_range<std::uint8_t>(where, "mode", bytes(fits.mode),
                            static_cast<std::uint8_t>(Mode::kResidual));
  check_range<std::uint8_t>(where, "rank_deficient", bytes(fits.rank_deficient), 1);
  check_range<std::uint8_t>(where, "coef.kept", bytes(fits.coef_kept), 1);
  check_range<Index>(where, "n_nonzero", fits.n_nonzero, n_features);
  check_range<Index>(where, "iterations", fits.iterations, kMost);
  for (std::size_t i = 0; i < fits.lambda.size(); ++i) {
    if (fits.lambda[i] < 0 || std::isinf(fits.lambda[i])) {
      refuse(where, "lambda must be finite and >= 0, or NaN where not computed, got " +
                        std::to_string(fits.lambda[i]) + at(i));
    }
    if (fits.coef_kept[i] && !std::isfinite(fits.intercept[i])) {
      refuse(where, "intercept must be finite where coefficients are kept, got " +
                        std::to_string(fits.intercept[i]) + at(i));
    }
  }
}

void check_choice(const std::string& where, std::string_view name, const Index* choice, Index n_a,
                  Index n_l) {
  if (choice[0] < 0 || choice[0] >= n_a || choice[1] < 0 || choice[1] >= n_l) {
    refuse(where, std::string(name) + " must be in [0, " + std::to_string(n_a) + ") x [0, " +
                      std::to_string(n_l) + "), got (" + std::to_string(choice[0]) + ", " +
                      std::to_string(choice[1]) + ")");
  }
}

void check_l1_ratio(const std::string& where, const std::vector<double>& l1_ratio) {
  for (std::size_t a = 0; a < l1_ratio.size(); ++a) {
    if (!(l1_ratio[a] >= 0.0 && l1_ratio[a] <= 1.0)) {
      refuse(where, "l1_ratio must be in [0, 1], got " + std::to_string(l1_ratio[a]) + at(a));
    }
  }
}

void check_names(const std::string& where, std::string_view name, std::size_t got, Index want) {
  if (got != 0) check_length(where, name, got, want);
}

}  // namespace

Index checked_product(Index a, Index b, const std::string& what) {
  Index product = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product)) {
    refuse(what, "sizes must be >= 0 with a product below 2^63, got " + std::to_string(a) + " * " +
                     std::to_string(b));
  }
  return product;
}

void check_sizes(const ModelShape& s, const std::string& where) {
  const auto at_least = [&](const char* name, Index got, Index least) {
    if (got < least) {
      refuse(where, std::string(name) + " must be at least " + std::to_string(least) + ", got " +
                        std::to_string(got));
    }
  };
  at_least("n_samples", s.n_samples, 1);
  at_least("n_features", s.n_features, 1);
  at_least("n_responses", s.n_responses, 1);
  at_least("n_l1_ratios", s.n_l1_ratios, 1);
  at_least("n_lambdas", s.n_lambdas, 1);
  at_least("n_folds", s.n_folds, 0);
  at_least("number of coefficients", s.n_values, 0);
  // One more fit for the end of coef.indptr.
  const Index fits =
      checked_product(checked_product(s.n_responses, s.n_l1_ratios, where), s.n_lambdas, where);
  constexpr Index kBytes = sizeof(double);
  checked_product(checked_product(fits, std::max<Index>(s.n_folds, 2), where), kBytes, where);
  checked_product(checked_product(s.n_responses, s.n_samples, where), kBytes, where);
  checked_product(s.n_values, kBytes, where);
}

ModelShape check_model(const Model& model, const std::string& where) {
  ModelShape s;
  s.n_samples = model.n_samples;
  s.n_features = model.n_features;
  s.n_responses = model.n_responses;
  s.n_l1_ratios = model.n_l1_ratios;
  s.n_lambdas = model.n_lambdas;
  s.n_values = static_cast<Index>(model.coef_values.size());
  s.has_cv = model.cv.has_value();
  s.n_folds = s.has_cv ? model.cv->n_folds : 0;
  s.has_predictions = s.has_cv && !model.cv->predictions.empty();
  check_sizes(s, where);
  for_each_tensor(model, s, [&](const char* name, const TensorShape& shape, const auto& values) {
    Index count = 1;
    for (const Index size : shape) count *= size;  // check_sizes has bounded it
    check_length(where, name, values.size(), count);
  });

  check_l1_ratio(where, model.l1_ratio);
  check_fits(where, model, s.n_features);
  if (model.coef_indptr[0] != 0) {
    refuse(where, "coef.indptr must start with 0, got " + std::to_string(model.coef_indptr[0]));
  }
  for (std::size_t f = 0; f + 1 < model.coef_indptr.size(); ++f) {
    const Index begin = model.coef_indptr[f];
    const Index end = model.coef_indptr[f + 1];
    if (end < begin || end > s.n_values) {
      refuse(where, "coef.indptr must rise and end at " + std::to_string(s.n_values) + ", got " +
                        std::to_string(begin) + " then " + std::to_string(end) + at(f));
    }
    if (!model.coef_kept[f] && end != begin) {
      refuse(where, "coef.indptr must give no coefficients to a fit that kept none, got " +
                        std::to_string(end - begin) + at(f));
    }
    Index before = -1;
    for (Index k = begin; k < end; ++k) {
      const Index j = model.coef_indices[static_cast<std::size_t>(k)];
      if (j <= before || j >= s.n_features) {
        refuse(where, "coef.indices must rise within a fit and be below " +
                          std::to_string(s.n_features) + ", got " + std::to_string(j) + " after " +
                          std::to_string(before) + at(static_cast<std::size_t>(k)));
      }
      before = j;
    }
  }
  if (model.coef_indptr.back() != s.n_values) {
    refuse(where, "coef.indptr must end at the number of coefficients " +
                      std::to_string(s.n_values) + ", got " +
                      std::to_string(model.coef_indptr.back()));
  }
  for (std::size_t k = 0; k < model.coef_values.size(); ++k) {
    if (!std::isfinite(model.coef_values[k])) {
      refuse(where,
             "coef.values must be finite, got " + std::to_string(model.coef_values[k]) + at(k));
    }
  }
  if (s.has_cv) {
    for (std::size_t r = 0; r < static_cast<std::size_t>(s.n_responses); ++r) {
      check_choice(where, "cv.best", &model.cv->best[2 * r], s.n_l1_ratios, s.n_lambdas);
      check_choice(where, "cv.one_se", &model.cv->one_se[2 * r], s.n_l1_ratios, s.n_lambdas);
    }
    check_range<std::uint8_t>(where, "cv.boundary", model.cv->boundary, 1);
  }
  check_names(where, "feature_names", model.feature_names.size(), s.n_features);
  check_names(where, "response_names", model.response_names.size(), s.n_responses);
  return s;
}

void check_header(const ModelHeader& header, const std::string& where) {
  ModelShape s;
  s.n_samples = header.n_samples;
  s.n_features = header.n_features;
  s.n_responses = header.n_responses;
  s.n_l1_ratios = header.n_l1_ratios;
  s.n_lambdas = 1;
  s.n_folds = header.n_folds;
  check_sizes(s, where);
  check_length(where, "l1_ratio", header.l1_ratio.size(), header.n_l1_ratios);
  check_l1_ratio(where, header.l1_ratio);
}

std::vector<Index> check_result(const ModelHeader& header, Index last, ResponseResult& result,
                                const std::string& where) {
  if (result.response <= last || result.response >= header.n_responses) {
    refuse(where, "response must come after " + std::to_string(last) + " and be below " +
                      std::to_string(header.n_responses) + ", got " +
                      std::to_string(result.response));
  }
  const Index fits = checked_product(header.n_l1_ratios, result.n_lambdas, where);
  const auto n_fits = static_cast<std::size_t>(fits);
  checked_product(fits, std::max<Index>(header.n_folds, 1), where);

  check_length(where, "coef", result.coef.size(), fits);
  std::vector<Index> n_coef(n_fits, 0);
  Model unused;
  unused.cv.emplace();
  for_each_lambda_field(unused, result, n_coef, header.n_folds,
                        [&](std::string_view name, auto&, auto& values, Index inner, auto pad) {
                          const bool optional = name.starts_with("cv.");
                          if (optional && values.empty())
                            values.assign(n_fits * static_cast<std::size_t>(inner), pad);
                          check_length(where, name, values.size(), fits * inner);
                        });

  for (std::size_t f = 0; f < n_fits; ++f) {
    auto& coef = result.coef[f];
    bool finite = std::isfinite(result.intercept[f]);
    Index before = -1;
    for (const auto& [j, value] : coef) {
      if (j <= before || j >= header.n_features) {
        refuse(where, "coefficient indices must rise within a fit and be below " +
                          std::to_string(header.n_features) + ", got " + std::to_string(j) +
                          " after " + std::to_string(before));
      }
      before = j;
      finite = finite && std::isfinite(value);
    }
    if (result.coef_kept[f] && !finite) {
      result.coef_kept[f] = 0;
      if (is_good(static_cast<Status>(result.status[f]))) {
        result.status[f] = static_cast<std::uint8_t>(Status::kNumericalBreakdown);
      }
    }
    if (!result.coef_kept[f]) coef.clear();
    n_coef[f] = static_cast<Index>(coef.size());
  }
  check_fits(where, result, header.n_features);

  if (header.n_folds > 0) {
    // A response whose folds were never finished has no choice to report.
    const bool chosen = std::any_of(result.cv_error.begin(), result.cv_error.end(),
                                    [](double e) { return !std::isnan(e); });
    if (chosen) {
      check_choice(where, "best", result.best, header.n_l1_ratios, result.n_lambdas);
      check_choice(where, "one_se", result.one_se, header.n_l1_ratios, result.n_lambdas);
    } else {
      for (Index* choice : {result.best, result.one_se}) choice[0] = choice[1] = 0;
    }
    if (!result.predictions.empty()) {
      check_length(where, "predictions", result.predictions.size(), header.n_samples);
    }
  } else if (!result.predictions.empty()) {
    refuse(where, "predictions must be empty without cross-validation, got " +
                      std::to_string(result.predictions.size()) + " entries");
  }
  return n_coef;
}

}  // namespace thresher

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>

#include "engines/ridge_leave_out.hpp"
#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/row_weighting.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/fit.hpp"

namespace thresher {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// The weights of one response on all data: user's weights, 0 where the response is missing.
std::vector<double> base_weight(const Data& data, Index response) {
  std::vector<double> w(at(rows(data.X)), 1.0);
  for (Index i = 0; i < rows(data.X); ++i) {
    if (!data.sample_weight.empty()) w[at(i)] = data.sample_weight[at(i)];
    if (!data.response_weight.empty()) w[at(i)] *= data.response_weight(i, response);
    if (data.missing_responses && std::isnan(element(data.Y, i, response))) w[at(i)] = 0.0;
  }
  return w;
}

/// One problem per response on the lambdas of `model`, as fit_path set them up.
std::vector<Problem> make_problems(const Data& data, const Options& options, const Model& model,
                                   const ThreadPool& pool, std::unique_ptr<Columns>& columns) {
  const Index n = rows(data.X);
  std::vector<std::vector<double>> distinct;
  std::map<std::vector<double>, std::size_t> number;
  std::vector<std::size_t> which(at(model.n_responses));
  std::vector<std::uint8_t> counts(at(n), 0);
  for (Index r = 0; r < model.n_responses; ++r) {
    std::vector<double> w = base_weight(data, r);
    for (Index i = 0; i < n; ++i) counts[at(i)] = counts[at(i)] != 0 || w[at(i)] > 0.0 ? 1 : 0;
    const auto [found, fresh] = number.try_emplace(w, distinct.size());
    which[at(r)] = found->second;
    if (fresh) distinct.push_back(std::move(w));
  }
  if (std::all_of(counts.begin(), counts.end(), [](std::uint8_t c) { return c != 0; })) {
    counts.clear();
  }
  columns = std::make_unique<Columns>(data.X, options.intercept, counts, pool);
  const auto weightings = make_row_weightings(*columns, distinct, pool);
  std::vector<std::shared_ptr<const Penalties>> penalties;
  for (const auto& rows : weightings) {
    penalties.push_back(make_penalties(data, options, *columns, *rows));
  }

  std::vector<Problem> out;
  for (Index r = 0; r < model.n_responses; ++r) {
    const std::vector<double>& w = distinct[which[at(r)]];
    std::vector<double> y(at(n), 0.0);
    for (Index i = 0; i < n; ++i) {
      if (w[at(i)] > 0.0) y[at(i)] = element(data.Y, i, r);
    }
    Problem one;
    one.response = r;
    one.l1_ratio = 0.0;
    one.intercept = options.intercept;
    one.rows = weightings[which[at(r)]];
    one.penalties = penalties[which[at(r)]];
    one.y = std::make_shared<Response>(make_response(y, w, options.intercept));
    for (Index l = 0; l < model.n_lambdas; ++l) {
      const double lambda = model.lambda[at(model.fit(r, 0, l))];
      if (std::isnan(lambda)) break;  // the run was interrupted
      one.lambda.push_back(lambda);
    }
    finish_problem(*columns, one);
    out.push_back(std::move(one));
  }
  return out;
}

/// Keeps the coefficients of the fits in `keep` alone.
void drop_coefficients(Model& model, const std::vector<std::uint8_t>& keep) {
  std::vector<Index> indptr(model.coef_indptr.size(), 0), indices;
  std::vector<double> values;
  for (std::size_t f = 0; f + 1 < model.coef_indptr.size(); ++f) {
    model.coef_kept[f] = model.coef_kept[f] != 0 && keep[f] != 0 ? 1 : 0;
    if (model.coef_kept[f] != 0) {
      const auto first = model.coef_indptr[f], last = model.coef_indptr[f + 1];
      indices.insert(indices.end(), model.coef_indices.begin() + first,
                     model.coef_indices.begin() + last);
      values.insert(values.end(), model.coef_values.begin() + first,
                    model.coef_values.begin() + last);
    }
    indptr[f + 1] = static_cast<Index>(indices.size());
  }
  model.coef_indptr = std::move(indptr);
  model.coef_indices = std::move(indices);
  model.coef_values = std::move(values);
}

}  // namespace

Model ridge_closed_form(const Data& data, const Options& options, ClosedForm form,
                        Observer* observer) {
  Options path = options;
  path.l1_ratio = {0.0};
  path.engine = Engine::kRidge;
  path.early_stop.reset();
  path.keep_chosen = false;
  Model model = fit_path(data, path, observer);  // checks everything

  const ThreadPool pool(options.threads);
  std::unique_ptr<Columns> columns;
  const std::vector<Problem> problems = make_problems(data, path, model, pool, columns);
  const std::vector<ClosedFormErrors> errors = closed_form_errors(*columns, problems, form, pool);

  const std::size_t fits = at(model.n_responses * model.n_lambdas);
  CvTable cv;
  cv.n_folds = 0;
  cv.error.assign(fits, kNaN);
  cv.se.assign(fits, kNaN);
  cv.train_error.assign(fits, kNaN);
  std::vector<std::uint8_t> keep(fits, 0);
  for (Index r = 0; r < model.n_responses; ++r) {
    const ClosedFormErrors& found = errors[at(r)];
    const Index length = static_cast<Index>(found.error.size());
    Index best = -1;
    for (Index l = 0; l < length; ++l) {  // descending lambda: a tie keeps the larger one
      const std::size_t f = at(model.fit(r, 0, l));
      cv.error[f] = found.error[at(l)];
      cv.se[f] = found.se[at(l)];
      cv.train_error[f] = found.train[at(l)];
      if (std::isfinite(cv.error[f]) && (best < 0 || cv.error[f] < found.error[at(best)])) best = l;
    }
    best = std::max<Index>(best, 0);
    Index one_se = best;
    if (form == ClosedForm::kLeaveOneOut && length > 0) {
      const double ceiling = found.error[at(best)] + found.se[at(best)];
      for (Index l = 0; l < best; ++l) {
        if (found.error[at(l)] <= ceiling) {
          one_se = l;
          break;
        }
      }
    }
    cv.best.insert(cv.best.end(), {0, best});
    cv.one_se.insert(cv.one_se.end(), {0, one_se});
    cv.boundary.push_back(best + 1 == length ? 1 : 0);
    keep[at(model.fit(r, 0, best))] = 1;
    keep[at(model.fit(r, 0, one_se))] = 1;
  }
  model.cv = std::move(cv);
  if (options.keep_chosen) drop_coefficients(model, keep);
  return model;
}

}  // namespace thresher

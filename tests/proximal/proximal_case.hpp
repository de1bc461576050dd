#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "engines/engine.hpp"
#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/run_control.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/options.hpp"

namespace thresher::testing_proximal {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Column-major numbers that own their memory.
template <class T>
struct Table {
  Index rows = 0, cols = 0;
  std::vector<T> values;

  Table(Index n_rows, Index n_cols) : rows(n_rows), cols(n_cols), values(at(n_rows * n_cols)) {}
  T& operator()(Index i, Index j) { return values[at(j * rows + i)]; }
  T operator()(Index i, Index j) const { return values[at(j * rows + i)]; }
  MatrixView<const T> view() const {
    return MatrixView<const T>::column_major(values.data(), rows, cols);
  }
};

/// Independent normal columns, neighbours mixed by `corr`, plus `offset`.
inline Table<double> random_table(Index n, Index p, double corr, double offset, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Table<double> X(n, p);
  for (Index i = 0; i < n; ++i) {
    double last = 0.0;
    for (Index j = 0; j < p; ++j) {
      const double own = normal(engine);
      last = j == 0 ? own : corr * last + std::sqrt(1.0 - corr * corr) * own;
      X(i, j) = last + offset;
    }
  }
  return X;
}

/// y = X b + noise with `support` coefficients of alternating sign.
inline std::vector<double> random_response(const Table<double>& X, Index support, double noise,
                                           unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> y(at(X.rows));
  for (Index i = 0; i < X.rows; ++i) {
    y[at(i)] = noise * normal(engine) + 2.0;
    for (Index k = 0; k < support; ++k) {
      const Index j = (k * 7) % X.cols;
      y[at(i)] += (k % 2 == 0 ? 1.0 : -1.5) * X(i, j);
    }
  }
  return y;
}

/// One response to be fitted under some row weights.
struct Wish {
  std::vector<double> y;
  std::vector<double> weight;  // empty: all 1
  double l1_ratio = 1.0;
  std::vector<double> lambda;                         // in the user's units
  std::vector<double> lambda_share;                   // of lambda_max, if `lambda` is empty
  std::vector<std::pair<Index, double>> start_hat{};  // where to start, hat units
};

/// Fits by problem and lambda.
class CollectingSink : public FitSink {
 public:
  bool take(Index problem, Index lambda_index, Fit&& fit) override {
    const std::lock_guard lock(mutex_);
    std::vector<Fit>& path = fits_[problem];
    if (static_cast<Index>(path.size()) != lambda_index) out_of_order_ = true;
    path.push_back(std::move(fit));
    return static_cast<Index>(path.size()) < stop_after;
  }
  const std::vector<Fit>& path(Index problem) const { return fits_.at(problem); }
  std::size_t n_paths() const { return fits_.size(); }
  bool out_of_order() const { return out_of_order_; }

  Index stop_after = std::numeric_limits<Index>::max();

 private:
  std::mutex mutex_;
  std::map<Index, std::vector<Fit>> fits_;
  bool out_of_order_ = false;
};

/// Sets a batch up as the library does and runs the engine on it.
struct EngineRun {
  static inline Accelerator* accelerator = nullptr;  ///< of all runs; null: the CPU

  EngineRun(const AnyMatrix& X, const std::vector<Wish>& wishes, const Options& options = {},
            const Data& factors = {}, Observer* observer = nullptr, Index stop_after = -1)
      : pool(options.threads),
        columns(X, options.intercept, {}, pool),
        control(options, options.tol.value_or(1e-10), observer) {
    if (stop_after > 0) sink.stop_after = stop_after;
    Data data = factors;
    data.X = X;
    std::vector<std::vector<double>> weights;
    for (const Wish& wish : wishes) {
      weights.push_back(wish.weight.empty() ? std::vector<double>(at(rows(X)), 1.0) : wish.weight);
    }
    const auto weightings = make_row_weightings(columns, weights, pool);
    for (std::size_t k = 0; k < wishes.size(); ++k) {
      const Wish& wish = wishes[k];
      Problem problem;
      problem.response = static_cast<Index>(k);
      problem.l1_ratio = wish.l1_ratio;
      problem.intercept = options.intercept;
      problem.rows = weightings[k];
      problem.penalties = make_penalties(data, options, columns, *weightings[k]);
      problem.y = std::make_shared<Response>(make_response(wish.y, weights[k], options.intercept));
      problem.start = wish.start_hat;
      finish_problem(columns, problem);
      problem.lambda = wish.lambda;
      if (wish.lambda.empty()) {
        lambda_max_.push_back(lambda_max(columns, problem));
        for (const double share : wish.lambda_share) {
          problem.lambda.push_back(share * lambda_max_.back());
        }
      }
      problems.push_back(std::move(problem));
    }
    const Batch batch{columns, problems, options, false, nullptr, accelerator};
    solve_proximal_gradient(batch, pool, control, sink);
  }

  const Fit& fit(Index problem, Index l) const { return sink.path(problem)[at(l)]; }
  double lambda(Index problem, Index l) const { return problems[at(problem)].lambda[at(l)]; }

  ThreadPool pool;
  Columns columns;
  std::vector<Problem> problems;
  RunControl control;
  CollectingSink sink;
  std::vector<double> lambda_max_;
};

/// The coefficient of feature j, 0 if absent.
inline double coef(const Fit& fit, Index j) {
  for (const auto& [feature, value] : fit.coef) {
    if (feature == j) return value;
  }
  return 0.0;
}

}  // namespace thresher::testing_proximal

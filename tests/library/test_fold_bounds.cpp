#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "backend/cpu_working_set_backend.hpp"
#include "library_case.hpp"

namespace thresher {
namespace {

using testing_library::at;

/// What a fold needs, at the seam of the working-set engine.
struct Fold {
  static constexpr Index kRows = 1300;  // several chunks of rows
  static constexpr Index kFeatures = 24;
  static constexpr Index kLambdas = 16;

  /// Pairs of columns that differ by `apart`, under row weights; y = X b + noise.
  Fold(double apart, double noise, double l1_ratio, bool intercept)
      : X(at(kRows * kFeatures)), pool(1) {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    std::vector<double> y(at(kRows)), weight(at(kRows));
    for (Index j = 0; j < kFeatures; ++j) {
      for (Index i = 0; i < kRows; ++i) {
        X[at(j * kRows + i)] =
            j % 2 == 0 ? normal(random) + 0.3 : X[at((j - 1) * kRows + i)] + apart * normal(random);
      }
    }
    for (Index i = 0; i < kRows; ++i) {
      y[at(i)] = noise * normal(random) + 2.0;
      for (Index j = 0; j < 8; ++j) {
        y[at(i)] += (j % 3 == 0 ? 1.0 : -0.6) * X[at(j * kRows + i)];
      }
      weight[at(i)] = i % 10 == 3 ? 0.0 : 1.0 + 0.5 * std::sin(static_cast<double>(i));
    }
    Data data;
    data.X = MatrixView<const double>::column_major(X.data(), kRows, kFeatures);
    Options options;
    options.intercept = intercept;
    columns = std::make_unique<Columns>(data.X, intercept, std::vector<std::uint8_t>{}, pool, true);
    problem.fold = 0;
    problem.l1_ratio = l1_ratio;
    problem.intercept = intercept;
    problem.rows = make_row_weightings(*columns, {weight}, pool).front();
    problem.penalties = make_penalties(data, options, *columns, *problem.rows);
    problem.y = std::make_shared<Response>(
        make_response(y, std::vector<double>(at(kRows), 1.0), intercept));
    for (Index i = 3; i < kRows; i += 10) {
      problem.held_out.push_back(i);
      problem.held_out_weight.push_back(1.0 + static_cast<double>(i % 3));
    }
    finish_problem(*columns, problem);
    problem.lambda = log_grid(0.9 * lambda_max(*columns, problem), 1e-4, kLambdas);
    problem.keep_last_coef = false;
  }

  struct Solved {
    std::vector<CandidateReport> reports;
    std::vector<Harvest> fits;
  };

  Solved solve(bool keep_coef, double tol) {
    problem.keep_coef = keep_coef;
    std::vector<GramMatrix> grams = make_gram_matrices(*columns, {problem.rows}, pool);
    copy_held_out(*columns, {&problem, 1}, grams, pool);
    GramBackend backend(*columns, grams, pool, kLambdas, tol);
    const Index slot = 0;
    const Problem* loaded = &problem;
    backend.load({&slot, 1}, {&loaded, 1});
    const PathBlock block{0, 0, kLambdas};
    backend.solve_working_sets({&block, 1}, 10'000);
    backend.correlate({&block, 1});
    Solved out;
    out.reports.resize(at(kLambdas));
    backend.certify({&block, 1}, out.reports);
    for (Index k = 0; k < kLambdas; ++k) out.fits.push_back(backend.harvest(0, k, true));
    return out;
  }

  struct Exact {
    long double gap, loss, held_out;
  };

  /// From the columns in long double, means by weights that need not sum to 1.
  Exact exact(const SparseCoef& coef, double lambda) const {
    const auto n = at(kRows);
    const std::vector<double>& w = problem.rows->weight;
    const auto centred = [&](const double* values) {
      std::vector<long double> out(values, values + n);
      if (!problem.intercept) return out;
      long double sum = 0, total = 0;
      for (std::size_t i = 0; i < n; ++i) {
        sum += static_cast<long double>(w[i]) * out[i];
        total += w[i];
      }
      for (long double& value : out) value -= sum / total;
      return out;
    };
    std::vector<long double> r = centred(problem.y->value.data());
    for (const auto& [j, b] : coef) {
      const std::vector<long double> x = centred(columns->column(j));
      for (std::size_t i = 0; i < n; ++i) r[i] -= x[i] * b;
    }
    Exact out{0, 0, 0};
    for (std::size_t i = 0; i < n; ++i) out.loss += w[i] * r[i] * r[i];
    long double total = 0;
    for (std::size_t k = 0; k < problem.held_out.size(); ++k) {
      const long double error = r[at(problem.held_out[k])];
      out.held_out += problem.held_out_weight[k] * error * error;
      total += problem.held_out_weight[k];
    }
    out.held_out /= total;

    std::vector<long double> g(at(kFeatures)), b(at(kFeatures));
    for (const auto& [j, value] : coef) b[at(j)] = value;
    long double s = 1;
    for (Index j = 0; j < kFeatures; ++j) {
      const std::vector<long double> x = centred(columns->column(j));
      for (std::size_t i = 0; i < n; ++i) g[at(j)] += w[i] * x[i] * r[i];
      const long double a = problem.a(j, lambda);
      const long double size = std::fabs(g[at(j)]);
      if (problem.e(j, lambda) == 0.0 && size > a) s = std::min(s, a / size);
    }
    out.gap = (1 - s) * (1 - s) * out.loss / 2;
    for (Index j = 0; j < kFeatures; ++j) {
      const long double a = problem.a(j, lambda), e = problem.e(j, lambda);
      // a|b| + e b^2/2 - s b g + (|s g| - a)_+^2 / (2e), free of cancellation.
      const long double held = std::clamp(s * g[at(j)], -a, a);
      const long double missing = s * g[at(j)] - held - e * b[at(j)];
      out.gap += a * std::fabs(b[at(j)]) - b[at(j)] * held;
      if (e > 0) out.gap += missing * missing / (2 * e);
    }
    out.gap /= problem.null_loss;
    return out;
  }

  std::vector<double> X;
  ThreadPool pool;
  std::unique_ptr<Columns> columns;
  Problem problem;
};

/// Compares all fits with the exact numbers; returns how many were proven without X.
Index check(Fold& fold, double tol) {
  // The same solve, but all coefficients are handed out and all numbers come from X.
  const Fold::Solved measured = fold.solve(true, tol);
  const Fold::Solved found = fold.solve(false, tol);
  Index n_proven = 0;
  for (std::size_t k = 0; k < found.fits.size(); ++k) {
    SCOPED_TRACE(k);
    const SparseCoef& coef = measured.fits[k].coef;
    const Fold::Exact exact = fold.exact(coef, fold.problem.lambda[k]);
    const auto gap = static_cast<double>(exact.gap);
    const auto loss = static_cast<double>(exact.loss);
    const auto held_out = static_cast<double>(exact.held_out);
    const Harvest& fit = found.fits[k];
    EXPECT_EQ(fit.iterations, measured.fits[k].iterations);
    EXPECT_NEAR(fit.sums.held_out, held_out, 1e-12 * held_out);
    for (const Index i : fold.problem.held_out) {
      EXPECT_NEAR(fit.residual[at(i)], measured.fits[k].residual[at(i)], 1e-12);
    }
    if (fit.coef.empty() && !coef.empty()) {
      ++n_proven;
      EXPECT_GE(found.reports[k].gap, gap);
      EXPECT_LE(found.reports[k].gap, tol);
      EXPECT_NEAR(fit.sums.loss, loss, 1e-10 * loss);
    } else {
      EXPECT_NEAR(found.reports[k].gap, gap, 1e-14);
      EXPECT_NEAR(fit.sums.loss, loss, 1e-12 * loss);
    }
  }
  return n_proven;
}

TEST(FoldBounds, ProvenGapsAreNoSmallerThanExactOnes) {
  for (const double apart : {1.0, 1e-3, 1e-6}) {
    for (const double l1_ratio : {1.0, 0.5}) {
      for (const bool intercept : {true, false}) {
        SCOPED_TRACE(testing::Message() << apart << " " << l1_ratio << " " << intercept);
        Fold fold(apart, 0.5, l1_ratio, intercept);
        EXPECT_GE(check(fold, 1e-9), Fold::kLambdas / 2);
      }
    }
  }
}

TEST(FoldBounds, FitsThatCannotBeProvenAreMeasured) {
  // A tolerance no bound of this kind reaches, and residuals lost to cancellation in |y|^2 - ...
  Fold noisy(1e-3, 0.5, 1.0, true);
  EXPECT_EQ(check(noisy, 1e-15), 0);
  Fold exact(1e-3, 1e-7, 1.0, true);
  const Index n_proven = check(exact, 1e-9);
  EXPECT_GT(n_proven, 0);
  EXPECT_LT(n_proven, Fold::kLambdas - 4);
}

}  // namespace
}  // namespace thresher

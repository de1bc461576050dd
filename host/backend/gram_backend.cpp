#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/blas.hpp"
#include "backend/cpu_working_set_backend.hpp"
#include "backend/simd.hpp"
#include "gap_term.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// A task computes one block of X'WX from as many rows at a time. Both are fixed: they decide the
// order of sums. 4 MB of rows and 2 MB of sums stay in the cache.
constexpr Index kGramBlock = 512;
constexpr Index kGramRows = 1024;
constexpr Index kRowsAtOnce = 256;

/// Rows of sqrt(w_i) (xhat_ij - mean_j), column-major, as they are multiplied into a Gram matrix.
/// With equal weights on all rows that is xhat itself, and w comes in as a scale.
class GramRows {
 public:
  struct Block {
    const double* values;
    Index stride;  ///< from one feature to the next
  };

  GramRows(const Columns& columns, const RowWeighting& weights)
      : columns_(columns),
        weights_(weights),
        plain_(weights.uniform && weights.direct.empty()),
        n_rows_(static_cast<Index>(weights.rows.size())) {}

  Index n_rows() const { return n_rows_; }
  double scale() const { return plain_ ? weights_.weight.front() : 1.0; }

  /// Rows first .. first + m - 1 of those with weight, of `count` features from `feature` on;
  /// written to `buffer` (m, count) unless they are kept.
  Block read(Index first, Index m, Index feature, Index count, double* buffer) {
    if (plain_ && columns_.all_built()) {
      const Index n = columns_.n_samples();
      return {columns_.matrix() + feature * n + first, n};
    }
    double* out = buffer;
    for (Index j = feature; j < feature + count; ++j, out += m) {
      if (plain_) {
        columns_.compute_rows(j, first, m, out);
      } else {
        weigh(first, m, j, out);
      }
    }
    return {buffer, m};
  }

 private:
  void weigh(Index first, Index m, Index j, double* out) {
    const Index begin = weights_.rows[at(first)];
    const Index end = weights_.rows[at(first + m - 1)] + 1;
    const Index direct = weights_.direct_index(j);
    const double* x = nullptr;
    if (direct < 0) {
      whole_.resize(at(end - begin));
      x = columns_.read_rows(j, begin, end - begin, whole_.data());
    } else {
      x = weights_.direct_values.data() + direct * columns_.n_samples() + begin;
    }
    const double mean = weights_.column_mean(j);
    for (Index t = 0; t < m; ++t) {
      const Index i = weights_.rows[at(first + t)];
      out[t] = std::sqrt(weights_.weight[at(i)]) * (x[i - begin] - mean);
    }
  }

  const Columns& columns_;
  const RowWeighting& weights_;
  bool plain_;
  Index n_rows_;
  std::vector<double> whole_;
};

}  // namespace

std::vector<GramMatrix> make_gram_matrices(
    const Columns& columns, const std::vector<std::shared_ptr<const RowWeighting>>& rows,
    const ThreadPool& pool) {
  const Index p = columns.n_features();
  const Index n_blocks = (p + kGramBlock - 1) / kGramBlock;
  struct Task {
    std::size_t matrix;
    Index across, down;  // first feature of each block
  };
  std::vector<Task> tasks;
  std::vector<GramMatrix> out(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    out[k].rows = rows[k];
    out[k].values.resize(at(p * p));
    for (Index across = 0; across < n_blocks; ++across) {
      for (Index down = across; down < n_blocks; ++down) {
        tasks.push_back({k, across * kGramBlock, down * kGramBlock});
      }
    }
  }
  pool.run(static_cast<Index>(tasks.size()), [&](Index t, int) {
    const auto& [k, across, down] = tasks[at(t)];
    GramRows source(columns, *rows[k]);
    const Index width = std::min(kGramBlock, p - across);
    const Index height = std::min(kGramBlock, p - down);
    double* sums = out[k].values.data() + across * p + down;
    const auto left = std::make_unique_for_overwrite<double[]>(at(kGramRows * width));
    const auto right = std::make_unique_for_overwrite<double[]>(at(kGramRows * height));
    for (Index first = 0; first < source.n_rows(); first += kGramRows) {
      const Index m = std::min(kGramRows, source.n_rows() - first);
      const double beta = first == 0 ? 0.0 : 1.0;
      const GramRows::Block x = source.read(first, m, across, width, left.get());
      if (across == down) {
        blas::syrk_lower(width, m, source.scale(), x.values, x.stride, beta, sums, p);
      } else {
        const GramRows::Block z = source.read(first, m, down, height, right.get());
        blas::gemm(true, false, height, width, m, source.scale(), z.values, z.stride, x.values,
                   x.stride, beta, sums, p);
      }
    }
  });
  pool.run(static_cast<Index>(out.size()), [&](Index k, int) {
    double* gram = out[at(k)].values.data();
    constexpr Index kTile = 32;  // both triangles of a tile pair stay in the cache
    for (Index j0 = 0; j0 < p; j0 += kTile) {
      for (Index i0 = j0; i0 < p; i0 += kTile) {
        for (Index j = j0; j < std::min(p, j0 + kTile); ++j) {
          for (Index i = std::max(i0, j + 1); i < std::min(p, i0 + kTile); ++i) {
            gram[i * p + j] = gram[j * p + i];
          }
        }
      }
    }
  });
  return out;
}

std::size_t gram_scratch_bytes(Index n_samples) {
  return at(2 * kGramRows * kGramBlock + n_samples) * sizeof(double);
}

struct GramBackend::Candidate {
  Index lambda_index = 0;
  SparseCoef coef;
  std::vector<double> c;  // (p) correlations as the Gram matrix gives them
  ActiveSet::Outcome outcome;
  Index n_dependent = 0;
};

GramBackend::GramBackend(const Columns& columns, const std::vector<GramMatrix>& grams,
                         Index max_look_ahead)
    : columns_(columns), grams_(grams), look_ahead_(max_look_ahead) {}

GramBackend::~GramBackend() = default;

void GramBackend::load(std::span<const Index>, std::span<const Problem* const> problems) {
  problem_ = problems.front();
  const RowWeighting& rows = *problem_->rows;
  const GramMatrix* gram = nullptr;
  for (const GramMatrix& candidate : grams_) {
    if (candidate.rows == problem_->rows) gram = &candidate;
  }
  const Index n = columns_.n_samples();
  const Index p = columns_.n_features();
  std::vector<double> z(at(n), 0.0);
  double squares = 0.0;
  for (const Index i : rows.rows) {
    z[at(i)] = rows.weight[at(i)] * (problem_->y->value[at(i)] - problem_->y_mean);
    squares += z[at(i)] * z[at(i)];
  }
  std::vector<double> xty(at(p));
  whole_.resize(at(n));
  for (Index j = 0; j < p; ++j) {
    xty[at(j)] = simd().dot(n, rows.read(columns_, j, whole_.data()), z.data());
  }
  products_ =
      std::make_unique<GramProducts>(gram->values.data(), std::move(xty), std::sqrt(squares), p);
  solver_ = std::make_unique<ActiveSet>(columns_, *problem_, *products_, nullptr);
  solver_->start_from(problem_->start, problem_->lambda.empty() ? 0.0 : problem_->lambda.front());
  working_set_.clear();
  for (Index j = 0; j < p; ++j) {
    if (!problem_->excluded(j)) working_set_.push_back(j);
  }
  failed_ = -1;
  covered_.clear();
  place_.assign(at(p), -1);
  columns_covered_.clear();
  direct_.clear();
  double y_squares = 0.0;
  for (const Index i : rows.rows) {
    const double y = problem_->y->value[at(i)] - problem_->y_mean;
    y_squares += rows.weight[at(i)] * y * y;
  }
  response_norm_ = std::sqrt(y_squares);
  weighted_norm_.resize(at(p));
  for (Index j = 0; j < p; ++j) weighted_norm_[at(j)] = std::sqrt(gram->values[at(j * p + j)]);
}

void GramBackend::cover(Index j) {
  if (place_[at(j)] >= 0) return;
  place_[at(j)] = static_cast<Index>(covered_.size());
  covered_.push_back(j);
  if (problem_->rows->direct_index(j) < 0) {
    columns_covered_.push_back(columns_.column(j));
  } else {
    direct_.push_back(std::make_unique_for_overwrite<double[]>(at(columns_.n_samples())));
    problem_->rows->centred_column(columns_, j, direct_.back().get());
    columns_covered_.push_back(direct_.back().get());
  }
}

void GramBackend::choose_working_sets(std::span<const PathBlock>) {
  // Products with all features are at hand: the working set is everything.
}

void GramBackend::solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) {
  const PathBlock& block = blocks.front();
  if (failed_ >= 0) {
    // The solve ended at the last candidate: go back to the one that failed, then let the products
    // computed from X replace those of the Gram matrix there.
    const Candidate& failed = candidates_[at(failed_)];
    solver_->solve(problem_->lambda[at(failed.lambda_index)], working_set_, max_iterations);
    products_->correct(covered_,
                       correlation_.data() + failed_ * static_cast<Index>(covered_.size()));
    solver_->refresh();
    failed_ = -1;
  }
  candidates_.resize(at(block.count));
  for (Index k = 0; k < block.count; ++k) {
    Candidate& candidate = candidates_[at(k)];
    candidate.lambda_index = block.first + k;
    candidate.outcome =
        solver_->solve(problem_->lambda[at(candidate.lambda_index)], working_set_, max_iterations);
    candidate.n_dependent = solver_->n_dependent();
    candidate.coef = solver_->coef();
    candidate.c = products_->correlations();
  }
}

void GramBackend::correlate(std::span<const PathBlock> blocks) {
  const Index m = blocks.front().count;
  const Index n = columns_.n_samples();
  const RowWeighting& rows = *problem_->rows;
  for (const Candidate& candidate : candidates_) {
    for (const auto& [j, b] : candidate.coef) cover(j);
  }
  const auto n_covered = static_cast<Index>(covered_.size());
  residual_.resize(at(n * m));
  weighted_.resize(at(n * m));
  coef_.assign(at(n_covered * m), 0.0);
  for (Index k = 0; k < m; ++k) {
    for (const auto& [j, b] : candidates_[at(k)].coef) coef_[at(place_[at(j)] * m + k)] = -b;
    for (Index i = 0; i < n; ++i) {
      residual_[at(k * n + i)] = problem_->y->value[at(i)] - problem_->y_mean;
    }
  }
  simd().update(n, columns_covered_.data(), n_covered, coef_.data(), m, residual_.data(), n);
  for (Index k = 0; k < m; ++k) {
    // The weighted mean that goes also makes up for columns centred for other weights.
    double* r = residual_.data() + k * n;
    if (problem_->intercept) {
      const double mean = simd().dot(n, rows.weight.data(), r);
      for (Index i = 0; i < n; ++i) r[i] -= mean;
    }
    for (Index i = 0; i < n; ++i) weighted_[at(k * n + i)] = rows.weight[at(i)] * r[i];
  }

  // Blocks of rows: the residuals' part stays in the cache while the columns pass by.
  correlation_.assign(at(n_covered * m), 0.0);
  std::vector<double> part(at(n_covered * m));
  std::vector<const double*> x(at(n_covered)), z(at(m));
  for (Index first = 0; first < n; first += kRowsAtOnce) {
    for (Index k = 0; k < n_covered; ++k) x[at(k)] = columns_covered_[at(k)] + first;
    for (Index k = 0; k < m; ++k) z[at(k)] = weighted_.data() + k * n + first;
    simd().cross(std::min(kRowsAtOnce, n - first), x.data(), n_covered, z.data(), m, part.data(),
                 n_covered);
    for (std::size_t k = 0; k < part.size(); ++k) correlation_[k] += part[k];
  }
}

void GramBackend::certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) {
  const Index n = columns_.n_samples();
  const Index p = columns_.n_features();
  const RowWeighting& rows = *problem_->rows;
  const auto n_covered = static_cast<Index>(covered_.size());
  std::vector<GapTerm> terms;
  for (Index k = 0; k < blocks.front().count; ++k) {
    const Candidate& candidate = candidates_[at(k)];
    CandidateReport& report = reports[at(k)];
    report = {};
    report.exact = candidate.outcome.exact;
    const double lambda = problem_->lambda[at(candidate.lambda_index)];
    if (lambda == 0.0) continue;
    if (problem_->projector) {
      // Unpenalised features: the general form, with its projection.
      const Fit fit = thresher::certify(columns_, *problem_, lambda, candidate.coef, 1.0, false);
      report.gap = fit.gap;
      report.finite = fit.status != Status::kNumericalBreakdown;
      continue;
    }
    const double* r = residual_.data() + k * n;
    const double* z = weighted_.data() + k * n;
    const double half_q = 0.5 * simd().dot(n, z, r);
    double fitted_norm = response_norm_;
    for (const auto& [j, b] : candidate.coef) fitted_norm += weighted_norm_[at(j)] * std::fabs(b);
    const double bound = static_cast<double>(n + static_cast<Index>(candidate.coef.size()) + 4) *
                         0.5 * kEps * fitted_norm * 1.001;
    terms.clear();
    auto b = candidate.coef.begin();
    for (Index j = 0; j < p; ++j) {
      double value = 0.0;
      if (b != candidate.coef.end() && b->first == j) value = (b++)->second;
      if (problem_->excluded(j)) continue;
      const double a = problem_->a(j, lambda);
      double g = 0.0;
      if (place_[at(j)] >= 0) {
        g = correlation_[at(k * n_covered + place_[at(j)])];
      } else {
        if (std::fabs(candidate.c[at(j)]) + bound * weighted_norm_[at(j)] <= a) continue;
        g = simd().dot(n, rows.column(columns_, j), z);
      }
      if (value != 0.0 || !(std::fabs(g) <= a)) {
        terms.push_back({a, problem_->e(j, lambda), value, g});
      }
    }
    report.gap = smallest_gap(0.0, half_q, terms) / problem_->null_loss;
    report.finite = std::isfinite(report.gap);
  }
}

Harvest GramBackend::harvest(Index, Index k, bool want_residual) {
  const Candidate& candidate = candidates_[at(k)];
  const Index n = columns_.n_samples();
  std::vector<double> r(residual_.begin() + k * n, residual_.begin() + (k + 1) * n);
  Harvest out;
  out.coef = candidate.coef;
  out.sums = sums_of_residual(*problem_, r);
  if (want_residual) out.residual = std::move(r);
  out.iterations = candidate.outcome.iterations;
  out.dependent = candidate.n_dependent > 0;
  return out;
}

void GramBackend::refine(Index, Index k) { failed_ = k; }

void GramBackend::advance(Index, Index) {}

}  // namespace thresher

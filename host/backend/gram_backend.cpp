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

// Of proven numbers: covers products of roundings, and of norms and P0 that are themselves rounded.
constexpr double kRoundUp = 1.001;
// A loss that may be off by more is measured.
constexpr double kLossError = 1e-10;

double dot_in_chunks(Index n, const double* x, const double* z) {
  double sum = 0.0;
  for (Index i = 0; i < n; i += kGramRows) {
    sum += simd().dot(std::min(kGramRows, n - i), x + i, z + i);
  }
  return sum;
}

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
        n_rows_(static_cast<Index>(weights.rows.size())) {
    if (plain_) return;
    for (const Index i : weights.rows) root_.push_back(std::sqrt(weights.weight[at(i)]));
  }

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
      out[t] = root_[at(first + t)] * (x[weights_.rows[at(first + t)] - begin] - mean);
    }
  }

  const Columns& columns_;
  const RowWeighting& weights_;
  bool plain_;
  Index n_rows_;
  std::vector<double> root_;  // (n_rows) sqrt(w_i)
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
  pool.run(static_cast<Index>(out.size()),
           [&](Index k, int) { blas::mirror_lower(p, out[at(k)].values.data()); });
  return out;
}

void copy_held_out(const Columns& columns, std::span<const Problem> problems,
                   std::vector<GramMatrix>& grams, const ThreadPool& pool) {
  for (const Problem& problem : problems) {
    if (problem.keep_coef || problem.projector || !problem.rows->direct.empty()) continue;
    for (GramMatrix& gram : grams) {
      if (gram.rows != problem.rows || !gram.held_out.empty()) continue;
      gram.held_out = problem.held_out;
      gram.held_out_values.assign(at(gram.held_out_stride() * columns.n_features()), 0.0);
    }
  }
  const auto copied = [](const GramMatrix& gram) { return !gram.held_out.empty(); };
  if (std::none_of(grams.begin(), grams.end(), copied)) return;
  columns.for_each(pool, [&](Index j, const double* x) {
    for (GramMatrix& gram : grams) {
      double* out = gram.held_out_values.data() + j * gram.held_out_stride();
      for (const Index i : gram.held_out) *out++ = x[i] - gram.rows->column_mean(j);
    }
  });
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
  Index place = -1;  // among those measured from X, or -1: the numbers below are proven
  double gap = 0.0;
  ResidualSums sums;
  const double* held_out = nullptr;  // residuals
};

/// A fold's problem as X'WX and X'Wy tell it, and how far rounding may have moved them.
struct GramBackend::Proven {
  std::vector<double> norm;        // (p) weighted, of the column as it is kept
  std::vector<double> mean_error;  // (p) in X'Wy, from the mean of y
  double roundings;                // in one entry of X'WX or X'Wy, in units of |x_j| |x_k|
  double y_squares, y_norm;        // sum of w y^2 about the mean; its root, rounded up
  double y_squares_error;
  bool usable = false;
};

GramBackend::GramBackend(const Columns& columns, const std::vector<GramMatrix>& grams,
                         Index max_look_ahead, double tol)
    : columns_(columns),
      grams_(grams),
      look_ahead_(max_look_ahead),
      tol_(tol),
      proven_(std::make_unique<Proven>()) {}

GramBackend::~GramBackend() = default;

void GramBackend::load(std::span<const Index>, std::span<const Problem* const> problems) {
  problem_ = problems.front();
  const RowWeighting& rows = *problem_->rows;
  for (const GramMatrix& candidate : grams_) {
    if (candidate.rows == problem_->rows) gram_ = &candidate;
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
    xty[at(j)] = dot_in_chunks(n, rows.read(columns_, j, whole_.data()), z.data());
  }
  products_ =
      std::make_unique<GramProducts>(gram_->values.data(), std::move(xty), std::sqrt(squares), p);
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
  for (Index i = 0; i < n; ++i) whole_[at(i)] = problem_->y->value[at(i)] - problem_->y_mean;
  const double y_squares = dot_in_chunks(n, whole_.data(), z.data());
  response_norm_ = std::sqrt(y_squares);
  weighted_norm_.resize(at(p));
  for (Index j = 0; j < p; ++j) weighted_norm_[at(j)] = std::sqrt(gram_->values[at(j * p + j)]);
  load_proven(y_squares);
}

void GramBackend::load_proven(double y_squares) {
  const RowWeighting& rows = *problem_->rows;
  const auto p = at(columns_.n_features());
  Proven& proven = *proven_;
  proven.usable = !problem_->keep_coef && !problem_->projector && rows.direct.empty() &&
                  !gram_->held_out.empty() && gram_->held_out == problem_->held_out;
  if (!proven.usable) return;
  // Means are off by up to (2n + 4) u times the norm: their own sum, and that of the weights.
  const auto n = static_cast<double>(columns_.n_samples());
  const double of_mean = (n + 2.0) * kEps;
  const double y_mean_error =
      problem_->intercept ? of_mean * std::hypot(problem_->y_mean, std::sqrt(y_squares)) : 0.0;
  // In a sum over chunks of rows no entry passes through more additions than one chunk has rows
  // and the matrix has chunks; scaling doubles the latter, and factors bring up to six.
  const double chunks = std::ceil(n / static_cast<double>(kGramRows));
  proven.roundings =
      (std::min(n, static_cast<double>(kGramRows)) + 2.0 * chunks + 8.0) * 0.5 * kEps +
      of_mean * of_mean;
  proven.y_squares = y_squares;
  proven.y_squares_error = proven.roundings * y_squares + y_mean_error * y_mean_error;
  proven.y_norm = kRoundUp * std::sqrt(y_squares) + y_mean_error;
  proven.norm.resize(p);
  proven.mean_error.resize(p);
  for (std::size_t j = 0; j < p; ++j) {
    proven.norm[j] = std::sqrt(rows.second_moment[j]);
    proven.mean_error[j] = std::fabs(rows.mean[j]) * y_mean_error;
  }
}

bool GramBackend::prove(Candidate& candidate) {
  const Proven& proven = *proven_;
  const double lambda = problem_->lambda[at(candidate.lambda_index)];
  if (!proven.usable || problem_->wants_coef(candidate.lambda_index) || lambda == 0.0) return false;
  const std::vector<double>& c = products_->correlations();
  const std::vector<double>& xty = products_->response_products();
  const auto n_terms = static_cast<double>(candidate.coef.size());
  double reach = proven.y_norm;
  for (const auto& [j, b] : candidate.coef) reach += proven.norm[at(j)] * std::fabs(b);
  const double share = kRoundUp * (proven.roundings + (n_terms + 12.0) * 0.5 * kEps) * reach;
  const auto error = [&](std::size_t j) {
    return share * proven.norm[j] + kRoundUp * proven.mean_error[j];
  };

  // |r|^2 = |y|^2 - b'(X'Wy + c), and what it may be off by.
  double explained = 0.0, size = proven.y_squares, q_error = proven.y_squares_error;
  for (const auto& [j, b] : candidate.coef) {
    explained += b * (xty[at(j)] + c[at(j)]);
    size += std::fabs(b) * (std::fabs(xty[at(j)]) + std::fabs(c[at(j)]));
    q_error += 2.0 * std::fabs(b) * error(at(j));
  }
  const double q = proven.y_squares - explained;
  q_error = kRoundUp * (q_error + (n_terms + 4.0) * 0.5 * kEps * size);
  if (!(q_error <= kLossError * q)) return false;

  // Any s with s |g_j| <= a_j where e_j = 0 gives a bound. Take the largest that is sure to.
  const Penalties& factors = *problem_->penalties;
  const double hat_lambda = problem_->hat_lambda(lambda);
  double s = 1.0;
  open_.clear();
  for (std::size_t j = 0; j < c.size(); ++j) {
    const double largest = std::fabs(c[j]) + error(j);
    const double a = problem_->a_of_hat(static_cast<Index>(j), hat_lambda);
    if (largest <= a || factors.excluded[j] != 0) continue;
    open_.push_back(static_cast<Index>(j));
    if (problem_->e(static_cast<Index>(j), lambda) == 0.0) s = std::min(s, a / largest);
  }
  // A term is convex in g: it is largest at an end of what g may be.
  double gap = 0.5 * (1.0 - s) * (1.0 - s) * (q + q_error);
  const auto add = [&](Index j, double b) {
    const double a = problem_->a_of_hat(j, hat_lambda), e = problem_->e(j, lambda);
    GapAt low, high;
    add_term({a, e, b, c[at(j)] - error(at(j))}, s, low);
    add_term({a, e, b, c[at(j)] + error(at(j))}, s, high);
    gap += std::max(low.value, high.value);
  };
  for (const auto& [j, b] : candidate.coef) add(j, b);
  auto next = candidate.coef.begin();
  for (const Index j : open_) {
    while (next != candidate.coef.end() && next->first < j) ++next;
    const bool added = next != candidate.coef.end() && next->first == j;
    if (!added && problem_->e(j, lambda) > 0.0) add(j, 0.0);
  }
  candidate.gap = kRoundUp * gap / problem_->null_loss;
  candidate.sums.loss = q;
  return candidate.gap <= tol_;
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
    products_->correct(covered_, correlation_.data() + candidates_[at(failed_)].place *
                                                           static_cast<Index>(covered_.size()));
    solver_->refresh();
    proven_->usable = false;  // its bounds are those of X'Wy as first computed
    failed_ = -1;
  }
  candidates_.resize(at(block.count));
  n_measured_ = 0;
  for (Index k = 0; k < block.count; ++k) {
    Candidate& candidate = candidates_[at(k)];
    candidate.lambda_index = block.first + k;
    candidate.outcome =
        solver_->solve(problem_->lambda[at(candidate.lambda_index)], working_set_, max_iterations);
    candidate.n_dependent = solver_->n_dependent();
    candidate.coef = solver_->coef();
    candidate.place = -1;
    if (prove(candidate)) continue;
    candidate.c = products_->correlations();
    candidate.place = n_measured_++;
  }
}

void GramBackend::correlate(std::span<const PathBlock>) {
  predict_held_out();
  const Index m = n_measured_;
  if (m == 0) return;
  const Index n = columns_.n_samples();
  const RowWeighting& rows = *problem_->rows;
  for (const Candidate& candidate : candidates_) {
    if (candidate.place < 0) continue;
    for (const auto& [j, b] : candidate.coef) cover(j);
  }
  const auto n_covered = static_cast<Index>(covered_.size());
  residual_.resize(at(n * m));
  weighted_.resize(at(n * m));
  coef_.assign(at(n_covered * m), 0.0);
  for (const Candidate& candidate : candidates_) {
    const Index k = candidate.place;
    if (k < 0) continue;
    for (const auto& [j, b] : candidate.coef) coef_[at(place_[at(j)] * m + k)] = -b;
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

void GramBackend::predict_held_out() {
  const auto m = static_cast<Index>(candidates_.size()) - n_measured_;
  if (m == 0) return;
  const Index n = gram_->held_out_stride();
  std::vector<Index> row(at(columns_.n_features()), -1);  // in coef_, of each feature in use
  std::vector<const double*> x;
  for (const Candidate& candidate : candidates_) {
    if (candidate.place >= 0) continue;
    for (const auto& [j, b] : candidate.coef) {
      if (row[at(j)] >= 0) continue;
      row[at(j)] = static_cast<Index>(x.size());
      x.push_back(gram_->held_out_values.data() + j * n);
    }
  }
  coef_.assign(x.size() * at(m), 0.0);
  held_out_residual_.assign(at(n * m), 0.0);
  Index column = 0;
  for (const Candidate& candidate : candidates_) {
    if (candidate.place >= 0) continue;
    for (const auto& [j, b] : candidate.coef) coef_[at(row[at(j)] * m + column)] = -b;
    double* r = held_out_residual_.data() + column++ * n;
    for (const Index i : gram_->held_out) *r++ = problem_->y->value[at(i)] - problem_->y_mean;
  }
  simd().update(n, x.data(), static_cast<Index>(x.size()), coef_.data(), m,
                held_out_residual_.data(), n);
  column = 0;
  for (Candidate& candidate : candidates_) {
    if (candidate.place >= 0) continue;
    candidate.held_out = held_out_residual_.data() + column++ * n;
    candidate.sums.held_out =
        held_out_error(*problem_, [&](std::size_t k) { return candidate.held_out[k]; });
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
    if (candidate.place < 0) {
      report.gap = candidate.gap;
      continue;
    }
    if (problem_->projector) {
      // Unpenalised features: the general form, with its projection.
      const Fit fit = thresher::certify(columns_, *problem_, lambda, candidate.coef, 1.0, false);
      report.gap = fit.gap;
      report.finite = fit.status != Status::kNumericalBreakdown;
      continue;
    }
    const double* r = residual_.data() + candidate.place * n;
    const double* z = weighted_.data() + candidate.place * n;
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
        g = correlation_[at(candidate.place * n_covered + place_[at(j)])];
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
  Harvest out;
  out.iterations = candidate.outcome.iterations;
  out.dependent = candidate.n_dependent > 0;
  if (candidate.place < 0) {
    out.sums = candidate.sums;
    if (!want_residual) return out;
    out.residual.assign(at(n), 0.0);
    const double* r = candidate.held_out;
    for (const Index i : gram_->held_out) out.residual[at(i)] = *r++;
    return out;
  }
  const double* r = residual_.data() + candidate.place * n;
  std::vector<double> residual(r, r + n);
  out.coef = candidate.coef;
  out.sums = sums_of_residual(*problem_, residual);
  if (want_residual) out.residual = std::move(residual);
  return out;
}

void GramBackend::refine(Index, Index k) { failed_ = k; }

void GramBackend::advance(Index, Index) {}

}  // namespace thresher

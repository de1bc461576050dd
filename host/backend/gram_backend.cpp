#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "backend/blas.hpp"
#include "backend/cpu_working_set_backend.hpp"
#include "backend/gram_pass.hpp"
#include "backend/simd.hpp"
#include "gap_term.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// A growing matrix takes in features whose correlation is at least this share of a_j at the end of
// the next stretch; at the start of a path, where correlations still hold everything that is to be
// explained, no more than this part of all.
constexpr double kLikely = 1.5;
constexpr Index kFirstPart = 16;
// A look is at about as many candidates, of stretches of at least kLooksFrom.
constexpr std::size_t kLookedAt = 4;
constexpr Index kLooksFrom = 12;
// A fit between two measured ones is not measured if its fitted values are no farther from a
// combination of theirs than this share of what the typical column may have with a residual.
constexpr double kNear = 0.05;
// Rows for each feature from which it is guessed who will enter, where they are a small part of
// all.
constexpr Index kSampleRows = 24;
constexpr Index kLeastSampleStep = 4;

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

/// Of a list that may have them more than once.
std::vector<Index> features_of(const std::vector<std::pair<double, Index>>& ranked) {
  std::vector<Index> out;
  for (const auto& [rank, j] : ranked) out.push_back(j);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

struct GramBackend::Candidate {
  Index lambda_index = 0;
  SparseCoef coef;
  std::vector<double> c;  // correlations as the Gram matrix gives them, in its order
  ActiveSet::Outcome outcome;
  Index n_dependent = 0;
  bool proven = false;           // gap and loss, without X
  std::size_t n_covered = 0;     // features whose correlations were measured, the first so many
  std::vector<double> measured;  // what they are
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

GramBackend::GramBackend(const Columns& columns, std::span<const GramMatrix> grams,
                         const ThreadPool& pool, Index max_look_ahead, double tol)
    : columns_(columns),
      grams_(grams),
      pool_(pool),
      look_ahead_(max_look_ahead),
      tol_(tol),
      proven_(std::make_unique<Proven>()) {}

GramBackend::GramBackend(const Columns& columns, GramMatrix& growing, const ThreadPool& pool,
                         Index max_look_ahead, double tol)
    : GramBackend(columns, {&growing, 1}, pool, max_look_ahead, tol) {
  growing_ = &growing;
}

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
  std::vector<Index> all(at(p));
  std::iota(all.begin(), all.end(), Index{0});
  rows.dots(columns_, all, z.data(), xty.data());
  for (Index i = 0; i < n; ++i) whole_[at(i)] = problem_->y->value[at(i)] - problem_->y_mean;
  const double y_squares = dot_in_chunks(n, whole_.data(), z.data());
  response_norm_ = std::sqrt(y_squares);
  weighted_norm_.resize(at(p));
  for (Index j = 0; j < p; ++j) {
    weighted_norm_[at(j)] =
        kRoundUp * std::sqrt(std::max(rows.second_moment[at(j)], rows.variance[at(j)]));
  }
  working_set_.clear();
  failed_ = -1;
  covered_.clear();
  place_.assign(at(p), -1);
  const GramRows weighed(columns_, rows);
  weighed_response_.clear();
  for (std::size_t t = 0; t < rows.rows.size(); ++t) {
    weighed_response_.push_back(weighed.root(static_cast<Index>(t)) * whole_[at(rows.rows[t])]);
  }
  if (growing_ != nullptr) {
    last_correlation_ = xty;
    all_xty_ = std::move(xty);
    xty = {};
  }
  products_ = std::make_unique<GramProducts>(*gram_, std::move(xty), std::sqrt(squares));
  solver_ = std::make_unique<ActiveSet>(columns_, *problem_, *products_, nullptr);
  if (growing_ != nullptr) {
    std::vector<Index> start;
    for (const auto& [j, b] : problem_->start) start.push_back(j);
    let_in(start);
  } else {
    for (Index j = 0; j < p; ++j) {
      if (!problem_->excluded(j)) working_set_.push_back(j);
    }
  }
  solver_->start_from(problem_->start, problem_->lambda.empty() ? 0.0 : problem_->lambda.front());
  load_proven(y_squares);
}

void GramBackend::let_in(std::span<const Index> features) {
  if (features.empty()) return;
  extend(columns_, {growing_, 1}, features, pool_);
  std::vector<double> xty;
  for (const Index j : features) {
    xty.push_back(all_xty_[at(j)]);
    if (!problem_->excluded(j)) working_set_.push_back(j);
  }
  products_->extend(xty);
}

void GramBackend::load_proven(double y_squares) {
  const RowWeighting& rows = *problem_->rows;
  const auto p = at(columns_.n_features());
  Proven& proven = *proven_;
  proven.usable = growing_ == nullptr && !problem_->keep_coef && !problem_->projector &&
                  rows.direct.empty() && !gram_->held_out.empty() &&
                  gram_->held_out == problem_->held_out;
  if (!proven.usable) return;
  // Means are off by up to (2n + 4) u times the norm: their own sum, and that of the weights.
  const auto n = static_cast<double>(columns_.n_samples());
  const double of_mean = (n + 2.0) * kEps;
  const double y_mean_error =
      problem_->intercept ? of_mean * std::hypot(problem_->y_mean, std::sqrt(y_squares)) : 0.0;
  // In a sum over chunks of rows no entry passes through more additions than one chunk has rows
  // and the matrix has chunks; scaling doubles the latter, and factors bring up to six.
  static_assert(kDotRows <= 4 * kGramRows);
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

void GramBackend::choose_working_sets(std::span<const PathBlock> blocks) {
  // Where the matrix has all features the working set is everything.
  if (growing_ == nullptr) return;
  const PathBlock& block = blocks.front();
  const double lambda = problem_->lambda[at(block.first + block.count - 1)];
  std::vector<std::pair<double, Index>> likely;
  for (Index j = 0; j < columns_.n_features(); ++j) {
    if (gram_->place[at(j)] >= 0 || problem_->excluded(j)) continue;
    const double a = problem_->a(j, lambda);
    const double g = std::fabs(last_correlation_[at(j)]);
    if (g >= kLikely * a) likely.emplace_back(-g / a, j);
  }
  std::sort(likely.begin(), likely.end());
  if (block.first == 0) likely.resize(std::min(likely.size(), at(gram_->stride() / kFirstPart)));
  n_looks_ = block.count >= kLooksFrom ? 1 : 0;
  std::vector<Index> features;
  for (const auto& [rank, j] : likely) features.push_back(j);
  let_in(features);
}

void GramBackend::solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) {
  const PathBlock& block = blocks.front();
  if (failed_ >= 0) {
    // The solve ended at the last candidate: go back to the one that failed, then let the products
    // computed from X replace those of the Gram matrix there.
    const Candidate& failed = candidates_[at(failed_)];
    solver_->go_back(failed.coef, problem_->lambda[at(failed.lambda_index)]);
    products_->correct({covered_.data(), failed.measured.size()}, failed.measured.data());
    solver_->refresh();
    proven_->usable = false;  // its bounds are those of X'Wy as first computed
    failed_ = -1;
  }
  candidates_.resize(at(block.count));
  max_iterations_ = max_iterations;
  before_ = solver_->coef();
  for (Index k = 0; k < block.count; ++k) {
    Candidate& candidate = candidates_[at(k)];
    candidate.lambda_index = block.first + k;
    candidate.outcome.iterations = 0;
    solve_candidate(candidate);
    candidate.proven = prove(candidate);
    if (!candidate.proven) candidate.c = products_->correlations();
  }
}

void GramBackend::solve_candidate(Candidate& candidate) {
  const Index before = candidate.outcome.iterations;
  candidate.outcome =
      solver_->solve(problem_->lambda[at(candidate.lambda_index)], working_set_, max_iterations_);
  candidate.outcome.iterations += before;
  candidate.n_dependent = solver_->n_dependent();
  candidate.coef = solver_->coef();
}

double GramBackend::rounding(const Candidate& candidate) const {
  double fitted_norm = response_norm_;
  for (const auto& [j, b] : candidate.coef) fitted_norm += weighted_norm_[at(j)] * std::fabs(b);
  return static_cast<double>(columns_.n_samples() + static_cast<Index>(candidate.coef.size()) + 4) *
         0.5 * kEps * fitted_norm * kRoundUp;
}

void GramBackend::list_open(const Candidate& candidate, std::size_t first_place,
                            std::vector<Index>& open) const {
  const double bound = rounding(candidate);
  const double hat_lambda = problem_->hat_lambda(problem_->lambda[at(candidate.lambda_index)]);
  for (std::size_t q = first_place; q < candidate.c.size(); ++q) {
    const Index j = gram_->features[q];
    if (problem_->excluded(j)) continue;
    const double g = std::fabs(candidate.c[q]) + bound * weighted_norm_[at(j)];
    if (!(g <= problem_->a_of_hat(j, hat_lambda))) open.push_back(j);
  }
}

PassResult GramBackend::measure(std::span<Candidate* const> chosen, bool want_covered,
                                std::span<const Index> outside) {
  const auto m = static_cast<Index>(chosen.size());
  std::vector<Index> open, covered_then;
  for (const Index j : covered_) place_[at(j)] = -1;
  covered_.clear();
  for (Candidate* candidate : chosen) {
    open.clear();
    for (const auto& [j, b] : candidate->coef) open.push_back(j);
    // certify() looks at no other features where others prove the fit.
    const bool certified_here =
        !problem_->projector && problem_->lambda[at(candidate->lambda_index)] > 0.0;
    if (want_covered && certified_here) list_open(*candidate, 0, open);
    for (const Index j : open) {
      if (place_[at(j)] >= 0) continue;
      place_[at(j)] = static_cast<Index>(covered_.size());
      covered_.push_back(j);
    }
    candidate->n_covered = covered_.size();
    covered_then.push_back(static_cast<Index>(covered_.size()));
  }
  const auto n_covered = static_cast<Index>(covered_.size());
  coef_.assign(at(n_covered * m), 0.0);
  std::vector<double> root_squares;
  for (Index k = 0; k < m; ++k) {
    const Candidate& candidate = *chosen[at(k)];
    double explained = 0.0;
    for (const auto& [j, b] : candidate.coef) {
      coef_[at(k * n_covered + place_[at(j)])] = b;
      const std::size_t q = at(gram_->place[at(j)]);
      explained += b * (products_->response_products()[q] + candidate.c[q]);
    }
    root_squares.push_back(std::sqrt(std::max(0.0, response_norm_ * response_norm_ - explained)));
  }
  return read_through(
      columns_, *problem_->rows,
      {weighed_response_, covered_, covered_then, coef_, root_squares, outside, m, want_covered},
      pool_);
}

std::size_t GramBackend::let_in_and_check(std::span<const Index> features, std::size_t first) {
  const auto old = at(gram_->size());
  let_in(features);
  const auto extend_correlations = [&](Candidate& candidate) {
    for (auto q = old; q < at(gram_->size()); ++q) {
      const double* column = gram_->column(static_cast<Index>(q));
      double c = products_->response_products()[q];
      for (const auto& [j, b] : candidate.coef) c -= b * column[gram_->place[at(j)]];
      candidate.c.push_back(c);
    }
  };
  for (Candidate& point : points_) extend_correlations(point);
  std::size_t earliest = candidates_.size();
  std::vector<Index> open;
  for (std::size_t k = first; k < candidates_.size(); ++k) {
    Candidate& candidate = candidates_[k];
    extend_correlations(candidate);
    open.clear();
    list_open(candidate, old, open);
    if (!open.empty()) earliest = std::min(earliest, k);
  }
  return earliest;
}

// With d = t b_low + (1 - t) b_high - b, the squared norm of X d is d'(c - t c_low - (1 - t)
// c_high): what X'Wy adds cancels, as 1 - t is exact. The bounds of the c cover all rounding here.
GramBackend::Between GramBackend::between(const Candidate& low, const Candidate& high,
                                          const Candidate& candidate) {
  Between out;
  const double x = problem_->lambda[at(candidate.lambda_index)];
  const double from = problem_->lambda[at(high.lambda_index)];
  const double to = problem_->lambda[at(low.lambda_index)];
  constexpr double kSteps = 0x1p20;
  if (to != from) {
    out.share = std::round(std::clamp((x - from) / (to - from), 0.0, 1.0) * kSteps) / kSteps;
  }
  const double t = out.share;
  std::vector<Index> features;
  difference_.resize(at(columns_.n_features()), 0.0);
  const auto add = [&](double factor, const SparseCoef& coef) {
    for (const auto& [j, b] : coef) {
      features.push_back(j);
      difference_[at(j)] += factor * b;
    }
  };
  add(t, low.coef);
  add(1.0 - t, high.coef);
  add(-1.0, candidate.coef);
  double squares = 0.0, reach = 0.0;
  for (const Index j : features) {
    const double d = std::exchange(difference_[at(j)], 0.0);
    const std::size_t q = at(gram_->place[at(j)]);
    squares += d * (candidate.c[q] - t * low.c[q] - (1.0 - t) * high.c[q]);
    reach += std::fabs(d) * weighted_norm_[at(j)];
  }
  const double bound = rounding(low) + rounding(high) + rounding(candidate);
  out.distance = kRoundUp * (std::sqrt(std::max(0.0, squares) + 2.0 * bound * reach) + bound);
  return out;
}

void GramBackend::choose_points(std::size_t first, std::span<const Index> outside) {
  double norms = 0.0, thresholds = 0.0;  // of lambda = 1
  for (const Index j : outside) {
    norms += weighted_norm_[at(j)];
    thresholds += problem_->a(j, 1.0);
  }
  const auto near = [&](std::size_t low, std::size_t high) {
    for (std::size_t k = low + 1; k < high; ++k) {
      const double lambda = problem_->lambda[at(candidates_[k].lambda_index)];
      const Between way = between(candidates_[low], candidates_[high], candidates_[k]);
      if (!(way.distance * norms <= kNear * lambda * thresholds)) return false;
    }
    return true;
  };
  points_.clear();
  std::size_t high = candidates_.size() - 1;
  points_.push_back(candidates_[high]);
  while (high > first) {
    std::size_t low = high - 1;
    while (low > first && near(low - 1, high)) --low;
    points_.push_back(candidates_[low]);
    high = low;
  }
  std::reverse(points_.begin(), points_.end());
}

void GramBackend::list_open_outside(const Candidate& candidate, std::span<const Index> outside,
                                    Ranked& open) {
  const auto behind = [&](const Candidate& point) {
    return point.lambda_index >= candidate.lambda_index;
  };
  auto high = std::find_if(points_.begin(), points_.end(), behind);
  if (high == points_.end()) --high;
  const auto low = high == points_.begin() || high->lambda_index == candidate.lambda_index
                       ? high
                       : std::prev(high);
  const Between way = between(*low, *high, candidate);
  const double t = way.share;
  const auto k_low = static_cast<std::size_t>(low - points_.begin());
  const auto k_high = static_cast<std::size_t>(high - points_.begin());
  const double* g_low = reference_.outside.data() + k_low * n_referred_;
  const double* g_high = reference_.outside.data() + k_high * n_referred_;
  const double lambda = problem_->lambda[at(candidate.lambda_index)];
  for (const Index j : outside) {
    const double norm = weighted_norm_[at(j)];
    const std::size_t o = at(referred_[at(j)]);
    const double error =
        t * reference_.error(norm, k_low) + (1.0 - t) * reference_.error(norm, k_high);
    const double g =
        std::fabs(t * g_low[o] + (1.0 - t) * g_high[o]) + kRoundUp * (error + norm * way.distance);
    add_open(g, j, lambda, open);
  }
}

void GramBackend::add_open(double g, Index j, double lambda, Ranked& open) const {
  const double a = problem_->a(j, lambda);
  // Written so that a NaN joins.
  if (!(g <= a)) open.emplace_back(g > a ? -g / a : -1.0, j);
}

std::vector<Index> GramBackend::features_outside() const {
  std::vector<Index> outside;
  for (Index j = 0; j < columns_.n_features(); ++j) {
    if (gram_->place[at(j)] < 0 && !problem_->excluded(j)) outside.push_back(j);
  }
  return outside;
}

// A look at a few candidates costs little more than reading X and finds most of what they lack.
std::vector<Index> GramBackend::look() {
  std::vector<Candidate*> chosen;
  const std::size_t step = std::max<std::size_t>(1, candidates_.size() / kLookedAt);
  for (std::size_t k = candidates_.size(); k > 0; k -= std::min(k, step)) {
    chosen.push_back(&candidates_[k - 1]);
  }
  const std::vector<Index> outside = features_outside();
  const PassResult told = measure(chosen, false, outside);
  Ranked violators, of_one;
  for (std::size_t o = 0; o < outside.size(); ++o) {
    const Index j = outside[o];
    last_correlation_[at(j)] = told.outside[o];
    of_one.clear();
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      const double g =
          std::fabs(told.outside[k * outside.size() + o]) + told.error(weighted_norm_[at(j)], k);
      add_open(g, j, problem_->lambda[at(chosen[k]->lambda_index)], of_one);
    }
    if (!of_one.empty()) violators.push_back(*std::min_element(of_one.begin(), of_one.end()));
  }
  const Index growth = std::max(3 * gram_->size(), gram_->stride() / kFirstPart);
  const bool too_many = violators.size() > at(growth);
  if (too_many) {
    // What violates while much is missing often no longer does when it is there.
    std::nth_element(violators.begin(), violators.begin() + growth, violators.end());
    violators.resize(at(growth));
  }
  std::vector<Index> likely = likely_to_enter(*chosen.front(), features_of(violators));
  // Another look would tell the same if none of them gets in.
  if (too_many && !likely.empty()) ++n_looks_;
  return likely;
}

// The path's problem at the candidate with products of a sample of rows, whose X'Wy is such that
// the candidate has the correlations it really has: an error in a product counts as much as
// coefficients will move.
std::vector<Index> GramBackend::likely_to_enter(const Candidate& candidate,
                                                std::vector<Index> features) const {
  std::vector<Index> all = gram_->features;
  all.insert(all.end(), features.begin(), features.end());
  const auto n_rows = static_cast<Index>(problem_->rows->rows.size());
  const Index every = n_rows / (kSampleRows * static_cast<Index>(all.size()));
  if (every < kLeastSampleStep) return features;
  GramMatrix sample(problem_->rows, gram_->stride());
  extend(columns_, {&sample, 1}, all, pool_, every);
  std::vector<double> xty = candidate.c;
  for (const Index j : features) xty.push_back(last_correlation_[at(j)]);
  for (std::size_t q = 0; q < all.size(); ++q) {
    const double* column = sample.column(static_cast<Index>(q));
    for (const auto& [j, b] : candidate.coef) xty[q] += b * column[sample.place[at(j)]];
  }
  GramProducts products(sample, std::move(xty), response_norm_);
  ActiveSet solver(columns_, *problem_, products, nullptr);
  const double lambda = problem_->lambda[at(candidate.lambda_index)];
  solver.go_back(candidate.coef, lambda);
  solver.solve(lambda, all, max_iterations_);
  const SparseCoef coef = solver.coef();
  const auto left_out = [&](Index j) {
    return std::none_of(coef.begin(), coef.end(),
                        [j](const auto& term) { return term.first == j; });
  };
  std::erase_if(features, left_out);
  return features;
}

std::vector<Index> GramBackend::close(std::size_t first) {
  const std::vector<Index> outside = features_outside();
  std::vector<Candidate*> chosen;
  Ranked open;
  for (std::size_t k = first; k < candidates_.size() && !points_.empty(); ++k) {
    const std::size_t before = open.size();
    list_open_outside(candidates_[k], outside, open);
    if (open.size() > before) chosen.push_back(&candidates_[k]);
  }
  std::vector<Index> wanted = features_of(open);
  const bool anew = points_.empty() || 2 * wanted.size() > outside.size();
  if (anew && !outside.empty()) {
    wanted = outside;
    choose_points(first, outside);
    chosen.clear();
    for (const Candidate& point : points_) {
      chosen.push_back(&candidates_[at(point.lambda_index - candidates_.front().lambda_index)]);
    }
  }
  if (chosen.empty()) return {};

  PassResult told = measure(chosen, false, wanted);
  const std::size_t n_wanted = wanted.size();
  open.clear();
  for (std::size_t o = 0; o < n_wanted; ++o) {
    const Index j = wanted[o];
    last_correlation_[at(j)] = told.outside[(chosen.size() - 1) * n_wanted + o];
    for (std::size_t k = 0; k < chosen.size() && !anew; ++k) {
      const double g =
          std::fabs(told.outside[k * n_wanted + o]) + told.error(weighted_norm_[at(j)], k);
      add_open(g, j, problem_->lambda[at(chosen[k]->lambda_index)], open);
    }
  }
  if (anew) {
    reference_ = std::move(told);
    n_referred_ = n_wanted;
    referred_.assign(at(columns_.n_features()), -1);
    for (std::size_t o = 0; o < n_wanted; ++o) referred_[at(wanted[o])] = static_cast<Index>(o);
    for (std::size_t k = first; k < candidates_.size() && n_wanted > 0; ++k) {
      list_open_outside(candidates_[k], outside, open);
    }
  }
  return features_of(open);
}

std::size_t GramBackend::take_in(std::vector<Index> newcomers, std::size_t first) {
  // Once most are in, the others spare the passes that look for them.
  if (3 * (at(gram_->size()) + newcomers.size()) > 2 * gram_->place.size()) {
    newcomers = features_outside();
  }
  const std::size_t again = let_in_and_check(newcomers, first);
  if (again + 1 < candidates_.size()) {
    // Far from where the solver is: its changes one by one would cost more.
    const Index l = std::max<Index>(0, candidates_[again].lambda_index - 1);
    solver_->go_back(again > 0 ? candidates_[again - 1].coef : before_, problem_->lambda[at(l)]);
  }
  for (std::size_t k = again; k < candidates_.size(); ++k) {
    solve_candidate(candidates_[k]);
    candidates_[k].c = products_->correlations();
  }
  return again;
}

void GramBackend::measure_and_grow() {
  points_.clear();
  for (; n_looks_ > 0; --n_looks_) take_in(look(), 0);
  for (std::size_t first = 0; first < candidates_.size();) first = take_in(close(first), first);
}

void GramBackend::correlate(std::span<const PathBlock>) {
  if (growing_ != nullptr) measure_and_grow();
  std::vector<Candidate*> chosen;
  for (Candidate& candidate : candidates_) {
    if (!candidate.proven) chosen.push_back(&candidate);
  }
  if (!chosen.empty()) {
    const PassResult told = measure(chosen, true, {});
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      const auto begin = told.covered.begin() + static_cast<std::ptrdiff_t>(k * covered_.size());
      chosen[k]->measured.assign(begin, begin + static_cast<std::ptrdiff_t>(chosen[k]->n_covered));
      chosen[k]->sums.loss = told.squares[k];
    }
  }
  predict_held_out();
}

void GramBackend::predict_held_out() {
  const auto& held_out = problem_->held_out;
  for (Candidate& candidate : candidates_) {
    candidate.sums.held_out = std::numeric_limits<double>::quiet_NaN();
  }
  if (held_out.empty()) return;
  const bool copied = gram_->held_out == held_out;
  const Index n = copied ? gram_->held_out_stride() : static_cast<Index>(held_out.size());
  const auto m = static_cast<Index>(candidates_.size());
  held_out_residual_.assign(at(n * m), 0.0);
  std::vector<Index> row(at(columns_.n_features()), -1);  // in coef_, of each feature in use
  std::vector<const double*> x;
  for (const Candidate& candidate : candidates_) {
    for (const auto& [j, b] : candidate.coef) {
      if (!copied || row[at(j)] >= 0) continue;
      row[at(j)] = static_cast<Index>(x.size());
      x.push_back(gram_->held_out_values.data() + j * n);
    }
  }
  coef_.assign(x.size() * at(m), 0.0);
  for (Index k = 0; k < m; ++k) {
    const Candidate& candidate = candidates_[at(k)];
    double* r = held_out_residual_.data() + k * n;
    if (!copied) {
      const std::vector<double> all = residual(columns_, *problem_, candidate.coef);
      for (const Index i : held_out) *r++ = all[at(i)];
      continue;
    }
    for (const auto& [j, b] : candidate.coef) coef_[at(row[at(j)] * m + k)] = -b;
    for (const Index i : held_out) *r++ = problem_->y->value[at(i)] - problem_->y_mean;
  }
  if (copied) {
    simd().update(n, x.data(), static_cast<Index>(x.size()), coef_.data(), m,
                  held_out_residual_.data(), n);
  }
  for (Index k = 0; k < m; ++k) {
    Candidate& candidate = candidates_[at(k)];
    candidate.held_out = held_out_residual_.data() + k * n;
    candidate.sums.held_out =
        held_out_error(*problem_, [&](std::size_t i) { return candidate.held_out[i]; });
  }
}

void GramBackend::certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) {
  const Index p = columns_.n_features();
  std::vector<GapTerm> terms;
  for (Index k = 0; k < blocks.front().count; ++k) {
    const Candidate& candidate = candidates_[at(k)];
    CandidateReport& report = reports[at(k)];
    report = {};
    report.exact = candidate.outcome.exact;
    const double lambda = problem_->lambda[at(candidate.lambda_index)];
    if (lambda == 0.0) continue;
    if (candidate.proven) {
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
    terms.clear();
    const double hat_lambda = problem_->hat_lambda(lambda);
    auto b = candidate.coef.begin();
    for (Index j = 0; j < p; ++j) {
      double value = 0.0;
      if (b != candidate.coef.end() && b->first == j) value = (b++)->second;
      if (problem_->excluded(j)) continue;
      const double a = problem_->a_of_hat(j, hat_lambda);
      // What was not covered by then is proven inactive; so is what a growing matrix lacks.
      const Index place = place_[at(j)];
      if (place < 0 || at(place) >= candidate.n_covered) continue;
      const double g = candidate.measured[at(place)];
      if (value != 0.0 || !(std::fabs(g) <= a)) {
        terms.push_back({a, problem_->e(j, lambda), value, g});
      }
    }
    report.gap = smallest_gap(0.0, 0.5 * candidate.sums.loss, terms) / problem_->null_loss;
    report.finite = std::isfinite(report.gap);
  }
}

Harvest GramBackend::harvest(Index, Index k, bool want_residual) {
  const Candidate& candidate = candidates_[at(k)];
  Harvest out;
  out.iterations = candidate.outcome.iterations;
  out.dependent = candidate.n_dependent > 0;
  out.sums = candidate.sums;
  if (!candidate.proven) out.coef = candidate.coef;
  if (!want_residual) return out;
  out.residual.assign(at(columns_.n_samples()), 0.0);
  const double* r = candidate.held_out;
  for (const Index i : problem_->held_out) out.residual[at(i)] = *r++;
  return out;
}

void GramBackend::refine(Index, Index k) { failed_ = k; }

void GramBackend::advance(Index, Index) {}

}  // namespace thresher

#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "backend/active_set.hpp"
#include "backend/gram_matrix.hpp"
#include "backend/gram_pass.hpp"
#include "backend/half_panels.hpp"
#include "backend/local_products.hpp"
#include "backend/working_set_backend.hpp"
#include "setup/thread_pool.hpp"

namespace thresher {

/// Residual ("naive") mode: X is read through half-precision panels, where there are any, to
/// certify inactive features, and in double for the rest.
class ResidualBackend final : public WorkingSetBackend {
 public:
  /// panels = null: passes are made in double, for few of them or for checks.
  ResidualBackend(const Columns& columns, const HalfPanels* panels, Index n_slots,
                  Index max_look_ahead, bool proven_skip);
  ~ResidualBackend() override;

  Index n_slots() const override { return static_cast<Index>(slots_.size()); }
  Index max_look_ahead(Index slot) const override;
  Index first_look_ahead() const override { return std::min<Index>(2, look_ahead_); }
  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override;
  void choose_working_sets(std::span<const PathBlock> blocks) override;
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override;
  void correlate(std::span<const PathBlock> blocks) override;
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override;
  Harvest harvest(Index slot, Index k, bool want_residual) override;
  void refine(Index, Index) override {}  // products come from the data already
  void advance(Index slot, Index k) override;

  /// Bytes one slot takes for problems of this size, roughly at the end of a path.
  static std::size_t slot_bytes(Index n_samples, Index n_features, Index look_ahead);

 private:
  struct Candidate;
  struct Slot;

  /// |x_j' z - c_j| <= slack(j) |z| for what a pass over X makes of x_j' z.
  double slack(std::size_t j) const;
  void correlate_candidates(const std::vector<Candidate*>& candidates);
  /// Lists the features whose bound(j) >= |g_j| does not prove them inactive; false if there are
  /// more than `most`.
  template <class Bound>
  bool list_undecided(const Slot& slot, Candidate& candidate, Index most, const Bound& bound);
  static void project(const Problem& problem, Candidate& candidate);
  /// Proves features inactive from the last point for which X was read, if that leaves few.
  bool try_skip(const Slot& slot, Candidate& candidate);

  const Columns& columns_;
  const HalfPanels* panels_;
  double double_slack_;
  Index look_ahead_;
  bool proven_skip_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<float> packed_;  // right-hand sides of one pass
};

/// Gram ("covariance") mode, for n much larger than p: paths are solved on X'WX without touching X.
/// One closing pass computes residuals, and correlations of every feature that was active so far,
/// from X for many lambdas at once. The others are proven inactive from their Gram correlation c_j
/// and its rounding bound (u = 2^-53, K the support, norms weighted):
///
///     |x_j' W r - c_j| <= (n + K + 4) u |x_j| (|y| + sum_k |x_k| |b_k|).
///
/// A fold's fit whose coefficients nobody keeps needs no pass over X where a bound of this kind on
/// all c_j, and on |r|^2 = |y|^2 - b'(X'Wy + c), proves a gap within the tolerance (decision 0012):
/// then only its residuals on held-out rows are computed.
class GramBackend final : public WorkingSetBackend {
 public:
  /// grams: of all features, for every weighting that will be loaded.
  GramBackend(const Columns& columns, std::span<const GramMatrix> grams, const ThreadPool& pool,
              Index max_look_ahead, double tol);
  /// For one problem without held-out rows and unpenalised features: `growing` (of its weights, no
  /// feature yet) gets those that the path needs; the others are proven inactive from X, read once
  /// for many lambdas (decision 0013).
  GramBackend(const Columns& columns, GramMatrix& growing, const ThreadPool& pool,
              Index max_look_ahead, double tol);
  ~GramBackend() override;

  Index n_slots() const override { return 1; }
  Index max_look_ahead(Index) const override { return look_ahead_; }
  Index first_look_ahead() const override { return look_ahead_; }
  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override;
  void choose_working_sets(std::span<const PathBlock> blocks) override;
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override;
  void correlate(std::span<const PathBlock> blocks) override;
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override;
  Harvest harvest(Index slot, Index k, bool want_residual) override;
  void refine(Index slot, Index k) override;
  void advance(Index slot, Index k) override;

 private:
  struct Candidate;
  struct Proven;
  /// How a candidate lies between two others.
  struct Between {
    double share = 1.0;     // t, of the first
    double distance = 0.0;  // bounds |X (t b_1 + (1 - t) b_2 - b)|
  };
  using Ranked = std::vector<std::pair<double, Index>>;  // the worst violator has the least

  void load_proven(double y_squares);
  void let_in(std::span<const Index> features);
  /// The earliest candidate from `first` on that one of these features may violate.
  std::size_t let_in_and_check(std::span<const Index> features, std::size_t first);
  void measure_and_grow();
  /// Lets features in and solves what they change again; the first candidate that was.
  std::size_t take_in(std::vector<Index> newcomers, std::size_t first);
  std::vector<Index> features_outside() const;
  /// Violators outside the matrix at a few candidates.
  std::vector<Index> look();
  /// Those of its violators that its solution with all of them would probably have.
  std::vector<Index> likely_to_enter(const Candidate& candidate, std::vector<Index> features) const;
  /// Proves of candidates from `first` on that features outside the matrix are
  /// inactive there; returns those that may not be.
  std::vector<Index> close(std::size_t first);
  void choose_points(std::size_t first, std::span<const Index> outside);
  Between between(const Candidate& low, const Candidate& high, const Candidate& candidate);
  void list_open_outside(const Candidate& candidate, std::span<const Index> outside, Ranked& open);
  void add_open(double g, Index j, double lambda, Ranked& open) const;
  PassResult measure(std::span<Candidate* const> chosen, bool want_covered,
                     std::span<const Index> outside);
  void solve_candidate(Candidate& candidate);
  /// Bound of the rounding in a Gram correlation, in units of |x_j|.
  double rounding(const Candidate& candidate) const;
  /// Appends the features, from this place of the matrix on, that c does not prove inactive.
  void list_open(const Candidate& candidate, std::size_t first_place,
                 std::vector<Index>& open) const;
  /// Gap and loss without X; false if they cannot be proven close enough.
  bool prove(Candidate& candidate);
  void predict_held_out();

  const Columns& columns_;
  std::span<const GramMatrix> grams_;
  const ThreadPool& pool_;
  Index look_ahead_;
  double tol_;
  std::unique_ptr<Proven> proven_;
  const GramMatrix* gram_ = nullptr;
  GramMatrix* growing_ = nullptr;  // gram_, where it grows
  std::vector<double> all_xty_, weighed_response_;
  std::vector<double> last_correlation_;  // (p) of features that are not in the matrix
  Index max_iterations_ = 0;
  int n_looks_ = 0;
  // Candidates as they were when all outside features were last measured; what that told, and where
  // it has each feature.
  std::vector<Candidate> points_;
  PassResult reference_;
  std::vector<Index> referred_;
  std::size_t n_referred_ = 0;
  std::vector<double> difference_;  // (p) zeros
  SparseCoef before_;               // where the last stretch ended
  const Problem* problem_ = nullptr;
  std::unique_ptr<GramProducts> products_;
  std::unique_ptr<ActiveSet> solver_;
  std::vector<Index> working_set_;
  std::vector<Candidate> candidates_;
  std::vector<double> held_out_residual_;  // one column per candidate
  std::vector<Index> open_;                // features not proven inactive
  // Features that are active in this block or not proven inactive, in order of entrance. Paths are
  // nearly nested, so the first are what every later lambda needs.
  std::vector<Index> covered_;
  std::vector<Index> place_;           // (p) position in covered_, or -1
  std::vector<double> weighted_norm_;  // (p) of xhat_j about its mean
  double response_norm_ = 0.0;
  std::vector<double> coef_;   // of all candidates, for what covered_ or held-out rows need
  std::vector<double> whole_;  // (n) room for a column
  Index failed_ = -1;          // candidate whose exact correlations correct the next solve
};

}  // namespace thresher

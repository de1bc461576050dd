#pragma once

#include <memory>
#include <vector>

#include "backend/active_set.hpp"
#include "backend/half_panels.hpp"
#include "backend/local_products.hpp"
#include "backend/working_set_backend.hpp"
#include "setup/thread_pool.hpp"

namespace thresher {

/// Residual ("naive") mode: X is read through half-precision panels to certify inactive features,
/// and column by column in double for the rest.
class ResidualBackend final : public WorkingSetBackend {
 public:
  /// panels = null: every feature is computed in double (slow; for checks).
  ResidualBackend(const Columns& columns, const HalfPanels* panels, Index n_slots,
                  Index max_look_ahead, bool proven_skip);
  ~ResidualBackend() override;

  Index n_slots() const override { return static_cast<Index>(slots_.size()); }
  Index max_look_ahead() const override { return look_ahead_; }
  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override;
  void choose_working_sets(std::span<const PathBlock> blocks) override;
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override;
  void correlate(std::span<const PathBlock> blocks) override;
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override;
  Fit harvest(Index slot, Index k, double relative_gap, double tol, bool want_prediction) override;
  void refine(Index, Index) override {}  // products come from the data already
  void advance(Index slot, Index k) override;

  /// Bytes one slot takes for problems of this size, roughly at the end of a path.
  static std::size_t slot_bytes(Index n_samples, Index n_features, Index look_ahead);

 private:
  struct Candidate;
  struct Slot;

  void correlate_candidates(const std::vector<Candidate*>& candidates);

  const Columns& columns_;
  const HalfPanels* panels_;
  Index look_ahead_;
  bool proven_skip_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<float> packed_;  // right-hand sides of one pass
};

/// X'WX of one RowWeighting (full, column-major), shared by all problems with these weights.
struct GramMatrix {
  std::shared_ptr<const RowWeighting> rows;
  std::vector<double> values;
};

/// Computes X'WX for each weighting; columns must be built. Parallel over weightings and blocks.
std::vector<GramMatrix> make_gram_matrices(
    const Columns& columns, const std::vector<std::shared_ptr<const RowWeighting>>& rows,
    const ThreadPool& pool);

/// Gram ("covariance") mode, for n much larger than p: paths are solved on X'WX without touching X;
/// one closing pass over X certifies many lambdas at once.
class GramBackend final : public WorkingSetBackend {
 public:
  GramBackend(const Columns& columns, const std::vector<GramMatrix>& grams, Index max_look_ahead);
  ~GramBackend() override;

  Index n_slots() const override { return 1; }
  Index max_look_ahead() const override { return look_ahead_; }
  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override;
  void choose_working_sets(std::span<const PathBlock> blocks) override;
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override;
  void correlate(std::span<const PathBlock> blocks) override;
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override;
  Fit harvest(Index slot, Index k, double relative_gap, double tol, bool want_prediction) override;
  void refine(Index slot, Index k) override;
  void advance(Index slot, Index k) override;

 private:
  struct Candidate;

  const Columns& columns_;
  const std::vector<GramMatrix>& grams_;
  Index look_ahead_;
  const Problem* problem_ = nullptr;
  std::unique_ptr<GramProducts> products_;
  std::unique_ptr<ActiveSet> solver_;
  std::vector<Index> working_set_;
  std::vector<Candidate> candidates_;
  std::vector<double> coef_, residual_, weighted_, correlation_;  // one column per candidate
  Index failed_ = -1;  // candidate whose exact correlations correct the next solve
};

}  // namespace thresher

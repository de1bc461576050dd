#pragma once

#include <span>
#include <vector>

#include "setup/certificate.hpp"
#include "setup/problem.hpp"

namespace thresher {

/// A stretch of one problem's path: lambdas [first, first + count) of the problem in `slot`. Its
/// candidates are numbered 0 .. count - 1.
struct PathBlock {
  Index slot = 0;
  Index first = 0;
  Index count = 0;
};

/// What certify() finds out about one candidate.
struct CandidateReport {
  double gap = 0.0;       ///< relative, over all features
  Index n_violators = 0;  ///< features outside the working set that joined it
  bool finite = true;
  bool exact = true;  ///< the solve on the working set ended by itself
};

/// A solved candidate as it leaves the backend.
struct Harvest {
  SparseCoef coef;  ///< may be left out where nobody wants it (Problem::wants_coef) and lambda > 0
  ResidualSums sums;
  std::vector<double> residual;  ///< (n_samples) as residual() gives it, if asked for; maybe on
                                 ///< held-out rows alone
  Index iterations = 0;
  bool dependent = false;  ///< some features could not enter: they depend on active ones
};

/// The steps of the working-set engine (design section 6), batched over the problems in flight.
/// host/engines/active_set_engine.cpp is written against this class alone. One instance serves one
/// thread; instances share X. Everything is in hat units (setup/problem.hpp).
class WorkingSetBackend {
 public:
  virtual ~WorkingSetBackend() = default;

  /// Problems that can be in flight.
  virtual Index n_slots() const = 0;
  /// Most lambdas of the problem in `slot` between two passes over X, at its current point.
  virtual Index max_look_ahead(Index slot) const = 0;
  /// How many to try at the start of a path.
  virtual Index first_look_ahead() const = 0;

  /// Takes `problem` (borrowed until the slot is loaded again) into `slot`: its start becomes the
  /// current point and its correlations with all features are found.
  virtual void load(std::span<const Index> slots, std::span<const Problem* const> problems) = 0;

  /// Guesses the working set of each block: support, features passing the sequential strong rule
  /// at the block's first lambda (Tibshirani et al. 2012), and a budget of the next best.
  virtual void choose_working_sets(std::span<const PathBlock> blocks) = 0;

  /// Solves every lambda of each block exactly on its working set, in order, warm-started.
  virtual void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) = 0;

  /// Correlations of every candidate's residual with all features, X read once.
  virtual void correlate(std::span<const PathBlock> blocks) = 0;

  /// Gap of every candidate with lambda > 0 over all features, in double or by a proven bound;
  /// violators join the working set of their slot. reports[k] belongs to the k-th candidate, blocks
  /// in order. At lambda = 0 only `exact` is set: the engine certifies these.
  virtual void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) = 0;

  /// Candidate k of the last block solved in `slot`.
  virtual Harvest harvest(Index slot, Index k, bool want_residual) = 0;

  /// Candidate k missed the tolerance although nothing joined the working set: use what certify
  /// computed from X to improve the next solve (iterative refinement), if that can help.
  virtual void refine(Index slot, Index k) = 0;

  /// Candidate k becomes the current point of `slot`, from which working sets are chosen.
  virtual void advance(Index slot, Index k) = 0;
};

}  // namespace thresher

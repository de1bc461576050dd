#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "backend/accelerator.hpp"
#include "backend/cpu_working_set_backend.hpp"
#include "engines/engine.hpp"
#include "setup/certificate.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

// Rounds in which nothing joined the working set and the gap still missed the tolerance.
constexpr Index kMostStalls = 3;
// Rounds for one lambda. Working sets only grow, except on a device where theirs is full: there
// features that cannot enter would join and leave for ever. Paths take one to four rounds.
constexpr Index kMostRounds = 100;
// The closing pass of Gram mode certifies this many lambdas at a time: enough for the matrix
// product to run at full rate, few enough to waste little after an early stop.
constexpr Index kGramLookAhead = 36;
// Where the matrix grows with the path, every stretch costs readings of X.
constexpr Index kGrowingLookAhead = 100;
// Correlations of one round stay in the cache: slots * look-ahead * n_features floats.
constexpr Index kRoundFloats = Index{2} << 20;
constexpr Index kMostSlots = 8;
// On a device a round is one matrix product and a few launches for all problems in flight; beyond
// some thousand nothing more is to be gained. Untuned: no GPU has run it yet.
constexpr Index kMostDeviceSlots = 4096;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// A problem in flight.
struct Running {
  Index problem = -1;
  Index next = 0;        // first lambda that is not finished
  Index look_ahead = 1;  // how many are tried at once
  Index stalls = 0;
  Index rounds = 0;    // at `next`
  bool retry = false;  // keep the working set: violators have just joined it
};

/// One thread's share: takes problems from a common queue and drives them through one backend.
class Lane {
 public:
  Lane(const Batch& batch, Mode mode, WorkingSetBackend& backend, std::atomic<Index>& queue,
       RunControl& control, FitSink& sink)
      : batch_(batch),
        mode_(mode),
        backend_(backend),
        queue_(queue),
        control_(control),
        sink_(sink),
        running_(at(backend.n_slots())) {}

  void run() {
    for (;;) {
      fill();
      if (blocks_from_running() == 0) return;
      const Status stop = control_.interruption();
      if (stop != Status::kConverged) {
        abandon(stop);
        return;
      }
      if (!choose_.empty()) backend_.choose_working_sets(choose_);
      backend_.solve_working_sets(blocks_, control_.max_iterations());
      backend_.correlate(blocks_);
      Index n_candidates = 0;
      for (const PathBlock& block : blocks_) n_candidates += block.count;
      reports_.assign(at(n_candidates), {});
      backend_.certify(blocks_, reports_);
      certify_least_squares();
      const CandidateReport* report = reports_.data();
      for (const PathBlock& block : blocks_) {
        accept(block, report);
        report += block.count;
      }
    }
  }

 private:
  void fill() {
    std::vector<Index> slots;
    std::vector<const Problem*> problems;
    for (std::size_t s = 0; s < running_.size(); ++s) {
      while (running_[s].problem < 0) {
        const Index next = queue_.fetch_add(1);
        if (next >= static_cast<Index>(batch_.problems.size())) break;
        const Problem& problem = batch_.problems[at(next)];
        if (problem.negligible) {
          solve_by_zero(next);
          continue;
        }
        if (problem.lambda.empty()) continue;
        running_[s] = Running{};
        running_[s].problem = next;
        running_[s].look_ahead = backend_.first_look_ahead();
        slots.push_back(static_cast<Index>(s));
        problems.push_back(&problem);
      }
    }
    if (!slots.empty()) backend_.load(slots, problems);
  }

  /// A response without variation: nothing can be learnt from it (design section 4).
  void solve_by_zero(Index index) {
    const Problem& problem = batch_.problems[at(index)];
    for (Index l = 0; l < static_cast<Index>(problem.lambda.size()); ++l) {
      Fit fit = certify(batch_.columns, problem, problem.lambda[at(l)], {}, control_.tol(),
                        batch_.want_prediction);
      fit.engine = Engine::kActiveSet;
      control_.count(1);
      if (!sink_.take(index, l, std::move(fit))) return;
    }
  }

  std::size_t blocks_from_running() {
    blocks_.clear();
    choose_.clear();
    for (std::size_t s = 0; s < running_.size(); ++s) {
      Running& run = running_[s];
      if (run.problem < 0) continue;
      const std::vector<double>& grid = batch_.problems[at(run.problem)].lambda;
      // At lambda = 0 every feature is wanted: that working set is not one that looks ahead to it.
      const auto next = grid.begin() + run.next;
      const auto n_penalised = static_cast<Index>(std::find(next, grid.end(), 0.0) - next);
      const Index n_left = n_penalised > 0 ? n_penalised : static_cast<Index>(grid.end() - next);
      const Index count =
          std::min({run.look_ahead, backend_.max_look_ahead(static_cast<Index>(s)), n_left});
      blocks_.push_back({static_cast<Index>(s), run.next, count});
      if (!run.retry) choose_.push_back(blocks_.back());
    }
    return blocks_.size();
  }

  void abandon(Status status) {
    for (Running& run : running_) {
      if (run.problem < 0) continue;
      Fit fit;
      fit.status = status;
      fit.engine = Engine::kActiveSet;
      fit.gap = fit.objective = fit.deviance = fit.intercept = fit.train_error =
          fit.held_out_error = std::numeric_limits<double>::quiet_NaN();
      sink_.take(run.problem, run.next, std::move(fit));
      run.problem = -1;
    }
  }

  /// At lambda = 0 nothing but fixed L2 terms is left: the general certificate.
  void certify_least_squares() {
    CandidateReport* report = reports_.data();
    for (const PathBlock& block : blocks_) {
      const Problem& problem = batch_.problems[at(running_[at(block.slot)].problem)];
      for (Index k = 0; k < block.count; ++k, ++report) {
        const double lambda = problem.lambda[at(block.first + k)];
        if (lambda != 0.0) continue;
        const Harvest found = backend_.harvest(block.slot, k, false);
        const Fit fit = certify(batch_.columns, problem, lambda, found.coef, control_.tol(), false);
        report->gap = fit.gap;
        report->finite = fit.status != Status::kNumericalBreakdown;
      }
    }
  }

  Fit finish(const PathBlock& block, Index k, double gap) {
    const Problem& problem = batch_.problems[at(running_[at(block.slot)].problem)];
    const double lambda = problem.lambda[at(block.first + k)];
    const bool want_prediction = batch_.want_prediction && !problem.held_out.empty();
    const Harvest found = backend_.harvest(block.slot, k, want_prediction);
    Fit fit = problem.wants_coef(block.first + k)
                  ? finish_fit(batch_.columns, problem, lambda, found.coef, found.sums, gap,
                               control_.tol())
                  : fit_of_sums(problem, found.sums, gap, control_.tol());
    if (want_prediction) add_predictions(problem, found.residual, fit);
    fit.engine = Engine::kActiveSet;
    fit.mode = mode_;
    fit.iterations = found.iterations;
    fit.rank_deficient = lambda == 0.0 && found.dependent;
    return fit;
  }

  /// At lambda = 0 columns may be too dependent for a factor, or the inverse of a device. Least
  /// squares on their orthogonal basis then takes over, if it comes closer.
  Fit closer_least_squares(const Problem& problem, bool want_coef, Fit fit) const {
    const Projector basis = projector_at_zero(batch_.columns, problem);
    const SparseCoef coef = least_squares(batch_.columns, problem, basis);
    Fit other = certify(batch_.columns, problem, 0.0, coef, control_.tol(),
                        batch_.want_prediction && !problem.held_out.empty(), &basis);
    if (!(other.gap < fit.gap || std::isnan(fit.gap))) return fit;
    other.engine = Engine::kActiveSet;
    other.mode = mode_;
    other.iterations = fit.iterations;
    Index n_free = 0;
    for (Index j = 0; j < batch_.columns.n_features(); ++j) {
      if (!problem.excluded(j) && problem.e(j, 0.0) == 0.0) ++n_free;
    }
    other.rank_deficient = basis.rank() < n_free;
    if (!want_coef) other.coef.clear();
    return other;
  }

  /// Hands over candidate k. Returns false when the path is over.
  bool hand_over(const PathBlock& block, Index k, Fit&& fit) {
    Running& run = running_[at(block.slot)];
    const auto n_lambdas = static_cast<Index>(batch_.problems[at(run.problem)].lambda.size());
    control_.count(1);
    const bool more = sink_.take(run.problem, block.first + k, std::move(fit));
    run.next = block.first + k + 1;
    run.stalls = run.rounds = 0;
    if (more && run.next < n_lambdas) return true;
    run.problem = -1;
    return false;
  }

  void accept(const PathBlock& block, const CandidateReport* reports) {
    Running& run = running_[at(block.slot)];
    const double tol = control_.tol();
    Index k = 0;
    Index n_violators = 0;
    for (; k < block.count; ++k) {
      // Written so that a NaN is not accepted.
      if (!(reports[k].gap <= tol)) break;
      n_violators += reports[k].n_violators;
      if (!hand_over(block, k, finish(block, k, reports[k].gap))) return;
    }
    if (k > 0) backend_.advance(block.slot, k - 1);
    if (k == block.count) {
      run.retry = false;
      run.look_ahead = std::min(run.look_ahead + 1, backend_.max_look_ahead(block.slot));
      return;
    }

    const CandidateReport& failed = reports[k];
    run.look_ahead = std::max<Index>(1, k);
    run.retry = true;
    const bool worn_out = ++run.rounds >= kMostRounds;
    if (!worn_out && (failed.n_violators > 0 || n_violators > 0)) {
      run.stalls = 0;
      return;
    }
    ++run.stalls;
    if (!worn_out && failed.finite && run.stalls < kMostStalls) {
      backend_.refine(block.slot, k);
      return;
    }
    Fit fit = finish(block, k, failed.gap);
    const Problem& problem = batch_.problems[at(run.problem)];
    const Index l = block.first + k;
    if (problem.lambda[at(l)] == 0.0) {
      fit = closer_least_squares(problem, problem.wants_coef(l), std::move(fit));
    }
    if (fit.status == Status::kIterationLimit) {
      fit.status = failed.exact && !worn_out ? Status::kPrecisionLimit : Status::kIterationLimit;
    }
    if (hand_over(block, k, std::move(fit))) backend_.advance(block.slot, k);
    run.retry = false;
  }

  const Batch& batch_;
  Mode mode_;
  WorkingSetBackend& backend_;
  std::atomic<Index>& queue_;
  RunControl& control_;
  FitSink& sink_;
  std::vector<Running> running_;
  std::vector<PathBlock> blocks_, choose_;
  std::vector<CandidateReport> reports_;
};

void solve_on_accelerator(const Batch& batch, Mode mode, RunControl& control, FitSink& sink) {
  const auto n_problems = static_cast<Index>(batch.problems.size());
  const Columns& columns = batch.columns;
  const Index wanted = std::min(n_problems, kMostDeviceSlots);
  WorkingSetTask task{
      columns,
      [&](Index j, double* out) { columns.compute_column(j, out); },
      [&](const RowWeighting& rows, Index j, double* out) { rows.centred_column(columns, j, out); },
      batch.problems,
      mode,
      batch.options.low_precision,
      wanted};
  std::unique_ptr<WorkingSetBackend> backend;
  while (!backend) {
    try {
      backend = batch.accelerator->working_set_backend(task);
    } catch (const Error& error) {
      if (error.code() != Errc::kOutOfMemory || task.n_slots == 1) throw;
      task.n_slots /= 2;
    }
  }
  if (task.n_slots < wanted) {
    control.note_device(std::to_string(task.n_slots) + " of " + std::to_string(wanted) +
                        " problems at a time (memory)");
  }
  std::atomic<Index> queue{0};
  Lane(batch, mode, *backend, queue, control, sink).run();
}

}  // namespace

void solve_active_set(const Batch& batch, Mode mode, const ThreadPool& pool, RunControl& control,
                      FitSink& sink) {
  if (batch.problems.empty()) return;
  if (batch.accelerator != nullptr) {
    solve_on_accelerator(batch, mode, control, sink);
    return;
  }
  const auto n_problems = static_cast<Index>(batch.problems.size());
  const Index n_lanes = std::min<Index>(pool.n_threads(), n_problems);
  std::atomic<Index> queue{0};

  if (mode == Mode::kGram) {
    std::vector<std::shared_ptr<const RowWeighting>> rows;
    for (const Problem& problem : batch.problems) {
      if (std::find(rows.begin(), rows.end(), problem.rows) == rows.end()) {
        rows.push_back(problem.rows);
      }
    }
    const Problem& first = batch.problems.front();
    if (batch.gram_grows && !first.projector) {
      GramMatrix growing(first.rows, batch.columns.n_features());
      GramBackend backend(batch.columns, growing, pool, kGrowingLookAhead, control.tol());
      Lane(batch, mode, backend, queue, control, sink).run();
      return;
    }
    std::vector<GramMatrix> grams = make_gram_matrices(batch.columns, rows, pool);
    copy_held_out(batch.columns, batch.problems, grams, pool);
    const ThreadPool lane(1);
    pool.run(n_lanes, [&](Index, int) {
      GramBackend backend(batch.columns, grams, lane, kGramLookAhead, control.tol());
      Lane(batch, mode, backend, queue, control, sink).run();
    });
    return;
  }

  const Index look_ahead = std::max<Index>(1, batch.options.look_ahead);
  const Index n_slots =
      std::clamp<Index>(kRoundFloats / (look_ahead * batch.columns.n_features()), 1, kMostSlots);
  pool.run(n_lanes, [&](Index, int) {
    ResidualBackend backend(batch.columns, batch.panels, std::min(n_slots, n_problems), look_ahead,
                            batch.options.proven_skip);
    Lane(batch, mode, backend, queue, control, sink).run();
  });
}

}  // namespace thresher

#pragma once

#include <vector>

#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/run_control.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/options.hpp"

namespace thresher {

class Accelerator;
class HalfPanels;
struct RowProducts;

/// What an engine is given: problems over the same columns. Const for the engine.
struct Batch {
  const Columns& columns;
  const std::vector<Problem>& problems;
  const Options& options;
  bool want_prediction;                ///< fill Fit::held_out_prediction
  const HalfPanels* panels = nullptr;  ///< X in half precision, if passes pay for it
  Accelerator* accelerator = nullptr;  ///< null: the CPU
  RowProducts* products = nullptr;     ///< ridge leaves them for the next batch of these columns
  bool gram_grows = false;             ///< with the call's only path (cost model)
};

// Each engine solves every problem's whole path, in any order of problems, and hands each fit to
// `sink`. A fit that cannot be finished ends with its Status; nothing is thrown for that. When
// control.interruption() says stop, the fit at hand gets that status and the rest of the path is
// not handed over.

void solve_reference(const Batch& batch, const ThreadPool& pool, RunControl& control,
                     FitSink& sink);
void solve_proximal_gradient(const Batch& batch, const ThreadPool& pool, RunControl& control,
                             FitSink& sink);
/// Problems with l1_ratio = 0, or with lambda = 0 (no L1 term left) at the points handed over.
void solve_ridge(const Batch& batch, const ThreadPool& pool, RunControl& control, FitSink& sink);
void solve_active_set(const Batch& batch, Mode mode, const ThreadPool& pool, RunControl& control,
                      FitSink& sink);

}  // namespace thresher

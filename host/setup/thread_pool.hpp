#pragma once

#include <functional>

#include "thresher/views.hpp"

namespace thresher {

/// Runs independent tasks on a fixed number of threads. Which thread runs a task is left open, so
/// a task must write only to what is its own; then results do not depend on the thread count.
class ThreadPool {
 public:
  /// n_threads = 0: one per processor this process may use.
  explicit ThreadPool(int n_threads);

  int n_threads() const { return n_threads_; }

  /// Calls task(i, worker) for every i in [0, n_tasks), worker in [0, n_threads). Returns when all
  /// are done. The first exception of a task stops the hand-out and is thrown again here.
  void run(Index n_tasks, const std::function<void(Index, int)>& task) const;

 private:
  int n_threads_;
};

}  // namespace thresher

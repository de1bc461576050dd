#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "setup/problem.hpp"
#include "thresher/observer.hpp"
#include "thresher/options.hpp"

namespace thresher {

/// Limits of a call and the way out of it, shared by all workers.
class RunControl {
 public:
  RunControl(const Options& options, double tol, Observer* observer);

  double tol() const { return tol_; }
  Index max_iterations() const { return max_iterations_; }

  /// kConverged: go on. kTimeLimit or kCancelled: stop now and give unfinished fits that status.
  Status interruption() const;

  void set_total(Index fits) { total_ = fits; }
  /// Counts finished fits and reports progress.
  void count(Index fits);
  Index counted() const { return done_; }
  /// Forgets the fits counted since counted() was `done`: they are computed again. Progress that
  /// was reported stands until they are.
  void take_back_to(Index done) { done_ = done; }

  /// How a device got along, if not as planned: "512 of 2048 problems at a time (memory)". The last
  /// word counts. From any thread.
  void note_device(const std::string& note);
  std::string device_note() const;

  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  double tol_;
  Index max_iterations_;
  Clock::time_point start_;
  double time_limit_;
  Observer* observer_;
  std::atomic<Index> done_{0};
  std::atomic<Index> total_{0};
  mutable std::atomic<int> stopped_{0};
  std::mutex report_mutex_;
  double last_report_ = -1.0;
  Index most_reported_ = 0;
  mutable std::mutex note_mutex_;
  std::string device_note_;
};

/// Where engines hand over fits. For one problem: one thread, ascending lambda index.
class FitSink {
 public:
  virtual ~FitSink() = default;
  /// Returns false if the rest of this problem's path is not wanted (early stop).
  virtual bool take(Index problem, Index lambda_index, Fit&& fit) = 0;
};

}  // namespace thresher

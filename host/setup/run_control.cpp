#include "setup/run_control.hpp"

#include <algorithm>

namespace thresher {
namespace {
constexpr double kReportInterval = 0.1;  // seconds
}

RunControl::RunControl(const Options& options, double tol, Observer* observer)
    : tol_(tol),
      max_iterations_(options.max_iterations),
      start_(Clock::now()),
      time_limit_(options.time_limit),
      observer_(observer) {}

double RunControl::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

Status RunControl::interruption() const {
  const int stopped = stopped_.load(std::memory_order_relaxed);
  if (stopped != 0) return static_cast<Status>(stopped);
  if (observer_ != nullptr && observer_->cancelled()) {
    stopped_ = static_cast<int>(Status::kCancelled);
    return Status::kCancelled;
  }
  if (seconds() > time_limit_) {
    stopped_ = static_cast<int>(Status::kTimeLimit);
    return Status::kTimeLimit;
  }
  return Status::kConverged;
}

void RunControl::count(Index fits) {
  const Index done = done_.fetch_add(fits) + fits;
  if (observer_ == nullptr) return;
  std::unique_lock lock(report_mutex_, std::defer_lock);
  // The last fit's report waits for one under way: no other follows it.
  if (done >= total_) {
    lock.lock();
  } else if (!lock.try_lock()) {
    return;
  }
  const double now = seconds();
  if (now - last_report_ < kReportInterval && done < total_) return;
  last_report_ = now;
  most_reported_ = std::max(most_reported_, done);
  observer_->progress({most_reported_, total_.load(), now});
}

void RunControl::note_device(const std::string& note) {
  const std::lock_guard lock(note_mutex_);
  device_note_ = note;
}

std::string RunControl::device_note() const {
  const std::lock_guard lock(note_mutex_);
  return device_note_;
}

}  // namespace thresher

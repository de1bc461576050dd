#include "watched_call.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

namespace thresher::python {
namespace {

namespace nb = nanobind;

constexpr std::chrono::milliseconds kTick{100};

class Watch final : public Observer {
 public:
  void progress(const Progress& now) override {
    const std::lock_guard lock(mutex_);
    latest_ = now;
  }
  bool cancelled() override { return cancelled_.load(std::memory_order_relaxed); }

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  void finish() {
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
    }
    changed_.notify_all();
  }

  /// True once the work is finished; false after a tick.
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kTick, [this] { return finished_; });
  }

  /// Progress that was not seen yet.
  std::optional<Progress> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(latest_, std::nullopt);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
  std::optional<Progress> latest_;
  std::atomic<bool> cancelled_{false};
};

/// Runs what Python has to say; returns the error it raised, or None.
nb::object attend(Watch& watch, const nb::object& callback) {
  try {
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (callback.is_none()) return nb::none();
    if (const auto now = watch.take()) callback(now->fits_done, now->fits_total, now->seconds);
  } catch (nb::python_error& error) {
    return nb::borrow(error.value());
  }
  return nb::none();
}

}  // namespace

nb::object watched_call(const std::function<void(Observer&)>& work, const nb::object& callback) {
  Watch watch;
  std::exception_ptr failure;
  std::thread worker([&] {
    try {
      work(watch);
    } catch (...) {
      failure = std::current_exception();
    }
    watch.finish();
  });

  nb::object error = nb::none();
  {
    const nb::gil_scoped_release released;
    while (!watch.wait()) {
      const nb::gil_scoped_acquire held;
      if (!error.is_none()) continue;
      error = attend(watch, callback);
      if (!error.is_none()) watch.cancel();
    }
    worker.join();
  }
  if (failure) std::rethrow_exception(failure);
  if (error.is_none()) error = attend(watch, callback);
  return error;
}

}  // namespace thresher::python

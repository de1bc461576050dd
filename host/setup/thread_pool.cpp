#include "setup/thread_pool.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace thresher {
namespace {

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

ThreadPool::ThreadPool(int n_threads)
    : n_threads_(n_threads > 0 ? n_threads : available_processors()) {}

void ThreadPool::run(Index n_tasks, const std::function<void(Index, int)>& task) const {
  if (n_tasks <= 0) return;
  const int n_workers = static_cast<int>(std::min<Index>(n_threads_, n_tasks));
  if (n_workers == 1) {
    for (Index i = 0; i < n_tasks; ++i) task(i, 0);
    return;
  }

  std::atomic<Index> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](int worker) {
    try {
      for (Index i = next.fetch_add(1); i < n_tasks; i = next.fetch_add(1)) task(i, worker);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
      next = n_tasks;
    }
  };

  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(n_workers - 1));
  for (int worker = 1; worker < n_workers; ++worker) {
    try {
      threads.emplace_back(work, worker);
    } catch (const std::system_error&) {
      break;  // fewer threads than asked for: slower, same result
    }
  }
  work(0);
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace thresher

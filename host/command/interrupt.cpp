#include "command/interrupt.hpp"

#include <csignal>

#include <atomic>

namespace thresher::command {
namespace {

// A signal handler can reach nothing but a static; lock-free, so it may be stored to there.
std::atomic<bool> signal_arrived{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void note_signal(int) { signal_arrived.store(true); }

}  // namespace

void watch_for_interrupts() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) {
    // A signal the parent chose to ignore (nohup, a background job) stays ignored.
    struct sigaction old {};
    if (sigaction(signal, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
}

bool interrupted() { return signal_arrived.load(std::memory_order_relaxed); }

}  // namespace thresher::command

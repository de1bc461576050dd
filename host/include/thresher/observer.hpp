#pragma once

#include "thresher/api.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// State of a running call. A fit is one (problem, lambda); folds count as problems.
struct Progress {
  Index fits_done = 0;
  Index fits_total = 0;
  double seconds = 0.0;
};

/// Watches a call and may end it early; it never steers the numbers.
class THRESHER_API Observer {
 public:
  virtual ~Observer() = default;

  /// Called at most about ten times a second, from one thread at a time (not always the same).
  virtual void progress(const Progress&) {}

  /// Polled often, from several threads at once. True ends the call soon: what is finished is
  /// returned, everything else has status kCancelled or kNotComputed.
  virtual bool cancelled() { return false; }
};

}  // namespace thresher

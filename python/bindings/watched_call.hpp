#pragma once

#include <functional>

#include <nanobind/nanobind.h>

#include "thresher/observer.hpp"

namespace thresher::python {

/// Runs `work` on a thread of its own, without the GIL, while the calling thread answers signals
/// and hands progress to `callback`, both at most about ten times a second. If a signal handler or
/// the callback raises, the work is cancelled; once it has come back, the Python error is returned.
/// Throws   what `work` throws.
nanobind::object watched_call(const std::function<void(Observer&)>& work,
                              const nanobind::object& callback);

}  // namespace thresher::python

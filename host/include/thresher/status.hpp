#pragma once

#include <cstdint>
#include <string_view>

#include "thresher/api.hpp"

namespace thresher {

/// How one fit ended. The numbers are those of the model file (docs/model_file.md).
enum class Status : std::uint8_t {
  kConverged = 0,       ///< A gap recomputed in double is within tol and every output is finite.
  kPrecisionLimit = 1,  ///< The gap cannot go lower in this arithmetic; it is reported.
  kIterationLimit = 2,  ///< max_iterations was reached first.
  kTimeLimit = 3,       ///< time_limit was reached first.
  kCancelled = 4,       ///< The observer asked to stop.
  kNumericalBreakdown = 5,  ///< A value that is not finite appeared.
  kNotComputed = 6,         ///< The path ended before this lambda (early stop, limits).
};

/// Which engine computed a fit. kAuto is only ever a request.
enum class Engine : std::uint8_t {
  kAuto = 0,
  kActiveSet = 1,
  kProximalGradient = 2,
  kRidge = 3,
  kReference = 4,
};

/// How the active-set engine sees X: through X'WX computed once, or through residuals.
/// kAuto is a request, or says that the engine that ran knows no modes.
enum class Mode : std::uint8_t { kAuto = 0, kGram = 1, kResidual = 2 };

/// Where the work runs (docs/device.md). kAuto is only ever a request: the device if there is one
/// and the work is large enough for it, else the CPU.
enum class Device : std::uint8_t { kAuto = 0, kCpu = 1, kCuda = 2 };

/// The words used by the command, the model file's documentation and messages, such as
/// "converged" or "active-set".
THRESHER_API std::string_view name(Status status);
THRESHER_API std::string_view name(Engine engine);
THRESHER_API std::string_view name(Mode mode);
THRESHER_API std::string_view name(Device device);

/// True for the two ways to end well (the command then exits with 0).
inline bool is_good(Status s) { return s == Status::kConverged || s == Status::kPrecisionLimit; }

}  // namespace thresher

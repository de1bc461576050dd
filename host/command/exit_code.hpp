#pragma once

namespace thresher::command {

/// What the process ends with, as --help says.
inline constexpr int kExitGood = 0;
inline constexpr int kExitFailed = 1;        ///< files, memory or device
inline constexpr int kExitBadInput = 2;      ///< nothing was written
inline constexpr int kExitNotConverged = 3;  ///< the model was written
inline constexpr int kExitInterrupted = 130;

}  // namespace thresher::command

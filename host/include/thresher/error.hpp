#pragma once

#include <stdexcept>
#include <string>

#include "thresher/api.hpp"

namespace thresher {

/// What went wrong, for callers that branch on it. The message says where and with which values.
enum class Errc {
  kInvalidArgument,  ///< A stated precondition is broken. Nothing was computed or written.
  kOutOfMemory,      ///< The memory limit is too small, or an allocation failed.
  kFile,             ///< A file could not be read or written.
  kDevice,           ///< An accelerator failed or is not there.
};

/// The only exception this library throws on purpose. Not converging is a Status, not an Error.
/// Messages read `function: operand must rule, got value`.
class THRESHER_API Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message) : std::runtime_error(message), code_(code) {}

  Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

}  // namespace thresher

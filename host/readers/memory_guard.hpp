#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "thresher/views.hpp"

namespace thresher {

/// Refuses memory beyond ReadOptions::max_bytes, or beyond the machine's memory if that is 0 (an
/// overcommitting kernel would grant it and end the process later).
class MemoryGuard {
 public:
  /// `name` goes in front of messages.
  MemoryGuard(std::string name, std::size_t max_bytes);

  std::size_t limit() const { return limit_; }

  /// Throws   Error{kOutOfMemory} naming both numbers if `bytes` is above the limit.
  void require(std::uint64_t bytes) const;

  /// Throws   Error{kInvalidArgument} if rows * cols * item_bytes + extra_bytes does not fit 63
  ///          bits, Error{kOutOfMemory} if it is above the limit.
  void require_matrix(Index rows, Index cols, std::size_t item_bytes,
                      std::uint64_t extra_bytes = 0) const;

 private:
  std::string name_;
  std::size_t limit_;
};

/// rows * cols * item_bytes if it fits 63 bits; operands must be >= 0.
std::optional<std::uint64_t> matrix_bytes(Index rows, Index cols, std::size_t item_bytes);

}  // namespace thresher

#include "readers/memory_guard.hpp"

#include <unistd.h>

#include <limits>

#include "thresher/error.hpp"

namespace thresher {
namespace {

std::size_t machine_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return std::numeric_limits<std::size_t>::max();
  return static_cast<std::size_t>(pages) * static_cast<std::size_t>(page_bytes);
}

}  // namespace

MemoryGuard::MemoryGuard(std::string name, std::size_t max_bytes)
    : name_(std::move(name)), limit_(max_bytes > 0 ? max_bytes : machine_memory()) {}

void MemoryGuard::require(std::uint64_t bytes) const {
  if (bytes <= limit_) return;
  throw Error(Errc::kOutOfMemory, name_ + ": memory needed must be at most " +
                                      std::to_string(limit_) + " bytes, got " +
                                      std::to_string(bytes));
}

void MemoryGuard::require_matrix(Index rows, Index cols, std::size_t item_bytes,
                                 std::uint64_t extra_bytes) const {
  const auto bytes = matrix_bytes(rows, cols, item_bytes);
  std::int64_t total = 0;
  if (!bytes || __builtin_add_overflow(*bytes, extra_bytes, &total)) {
    throw Error(Errc::kInvalidArgument, name_ + ": rows times columns must fit in memory, got " +
                                            std::to_string(rows) + " x " + std::to_string(cols));
  }
  require(static_cast<std::uint64_t>(total));
}

std::optional<std::uint64_t> matrix_bytes(Index rows, Index cols, std::size_t item_bytes) {
  std::int64_t count = 0;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(rows, cols, &count) ||
      __builtin_mul_overflow(count, item_bytes, &bytes)) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace thresher

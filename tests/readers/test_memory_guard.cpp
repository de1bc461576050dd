#include "readers/memory_guard.hpp"

#include "reader_cases.hpp"

namespace thresher {
namespace {

TEST(MemoryGuard, NeverWraps) {
  EXPECT_EQ(matrix_bytes(3, 5, 8), 120u);
  EXPECT_EQ(matrix_bytes(Index{1} << 30, Index{1} << 30, 4), std::uint64_t{1} << 62);
  EXPECT_EQ(matrix_bytes(Index{1} << 30, Index{1} << 30, 8), std::nullopt);
  EXPECT_EQ(matrix_bytes(Index{1} << 32, Index{1} << 32, 1), std::nullopt);
  EXPECT_EQ(matrix_bytes(6148914691236517206, 3, 1), std::nullopt);  // 2 modulo 2^64

  const MemoryGuard memory("test: x", 1000);
  expect_error(Errc::kInvalidArgument,
               "test: x: rows times columns must fit in memory, got 6148914691236517206 x 3",
               [&] { memory.require_matrix(6148914691236517206, 3, 8); });
  expect_error(Errc::kInvalidArgument, "test: x: rows times columns must fit in memory, got 1 x 1",
               [&] { memory.require_matrix(1, 1, 8, UINT64_MAX); });
}

TEST(MemoryGuard, RefusesWhatIsBeyondItsLimit) {
  const MemoryGuard memory("test: x", 1000);
  memory.require_matrix(25, 5, 8);
  memory.require_matrix(24, 5, 8, 40);
  expect_error(Errc::kOutOfMemory, "test: x: memory needed must be at most 1000 bytes, got 1001",
               [&] { memory.require_matrix(24, 5, 8, 41); });

  const MemoryGuard machine("test: x", 0);
  EXPECT_GT(machine.limit(), std::size_t{1} << 24);
  EXPECT_LT(machine.limit(), std::size_t{1} << 60);
}

}  // namespace
}  // namespace thresher

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "thresher/views.hpp"

// Small kernels, each correct or with one fault of the kinds that the emulator must notice.
namespace thresher::cuda {

enum class Fault {
  kNone,
  kNoBarrierAfterWrite,   // partial sums are read before every warp has stored its own
  kNoBarrierBeforeReuse,  // scratch is overwritten while others still read it
  kUninitialisedShared,   // scratch entries of warps that do not exist are summed
  kReadPastEnd,           // one element too many is read
  kWritePastEnd,          // and written
  kWriteBelowStart,       // element -1 is written
  kSharedPastEnd,         // one element past a shared array is read
  kExitBeforeBarrier,     // some threads return early
  kBarrierInBothArms,     // threads of a block wait at two different barriers
  kHalfWarpShuffle,       // half a warp calls a shuffle that names all lanes
  kShuffleOutsideMask,    // a lane calls a shuffle whose mask leaves it out
  kLockStep,              // lanes exchange data through shared memory without __syncwarp
  kNeighbourRace,         // threads read what their neighbours write
  kSameLocation,          // all threads write one element
  kBetweenBlocks,         // all blocks write one element
  kTrap,                  // calls __trap()
};

constexpr unsigned kFaultThreads = 128;

/// sums[b] = sum of column b of x (n, n_columns); one block a column.
void launch_column_sums(Fault fault, const float* x, Index n, Index n_columns, float* sums,
                        cudaStream_t stream);

/// y = x + 1, n elements, by as many blocks as it takes.
void launch_add_one(Fault fault, const float* x, float* y, Index n, cudaStream_t stream);

/// One block of kFaultThreads; y and x have as many elements. Without a fault y = x reversed within
/// each warp.
void launch_exchange(Fault fault, const float* x, float* y, cudaStream_t stream);

/// marks[i] = 0 where it is 2, n <= kFaultThreads: each thread reads and writes a byte of its own
/// or, as a fault, reads the next one too.
void launch_clear_marks(Fault fault, std::uint8_t* marks, Index n, cudaStream_t stream);

/// y[b * ld] = b for b < n_columns, with the offset in 64 bits or, as a fault, in 32.
void launch_far_writes(bool narrow_index, float* y, Index ld, Index n_columns, cudaStream_t stream);

/// Fills `bytes` of dynamic shared memory, having asked for them or not, and sets *y to 1.
void launch_with_shared(bool ask, Index bytes, unsigned threads, float* y, cudaStream_t stream);

/// counts[0] = number of positive x, by atomics; counts[1] = the same by ballots; counts[2] = the
/// most negative as a count of its magnitude; values[0] = their sum by atomics in double.
void launch_atomics(const float* x, Index n, unsigned long long* counts, double* values,
                    cudaStream_t stream);

/// sums[b] = sum of x (n_blocks * 32 elements) in every block b, by tiles of 8 and a grid-wide
/// barrier, which needs a cooperative launch.
void launch_grid_sum(bool cooperative, const float* x, unsigned n_blocks, float* partial,
                     float* sums, cudaStream_t stream);

}  // namespace thresher::cuda

#pragma once

#include "cuda_context.hpp"

namespace thresher::bench {

/// Measures the error of products of half-precision matrices summed in single precision, in the
/// very call that certification makes, against the error that the certificate assumes
/// (kHalfSumError). Prints a line per family of inputs. Returns whether all stay below it.
bool probe_half_sums(cudaStream_t stream, const cuda::Blas& blas, bool small);

}  // namespace thresher::bench

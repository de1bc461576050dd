#pragma once

#include <memory>

#include "backend/spectrum_backend.hpp"
#include "cuda_context.hpp"

namespace thresher::cuda {

/// SpectrumBackend on one device. A, U, M and s stay there while their Spectrum lives, and so does
/// X of residuals() and correlate() where it fits; columns travel in chunks of bounded size. Calls
/// from several threads take turns. The device must be current for the calling thread.
///
/// Repeat   The same bits every time on one build, GPU model and amount of free memory; no atomics.
///          It differs from the CPU by rounding: sums run in another order.
/// Throws   Every verb: Error{kOutOfMemory} or Error{kDevice}; its results are then not to be used.
std::unique_ptr<SpectrumBackend> make_spectrum_backend(const DeviceLimits& limits);

}  // namespace thresher::cuda

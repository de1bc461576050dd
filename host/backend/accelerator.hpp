#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/proximal_backend.hpp"
#include "backend/spectrum_backend.hpp"
#include "backend/working_set_backend.hpp"

namespace thresher {

/// What `thresher info` says about a device.
struct AcceleratorInfo {
  std::string name;     ///< such as "NVIDIA H100 80GB HBM3"
  std::string version;  ///< driver and toolkit
  std::size_t total_bytes = 0;
  std::size_t free_bytes = 0;
};

/// What a working-set backend is made for. Everything is borrowed for the backend's life.
struct WorkingSetTask {
  const Columns& columns;
  /// Writes xhat_j (n_samples); called from one thread, ascending j.
  std::function<void(Index j, double* out)> read_column;
  /// Writes RowWeighting::centred_column.
  std::function<void(const RowWeighting& rows, Index j, double* out)> read_centred_column;
  /// Every problem that will be loaded: their row weightings and penalties travel once.
  const std::vector<Problem>& problems;
  Mode mode;           ///< kGram or kResidual
  bool low_precision;  ///< certify inactive features in half precision with a bound
  Index n_slots;       ///< problems in flight
};

/// A device on which the backends of this folder can be made. libthresher_cuda implements it; the
/// seams are the same as on the CPU, so engines do not know where they run.
///
/// Throws   Error{kOutOfMemory} if the device has too little memory, then nothing is held;
///          Error{kDevice} if it fails. After that the device is lost: drop it.
class Accelerator {
 public:
  virtual ~Accelerator() = default;

  virtual AcceleratorInfo info() = 0;

  virtual std::unique_ptr<WorkingSetBackend> working_set_backend(const WorkingSetTask& task) = 0;
  /// matrix: column-major (n_samples, n_features), host memory, borrowed during the call.
  virtual std::unique_ptr<ProximalBackend<double>> proximal_backend(const double* matrix,
                                                                    Index n_samples,
                                                                    Index n_features) = 0;
  virtual std::unique_ptr<ProximalBackend<float>> proximal_backend(const float* matrix,
                                                                   Index n_samples,
                                                                   Index n_features) = 0;
  virtual std::unique_ptr<SpectrumBackend> spectrum_backend() = 0;
};

/// The one entry point of a device library, by the name below. Both sides must come from the same
/// version of this project: the interface is C++.
///
/// version  the caller's library version; another one is refused
/// out      receives an Accelerator, to be deleted by the caller; null if there is none
/// reason   receives why, one sentence, zero-terminated, at most reason_size bytes
/// Returns 0 if a device was opened. Throws nothing.
using OpenAccelerator = int (*)(const char* version, Accelerator** out, char* reason,
                                std::size_t reason_size);
constexpr const char* kOpenAcceleratorName = "thresher_cuda_open";

}  // namespace thresher

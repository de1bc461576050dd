#pragma once

#include <array>
#include <cstddef>

#include "cuda_context.hpp"
#include "device_memory.hpp"

namespace thresher::cuda {

/// Copies from ordinary host memory to the device through two page-locked buffers: while one is
/// transferred, the other is filled. Host memory is free again when upload() returns, the transfers
/// are ordered by the stream.
class StagedUpload {
 public:
  /// block_bytes: of each buffer.
  StagedUpload(cudaStream_t stream, Index block_bytes);
  ~StagedUpload();
  StagedUpload(const StagedUpload&) = delete;
  StagedUpload& operator=(const StagedUpload&) = delete;

  template <class T>
  void upload(const T* from, Index size, T* to) {
    upload_bytes(reinterpret_cast<const std::byte*>(from), checked_bytes<T>(size),
                 reinterpret_cast<std::byte*>(to));
  }

 private:
  struct Buffer {
    PinnedArray<std::byte> memory;
    Event transferred;
    bool in_use = false;
  };

  void upload_bytes(const std::byte* from, std::size_t size, std::byte* to);

  cudaStream_t stream_;
  std::array<Buffer, 2> buffers_;
  std::size_t next_ = 0;
};

}  // namespace thresher::cuda

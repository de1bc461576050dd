#pragma once

#include <array>
#include <cstddef>

#include "cuda_context.hpp"
#include "device_memory.hpp"

namespace thresher::cuda {

/// Copies between ordinary host memory and the device through two page-locked buffers: while one is
/// transferred, the other is filled or emptied. The transfers are ordered by the stream.
class StagedCopies {
 public:
  /// block_bytes: of each buffer.
  StagedCopies(const Stream& stream, Index block_bytes);

  /// `from` may change again on return, while the copy may still be under way.
  template <class T>
  void upload(const T* from, Index size, T* to) {
    upload_bytes(reinterpret_cast<const std::byte*>(from), checked_bytes<T>(size),
                 reinterpret_cast<std::byte*>(to));
  }
  /// On return the values are there, and all work enqueued before is done.
  template <class T>
  void download(const T* from, Index size, T* to) {
    download_bytes(reinterpret_cast<const std::byte*>(from), checked_bytes<T>(size),
                   reinterpret_cast<std::byte*>(to));
  }

 private:
  struct Buffer {
    PinnedArray<std::byte> memory;
    Event passed;  // the last copy that reads or writes `memory`
  };

  void upload_bytes(const std::byte* from, std::size_t bytes, std::byte* to);
  void download_bytes(const std::byte* from, std::size_t bytes, std::byte* to);
  std::size_t block() const { return static_cast<std::size_t>(buffers_[0].memory.size()); }
  Buffer& next();

  const Stream& stream_;
  std::array<Buffer, 2> buffers_;
  std::size_t turn_ = 0;
  Drain drain_{stream_};
};

}  // namespace thresher::cuda

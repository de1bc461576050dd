#include "staged_upload.hpp"

#include <algorithm>
#include <cstring>

namespace thresher::cuda {

StagedUpload::StagedUpload(cudaStream_t stream, Index block_bytes) : stream_(stream) {
  for (Buffer& buffer : buffers_) buffer.memory = PinnedArray<std::byte>(block_bytes);
}

StagedUpload::~StagedUpload() { note_failure(cudaStreamSynchronize(stream_)); }

void StagedUpload::upload_bytes(const std::byte* from, std::size_t size, std::byte* to) {
  const std::size_t block = static_cast<std::size_t>(buffers_[0].memory.size());
  while (size > 0) {
    Buffer& buffer = buffers_[next_];
    next_ = 1 - next_;
    if (buffer.in_use) buffer.transferred.wait();
    buffer.in_use = false;
    const std::size_t part = std::min(size, block);
    std::memcpy(buffer.memory.data(), from, part);
    copy_to_device(buffer.memory.data(), static_cast<Index>(part), to, stream_);
    buffer.transferred.record(stream_);
    buffer.in_use = true;
    from += part;
    to += part;
    size -= part;
  }
}

}  // namespace thresher::cuda

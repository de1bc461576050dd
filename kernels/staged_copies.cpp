#include "staged_copies.hpp"

#include <algorithm>
#include <cstring>

namespace thresher::cuda {

StagedCopies::StagedCopies(const Stream& stream, Index block_bytes) : stream_(stream) {
  for (Buffer& buffer : buffers_) buffer.memory = PinnedArray<std::byte>(block_bytes);
}

StagedCopies::Buffer& StagedCopies::next() {
  Buffer& out = buffers_[turn_];
  turn_ = 1 - turn_;
  return out;
}

void StagedCopies::upload_bytes(const std::byte* from, std::size_t bytes, std::byte* to) {
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t piece = std::min(bytes - done, block());
    Buffer& buffer = next();
    buffer.passed.wait();
    std::memcpy(buffer.memory.data(), from + done, piece);
    copy_to_device(buffer.memory.data(), static_cast<Index>(piece), to + done, stream_);
    buffer.passed.record(stream_);
    done += piece;
  }
}

void StagedCopies::download_bytes(const std::byte* from, std::size_t bytes, std::byte* to) {
  // While one piece is copied out of its buffer, the next one arrives in the other.
  Buffer* arriving = nullptr;
  std::size_t arriving_at = 0, arriving_bytes = 0;
  for (std::size_t done = 0; done < bytes || arriving != nullptr;) {
    Buffer* fresh = nullptr;
    const std::size_t at = done, piece = std::min(bytes - done, block());
    if (piece > 0) {
      fresh = &next();
      copy_to_host(from + at, static_cast<Index>(piece), fresh->memory.data(), stream_);
      fresh->passed.record(stream_);
      done += piece;
    }
    if (arriving != nullptr) {
      arriving->passed.wait();
      std::memcpy(to + arriving_at, arriving->memory.data(), arriving_bytes);
    }
    arriving = fresh;
    arriving_at = at;
    arriving_bytes = piece;
  }
  stream_.wait();
}

}  // namespace thresher::cuda

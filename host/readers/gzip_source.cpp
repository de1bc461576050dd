#include <zlib.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "readers/byte_source.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kInputBytes = std::size_t{1} << 16;  // untuned
constexpr int kGzipWindow = 15 + 16;                       // largest window, gzip header wanted
// A deflate stream cannot expand by more than 1032 (zlib's technical notes).
constexpr std::uint64_t kLargestExpansion = 1032;

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> compressed)
      : ByteSource(compressed->name()), compressed_(std::move(compressed)), input_(kInputBytes) {
    if (inflateInit2(&stream_, kGzipWindow) != Z_OK) {
      throw Error(Errc::kOutOfMemory, name() + ": gzip decoder could not be set up");
    }
  }

  ~GzipSource() override { inflateEnd(&stream_); }

  std::size_t read(void* out, std::size_t bytes) override {
    std::size_t done = 0;
    while (done < bytes && !ended_) {
      const auto room = std::min<std::size_t>(bytes - done, std::numeric_limits<uInt>::max());
      stream_.next_out = static_cast<Bytef*>(out) + done;
      stream_.avail_out = static_cast<uInt>(room);
      step();
      done += room - stream_.avail_out;
    }
    return done;
  }

  std::optional<std::uint64_t> largest_size() const override {
    const auto size = compressed_->size();
    std::uint64_t largest = 0;
    if (!size || __builtin_mul_overflow(*size, kLargestExpansion, &largest)) return std::nullopt;
    return largest;
  }

 private:
  bool refill() {
    const std::size_t got = compressed_->read(input_.data(), input_.size());
    stream_.next_in = input_.data();
    stream_.avail_in = static_cast<uInt>(got);
    taken_ += got;
    return got > 0;
  }

  void step() {
    if (stream_.avail_in == 0 && !refill()) {
      if (between_members_ && taken_ > 0) {
        ended_ = true;
        return;
      }
      throw Error(Errc::kInvalidArgument, name() + ": byte " + std::to_string(taken_) +
                                              ": gzip stream must be complete, got its end early");
    }
    if (between_members_) {
      if (inflateReset(&stream_) != Z_OK) fail("inconsistent state");
      between_members_ = false;
    }
    const int code = inflate(&stream_, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      between_members_ = true;
    } else if (code == Z_MEM_ERROR) {
      throw Error(Errc::kOutOfMemory, name() + ": not enough memory for the gzip decoder");
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      fail(stream_.msg != nullptr ? stream_.msg : "unknown reason");
    }
  }

  [[noreturn]] void fail(const char* reason) {
    throw Error(Errc::kInvalidArgument, name() + ": byte " +
                                            std::to_string(taken_ - stream_.avail_in) +
                                            ": gzip stream must be intact, got: " + reason);
  }

  std::unique_ptr<ByteSource> compressed_;
  std::vector<Bytef> input_;
  z_stream stream_{};
  std::uint64_t taken_ = 0;
  bool between_members_ = true;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_gzip(std::unique_ptr<ByteSource> compressed) {
  return std::make_unique<GzipSource>(std::move(compressed));
}

}  // namespace thresher

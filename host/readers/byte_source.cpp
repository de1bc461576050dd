#include "readers/byte_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "thresher/error.hpp"

namespace thresher {
namespace {

// Linux transfers at most 2^31 - 4096 bytes per call.
constexpr std::size_t kLargestRead = std::size_t{1} << 30;

std::string system_reason(int error_number) {
  return std::generic_category().message(error_number);
}

class FileSource : public ByteSource {
 public:
  FileSource(const std::string& function, const std::string& path)
      : ByteSource(function + ": " + path) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) {
      throw Error(Errc::kFile, name() + ": cannot be opened: " + system_reason(errno));
    }
    struct stat status {};
    if (::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode)) {
      size_ = static_cast<std::uint64_t>(status.st_size);
    }
  }

  ~FileSource() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  std::size_t read(void* out, std::size_t bytes) override {
    std::size_t done = 0;
    while (done < bytes) {
      const ssize_t got =
          ::read(descriptor_, static_cast<char*>(out) + done, std::min(bytes - done, kLargestRead));
      if (got < 0) {
        if (errno == EINTR) continue;
        throw Error(Errc::kFile, name() + ": cannot be read: " + system_reason(errno));
      }
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  std::optional<std::uint64_t> size() const override { return size_; }

 private:
  int descriptor_ = -1;
  std::optional<std::uint64_t> size_;
};

}  // namespace

std::size_t MemorySource::read(void* out, std::size_t bytes) {
  const std::size_t got = std::min(bytes, bytes_.size() - position_);
  if (got > 0) std::memcpy(out, bytes_.data() + position_, got);
  position_ += got;
  return got;
}

std::optional<std::uint64_t> MemorySource::size() const {
  if (!size_known_) return std::nullopt;
  return bytes_.size();
}

std::unique_ptr<ByteSource> open_file(const std::string& function, const std::string& path) {
  return std::make_unique<FileSource>(function, path);
}

}  // namespace thresher

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace thresher {

/// A stream of bytes with a name for messages ("function: path").
class ByteSource {
 public:
  explicit ByteSource(std::string name) : name_(std::move(name)) {}
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// Fills `out`; gives fewer than `bytes` only at the end.
  /// Throws   Error{kFile} with the system's reason.
  virtual std::size_t read(void* out, std::size_t bytes) = 0;

  /// Bytes in the whole stream, where that is known before reading.
  virtual std::optional<std::uint64_t> size() const { return std::nullopt; }

  /// No more bytes than this can come, as far as that is known before reading.
  virtual std::optional<std::uint64_t> largest_size() const { return size(); }

  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

/// Bytes that are in memory already; `size_known` false makes it look like a pipe.
class MemorySource : public ByteSource {
 public:
  MemorySource(std::string name, std::string_view bytes, bool size_known = true)
      : ByteSource(std::move(name)), bytes_(bytes), size_known_(size_known) {}

  std::size_t read(void* out, std::size_t bytes) override;
  std::optional<std::uint64_t> size() const override;

 private:
  std::string_view bytes_;
  std::size_t position_ = 0;
  bool size_known_;
};

/// The content of a gzip stream (one or more members, as written by gzip, pigz or bgzip).
/// Throws   Error{kInvalidArgument} naming the byte if it is damaged, cut short or followed by
///          anything else.
std::unique_ptr<ByteSource> open_gzip(std::unique_ptr<ByteSource> compressed);

/// A file or pipe.
/// Throws   Error{kFile} with the system's reason.
std::unique_ptr<ByteSource> open_file(const std::string& function, const std::string& path);

}  // namespace thresher

#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace thresher {

/// Writes to a hidden temporary file beside `path`, moves it into place on commit(), removes it
/// otherwise. If `path` is a symbolic link, the link's target is replaced. Where the file system
/// allows it the temporary file has no name until commit(), so a killed process leaves nothing.
/// Throws   Error{kFile} naming the path and the system's reason; the old file is then untouched.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Buffered: a full disk may be reported by a later write() or by commit().
  void write(const void* data, std::size_t bytes);
  /// Flushes to the device, then renames. Nothing may be written afterwards.
  void commit();

 private:
  void flush();
  void discard() noexcept;
  [[noreturn]] void fail(const char* action, int reason);

  std::string path_;            // as given, for messages
  std::string target_;          // behind all links
  std::string temporary_name_;  // empty while the file has no name
  int descriptor_ = -1;
  std::vector<char> buffer_;
};

/// An open file without a name in `folder`, read and write; it vanishes with its descriptor.
/// Returns -1 with errno set on failure.
int open_unnamed_file(const std::string& folder);

/// The folder of the file that AtomicFile(path) replaces: links followed, "." if none is named.
std::string folder_behind_links(const std::string& path);

}  // namespace thresher

#include "model/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;  // untuned
constexpr int kMaxLinks = 40;                               // the kernel's own limit
constexpr int kMaxNames = 100;
constexpr mode_t kNewFileMode = 0666;  // the process's umask takes its share

std::string reason_text(int reason) { return std::generic_category().message(reason); }

[[noreturn]] void fail_open(const std::string& path, int reason) {
  throw Error(Errc::kFile,
              "AtomicFile: " + path + " must be writable, got: " + reason_text(reason));
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Follows symbolic links by hand, because the target of the last one need not exist yet.
std::string behind_links(const std::string& path) {
  std::string target = path;
  for (int hop = 0; hop < kMaxLinks; ++hop) {
    struct stat info {};
    if (lstat(target.c_str(), &info) != 0) {
      if (errno == ENOENT) return target;
      fail_open(path, errno);
    }
    if (!S_ISLNK(info.st_mode)) return target;
    std::string link(4096, '\0');
    const ssize_t length = readlink(target.c_str(), link.data(), link.size());
    if (length < 0) fail_open(path, errno);
    link.resize(static_cast<std::size_t>(length));
    target = !link.empty() && link[0] == '/' ? link : folder_of(target) + "/" + link;
  }
  fail_open(path, ELOOP);
}

// Hidden, and not to be taken by another process or another writer in this one.
std::string temporary_name(const std::string& target, int attempt) {
  const std::size_t slash = target.find_last_of('/');
  const std::string base = slash == std::string::npos ? target : target.substr(slash + 1);
  // A name has at most 255 bytes; the hidden one must fit as well.
  return folder_of(target) + "/." + base.substr(0, 200) + "." + std::to_string(getpid()) + "-" +
         std::to_string(attempt) + ".tmp";
}

bool can_link_unnamed_files() { return access("/proc/self/fd", X_OK) == 0; }

int open_without_name(const std::string& folder) {
#ifdef O_TMPFILE
  return open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kNewFileMode);
#else
  (void)folder;
  errno = EOPNOTSUPP;
  return -1;
#endif
}

// EISDIR: a kernel or file system that does not know O_TMPFILE sees a folder opened for writing.
bool unnamed_unsupported(int reason) {
  return reason == EOPNOTSUPP || reason == EISDIR || reason == EINVAL || reason == ENOENT;
}

}  // namespace

int open_unnamed_file(const std::string& folder) {
  const int unnamed = open_without_name(folder);
  if (unnamed >= 0 || !unnamed_unsupported(errno)) return unnamed;
  std::string name = folder + "/.thresher-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

std::string folder_behind_links(const std::string& path) { return folder_of(behind_links(path)); }

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  if (path.empty()) fail_open("(empty path)", ENOENT);
  target_ = behind_links(path);
  mode_t old_mode = 0;
  struct stat info {};
  if (lstat(target_.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) fail_open(path, EISDIR);
    if (!S_ISREG(info.st_mode)) {
      throw Error(Errc::kFile, "AtomicFile: " + path +
                                   " must be a regular file, got a device, pipe or socket, which "
                                   "a rename would destroy");
    }
    old_mode = info.st_mode & 0777;
  } else if (target_.back() == '/') {
    fail_open(path, EISDIR);
  }
  buffer_.reserve(kBufferBytes);

  if (can_link_unnamed_files()) {
    descriptor_ = open_without_name(folder_of(target_));
    if (descriptor_ < 0 && !unnamed_unsupported(errno)) fail_open(path, errno);
  }
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    const std::string name = temporary_name(target_, attempt);
    descriptor_ = open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, kNewFileMode);
    if (descriptor_ >= 0) {
      temporary_name_ = name;
    } else if (errno != EEXIST || attempt == kMaxNames) {
      fail_open(path, errno);
    }
  }
  // Best effort: a replaced file keeps its permissions.
  if (old_mode != 0) (void)!fchmod(descriptor_, old_mode);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
  if (!temporary_name_.empty()) unlink(temporary_name_.c_str());
  temporary_name_.clear();
}

void AtomicFile::fail(const char* action, int reason) {
  discard();
  throw Error(Errc::kFile, "AtomicFile: " + path_ + " must be writable, got from " + action + ": " +
                               reason_text(reason));
}

void AtomicFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t wrote = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (wrote > 0) {
      done += static_cast<std::size_t>(wrote);
    } else if (wrote == 0) {
      fail("write", ENOSPC);
    } else if (errno != EINTR) {
      fail("write", errno);
    }
  }
  buffer_.clear();
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  if (descriptor_ < 0) fail("write", EBADF);
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const std::size_t part = std::min(bytes, kBufferBytes - buffer_.size());
    buffer_.insert(buffer_.end(), from, from + part);
    from += part;
    bytes -= part;
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void AtomicFile::commit() {
  if (descriptor_ < 0) fail("commit", EBADF);
  flush();
  // Some network and user-space file systems know no fsync; their close() reports errors instead.
  if (fsync(descriptor_) != 0 && errno != EINVAL && errno != ENOSYS) fail("fsync", errno);

  // linkat cannot replace a file, rename can: so the unnamed file gets a hidden name in between.
  const std::string open_file = "/proc/self/fd/" + std::to_string(descriptor_);
  for (int attempt = 0; temporary_name_.empty(); ++attempt) {
    const std::string name = temporary_name(target_, attempt);
    if (linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      temporary_name_ = name;
    } else if (errno != EEXIST || attempt == kMaxNames) {
      fail("linkat", errno);
    }
  }
  const int closed = close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 && errno != EINTR) fail("close", errno);
  if (rename(temporary_name_.c_str(), target_.c_str()) != 0) fail("rename", errno);
  temporary_name_.clear();

  // The rename itself reaches the device with the folder; a failure here loses no file.
  const int folder = open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)fsync(folder);
    close(folder);
  }
}

}  // namespace thresher

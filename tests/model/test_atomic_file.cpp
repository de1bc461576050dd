#include "model/atomic_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "model/sample_model.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

using Names = std::vector<std::string>;

// Runs `body` and expects Error{kFile} whose message has the path and the reason.
template <class Body>
void expect_file_error(const std::string& path, const std::string& reason, Body&& body) {
  try {
    body();
    ADD_FAILURE() << "no error for " << path;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kFile);
    EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
  }
}

void write_all(const std::string& path, const std::string& bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

TEST(AtomicFile, NothingAppearsBeforeCommit) {
  const TemporaryFolder folder;
  write_bytes(folder / "m", "old");
  {
    AtomicFile file(folder / "m");
    file.write("new text", 8);
    EXPECT_EQ(read_bytes(folder / "m"), "old");
    file.commit();
    EXPECT_EQ(read_bytes(folder / "m"), "new text");
  }
  EXPECT_EQ(folder.names(), Names{"m"});
}

TEST(AtomicFile, NothingIsLeftWithoutCommit) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "m");
    const std::string much(1'000'000, 'x');  // more than the buffer
    file.write(much.data(), much.size());
  }
  EXPECT_EQ(folder.names(), Names{});
}

TEST(AtomicFile, ManyWritesAddUp) {
  const TemporaryFolder folder;
  std::string want;
  AtomicFile file(folder / "m");
  for (std::size_t k = 0; k < 2000; ++k) {
    const std::string part(k, static_cast<char>('a' + k % 26));
    file.write(part.data(), part.size());
    want += part;
  }
  file.commit();
  EXPECT_TRUE(read_bytes(folder / "m") == want);
}

TEST(AtomicFile, RelativePathAndLongName) {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const std::string longest(255, 'n');
  write_all("m", "relative");
  write_all(longest, "long");
  std::filesystem::current_path(before);
  EXPECT_EQ(read_bytes(folder / "m"), "relative");
  EXPECT_EQ(read_bytes(folder / longest), "long");
  EXPECT_EQ(folder.names(), (Names{"m", longest}));
}

TEST(AtomicFile, ReplacesTheTargetOfALink) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "real");
  write_bytes(folder / "real/m", "old");
  std::filesystem::create_symlink("real/m", folder / "first");
  std::filesystem::create_symlink(folder / "first", folder / "second");
  write_all(folder / "second", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "first"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "second"));
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "real/m"));
  EXPECT_EQ(read_bytes(folder / "real/m"), "new");
}

TEST(AtomicFile, CreatesTheMissingTargetOfALink) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("target", folder / "link");
  write_all(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_bytes(folder / "target"), "new");
}

TEST(AtomicFile, KeepsPermissions) {
  const TemporaryFolder folder;
  write_bytes(folder / "m", "old");
  ASSERT_EQ(chmod((folder / "m").c_str(), 0640), 0);
  write_all(folder / "m", "new");
  struct stat info {};
  ASSERT_EQ(stat((folder / "m").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(AtomicFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  expect_file_error("no/such", "No such file", [&] { AtomicFile(folder / "no/such"); });
  expect_file_error(folder.path(), "directory", [&] { AtomicFile(folder.path()); });
  expect_file_error(folder / "new/", "directory", [&] { AtomicFile(folder / "new/"); });
  expect_file_error("/dev/full", "regular file", [] { AtomicFile("/dev/full"); });
  write_bytes(folder / "file", "");
  expect_file_error("file/m", "Not a directory", [&] { AtomicFile(folder / "file/m"); });
  std::filesystem::create_symlink("loop", folder / "loop");
  expect_file_error("loop", "symbolic link", [&] { AtomicFile(folder / "loop"); });
  expect_file_error("empty", "", [] { AtomicFile(""); });
  EXPECT_EQ(folder.names(), (Names{"file", "loop"}));
}

TEST(AtomicFile, RefusesAFolderWithoutPermission) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "closed");
  ASSERT_EQ(chmod((folder / "closed").c_str(), 0555), 0);
  // Permissions do not bind root, so a child gives root up.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (geteuid() == 0 && (chmod(folder.path().c_str(), 0755) != 0 || setuid(65534) != 0)) _exit(3);
    try {
      AtomicFile file(folder / "closed/m");
    } catch (const Error& e) {
      const bool right = e.code() == Errc::kFile &&
                         std::string(e.what()).find("Permission denied") != std::string::npos;
      _exit(right ? 0 : 2);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// The limit on file sizes stands in for a full disk where nothing may be mounted.
TEST(AtomicFile, FailedWriteKeepsTheOldFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "m", "old");
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 700'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  expect_file_error(folder / "m", "File too large",
                    [&] { write_all(folder / "m", std::string(1'000'000, 'x')); });
  // Small enough to be noticed by commit() alone.
  limit.rlim_cur = 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  AtomicFile file(folder / "m");
  file.write("eleven byte", 11);
  expect_file_error(folder / "m", "File too large", [&] { file.commit(); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(read_bytes(folder / "m"), "old");
  EXPECT_EQ(folder.names(), Names{"m"});
}

TEST(AtomicFile, FullDiskKeepsTheOldFile) {
  const TemporaryFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "a small tmpfs cannot be mounted here";
  }
  write_bytes(folder / "m", "old");
  expect_file_error(folder / "m", "No space left",
                    [&] { write_all(folder / "m", std::string(1'000'000, 'x')); });
  EXPECT_EQ(read_bytes(folder / "m"), "old");
  EXPECT_EQ(folder.names(), Names{"m"});
  EXPECT_EQ(umount(folder.path().c_str()), 0);
}

TEST(AtomicFile, KilledProcessLeavesTheOldFileAlone) {
  const TemporaryFolder folder;
  write_bytes(folder / "m", "old");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    AtomicFile file(folder / "m");
    const std::string much(1'000'000, 'x');
    file.write(much.data(), much.size());
    (void)!write(ready[1], "!", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  close(ready[0]);
  close(ready[1]);
  EXPECT_EQ(read_bytes(folder / "m"), "old");
  // Where files without a name exist, as on tmpfs, ext4, xfs, btrfs and overlayfs of new kernels.
  const int unnamed = open(folder.path().c_str(), O_TMPFILE | O_RDWR, 0600);
  if (unnamed >= 0) {
    close(unnamed);
    EXPECT_EQ(folder.names(), Names{"m"});
  }
}

TEST(AtomicFile, TwoWritersOfOnePathDoNotMix) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "m");
  AtomicFile second(folder / "m");
  first.write("first", 5);
  second.write("second", 6);
  first.commit();
  EXPECT_EQ(read_bytes(folder / "m"), "first");
  second.commit();
  EXPECT_EQ(read_bytes(folder / "m"), "second");
  EXPECT_EQ(folder.names(), Names{"m"});
}

// Between linking and renaming the temporary file has a name; it must go when renaming fails.
TEST(AtomicFile, FailedRenameLeavesNothing) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "m");
  std::filesystem::create_directory(folder / "m");
  expect_file_error(folder / "m", "rename", [&] { file.commit(); });
  EXPECT_EQ(folder.names(), Names{"m"});
}

TEST(AtomicFile, RefusesUseAfterCommit) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "m");
  file.commit();
  EXPECT_THROW(file.write("x", 1), Error);
  EXPECT_THROW(file.commit(), Error);
  EXPECT_EQ(read_bytes(folder / "m"), "");
}

}  // namespace
}  // namespace thresher

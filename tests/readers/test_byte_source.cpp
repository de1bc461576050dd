#include <string>

#include "reader_cases.hpp"

namespace thresher {
namespace {

// Reads through a small buffer, so that members and refills fall on odd places.
std::string read_all(ByteSource& source, std::size_t at_once) {
  std::string out;
  std::string buffer(at_once, '\0');
  for (;;) {
    const std::size_t got = source.read(buffer.data(), at_once);
    out.append(buffer, 0, got);
    if (got < at_once) return out;
  }
}

std::string gunzip(std::string_view compressed, std::size_t at_once = 7) {
  const auto source = open_gzip(std::make_unique<MemorySource>("test: x.gz", compressed));
  return read_all(*source, at_once);
}

TEST(GzipSource, GivesTheContentOfAllMembers) {
  std::string large;
  for (int i = 0; i < 300'000; ++i) large += std::to_string(i) + ",";

  EXPECT_EQ(gunzip(gzip("hello, world")), "hello, world");
  EXPECT_EQ(gunzip(gzip("one ") + gzip("") + gzip("two")), "one two");
  EXPECT_EQ(gunzip(gzip(large), 4096), large);
}

TEST(GzipSource, RefusesStreamsThatEndEarly) {
  const std::string whole = gzip("hello, world");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(Errc::kInvalidArgument,
                 "test: x.gz: byte " + std::to_string(size) +
                     ": gzip stream must be complete, got its end early",
                 [&] { gunzip(whole.substr(0, size)); });
  }
}

TEST(GzipSource, RefusesDamageAndTrailingBytes) {
  std::string damaged = gzip("hello, world");
  damaged[damaged.size() - 8] ^= 1;
  expect_error(Errc::kInvalidArgument,
               "test: x.gz: byte 28: gzip stream must be intact, got: incorrect data check",
               [&] { gunzip(damaged); });
  EXPECT_THROW(gunzip(gzip("hello, world") + "tail"), Error);
  EXPECT_THROW(gunzip("this is no gzip file"), Error);
}

TEST(FileSource, NamesPathAndReason) {
  const TemporaryFolder folder;
  expect_error(Errc::kFile,
               "read_matrix: /nowhere/x.npy: cannot be opened: No such file or directory",
               [] { open_file("read_matrix", "/nowhere/x.npy"); });
  expect_error(Errc::kFile, "f: " + folder.path("") + ": cannot be read: Is a directory", [&] {
    char byte = 0;
    open_file("f", folder.path(""))->read(&byte, 1);
  });
}

}  // namespace
}  // namespace thresher

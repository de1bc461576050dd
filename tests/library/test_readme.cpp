// What README.md shows must be what runs: the C++ example is docs/example.cpp to the letter, and
// its output is the block printed below it.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The text between the line `opening` and the next line "```".
std::string fenced_block(const std::string& text, const std::string& opening) {
  const std::size_t start = text.find("\n" + opening + "\n");
  if (start == std::string::npos) return {};
  const std::size_t body = start + opening.size() + 2;
  const std::size_t end = text.find("\n```\n", body);
  if (end == std::string::npos) return {};
  return text.substr(body, end + 1 - body);
}

std::string output_of(const std::string& command, int* exit_status) {
  FILE* pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr) << command;
  if (pipe == nullptr) return {};
  std::string out;
  std::array<char, 4096> buffer{};
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.append(buffer.data(), n);
  }
  *exit_status = pclose(pipe);
  return out;
}

TEST(Readme, ShowsTheExampleThatIsCompiled) {
  const std::string readme = text_of(THRESHER_SOURCE "/README.md");
  const std::string shown = fenced_block(readme, "```cpp");
  ASSERT_FALSE(shown.empty());
  EXPECT_EQ(shown, text_of(THRESHER_SOURCE "/docs/example.cpp"));
}

TEST(Readme, ShowsTheOutputOfTheExample) {
  const std::string readme = text_of(THRESHER_SOURCE "/README.md");
  const std::string shown = fenced_block(readme, "```output");
  ASSERT_FALSE(shown.empty());
  int exit_status = -1;
  const std::string printed = output_of("'" THRESHER_README_EXAMPLE "'", &exit_status);
  EXPECT_EQ(exit_status, 0);
  EXPECT_EQ(shown, printed);
}

}  // namespace

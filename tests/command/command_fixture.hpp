#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "thresher/views.hpp"

namespace thresher {

/// What a finished process left.
struct Outcome {
  int code = -1;  ///< exit code, or 128 + signal
  std::string out, err;
};

/// Runs the program itself, in a folder of its own that goes away with the test.
class CommandFixture : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  /// Files below the folder, output of the processes aside.
  std::vector<std::string> files() const;

  /// A .npy of the given shape, C order.
  void write_array(const std::string& name, const std::vector<Index>& shape,
                   const std::vector<double>& values) const;

  /// Words after `thresher`; the working folder is the test's own.
  Outcome run(const std::vector<std::string>& words) const;
  /// The same by /bin/sh, "$thresher" being the program.
  Outcome shell(const std::string& script) const;

  pid_t start(const std::vector<std::string>& words) const;
  Outcome finish(pid_t process) const;

  /// simulate into folder `name`; fails the test if that fails.
  void simulate(const std::string& name, const std::vector<std::string>& words) const;

 private:
  pid_t spawn(const std::vector<std::string>& words) const;

  std::filesystem::path folder_, log_;
};

}  // namespace thresher

#include "command_fixture.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace thresher {
namespace {

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::filesystem::path new_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "thresher-XXXXXX").string();
  return mkdtemp(name.data());
}

}  // namespace

void CommandFixture::SetUp() {
  folder_ = new_folder();
  log_ = new_folder();
}

void CommandFixture::TearDown() {
  std::filesystem::remove_all(folder_);
  std::filesystem::remove_all(log_);
}

void CommandFixture::write(const std::string& name, const std::string& text) const {
  std::ofstream(folder_ / name, std::ios::binary) << text;
}

std::string CommandFixture::read(const std::string& name) const { return content(folder_ / name); }

std::vector<std::string> CommandFixture::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
    if (!entry.is_directory()) {
      names.push_back(std::filesystem::relative(entry.path(), folder_).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void CommandFixture::write_array(const std::string& name, const std::vector<Index>& shape,
                                 const std::vector<double>& values) const {
  std::string dict = "{'descr': '<f8', 'fortran_order': False, 'shape': (";
  for (const Index size : shape) dict += std::to_string(size) + ", ";
  dict += "), }";
  dict.append(117 - dict.size(), ' ');
  dict += '\n';
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(dict.size());
  file += '\0';
  file += dict;
  file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  write(name, file);
}

pid_t CommandFixture::spawn(const std::vector<std::string>& words) const {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const std::string out = log_ / "out";
  const std::string err = log_ / "err";
  const pid_t child = fork();
  if (child != 0) return child;

  // Only calls that are safe after fork from here on.
  const int out_file = open(out.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  const int err_file = open(err.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  const bool ready = chdir(folder_.c_str()) == 0 && dup2(out_file, STDOUT_FILENO) >= 0 &&
                     dup2(err_file, STDERR_FILENO) >= 0;
  if (ready) execv(argv[0], argv.data());
  _exit(127);
}

pid_t CommandFixture::start(const std::vector<std::string>& words) const {
  std::vector<std::string> all{THRESHER_COMMAND};
  all.insert(all.end(), words.begin(), words.end());
  return spawn(all);
}

Outcome CommandFixture::finish(pid_t process) const {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = content(log_ / "out");
  outcome.err = content(log_ / "err");
  return outcome;
}

Outcome CommandFixture::run(const std::vector<std::string>& words) const {
  return finish(start(words));
}

Outcome CommandFixture::shell(const std::string& script) const {
  return finish(spawn({"/bin/sh", "-c", "thresher='" THRESHER_COMMAND "'; " + script}));
}

void CommandFixture::simulate(const std::string& name,
                              const std::vector<std::string>& words) const {
  std::vector<std::string> all{"simulate", "-o", name};
  all.insert(all.end(), words.begin(), words.end());
  const Outcome outcome = run(all);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
}

}  // namespace thresher

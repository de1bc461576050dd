#include <filesystem>
#include <system_error>

#include "command/commands.hpp"
#include "model/atomic_file.hpp"
#include "thresher/error.hpp"

namespace thresher::command {
namespace {

// Also true for two names of a file that does not exist yet.
bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (std::filesystem::equivalent(a, b, error)) return true;
  // absolute first: weakly_canonical leaves a relative name alone if no part of it exists.
  const auto full = [&error](const std::string& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  };
  const auto full_a = full(a);
  if (error) return false;
  const auto full_b = full(b);
  return !error && full_a == full_b;
}

}  // namespace

void check_outputs(const std::vector<std::string>& outputs,
                   const std::vector<std::string>& inputs) {
  std::vector<std::string> taken = inputs;
  for (const std::string& output : outputs) {
    if (output.empty()) continue;
    for (const std::string& other : taken) {
      if (other.empty() || !is_same_file(output, other)) continue;
      throw Error(Errc::kInvalidArgument,
                  "output: must be a file of its own, got " + output + ", which is also " + other);
    }
    taken.push_back(output);
    AtomicFile{output};
  }
}

void write_text_file(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace thresher::command

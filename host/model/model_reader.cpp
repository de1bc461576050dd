#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <map>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "model/model_header.hpp"
#include "model/model_metadata.hpp"
#include "model/model_tensors.hpp"
#include "thresher/error.hpp"
#include "thresher/model_file.hpp"

namespace thresher {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(Errc::kInvalidArgument, where + ": " + what);
}

// A regular file, read at offsets that were checked against its size.
class ReadFile {
 public:
  explicit ReadFile(const std::string& path) : path_(path) {
    // O_NONBLOCK: a pipe without a writer must be refused below, not waited for.
    descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail(std::generic_category().message(errno));
    struct stat info {};
    const int status = fstat(descriptor_, &info);
    const int reason = errno;
    if (status != 0 || !S_ISREG(info.st_mode)) {
      close(descriptor_);
      fail(status != 0 ? std::generic_category().message(reason) : "something else");
    }
    bytes_ = static_cast<std::size_t>(info.st_size);
  }
  ~ReadFile() { close(descriptor_); }
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;

  std::size_t bytes() const { return bytes_; }

  void read(void* data, std::size_t bytes, std::size_t offset) const {
    char* to = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t got = pread(descriptor_, to, bytes, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(std::generic_category().message(errno));
      if (got == 0) fail("a file that became shorter while it was read");
      to += got;
      bytes -= static_cast<std::size_t>(got);
      offset += static_cast<std::size_t>(got);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw Error(Errc::kFile, "load_model: " + path_ + " must be a readable file, got: " + reason);
  }

  std::string path_;
  int descriptor_ = -1;
  std::size_t bytes_ = 0;
};

const std::string& required(const std::map<std::string, std::string>& metadata, const char* key,
                            const std::string& where) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) {
    refuse(where, std::string("metadata must have `") + key + "`, got none");
  }
  return found->second;
}

Index required_size(const std::map<std::string, std::string>& metadata, const char* key,
                    const std::string& where) {
  const std::string& text = required(metadata, key, where);
  Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    refuse(where, std::string("metadata `") + key + "` must be a positive integer, got `" +
                      text.substr(0, 100) + "`");
  }
  return value;
}

std::string shape_text(const std::string& dtype, const TensorShape& shape) {
  std::string text = dtype + " [";
  for (std::size_t d = 0; d < shape.size(); ++d) {
    text += (d == 0 ? "" : ", ") + std::to_string(shape[d]);
  }
  return text + "]";
}

Model read_model(const std::string& path) {
  const std::string where = "load_model: " + path;
  const ReadFile file(path);
  constexpr std::size_t kLengthBytes = 8;
  if (file.bytes() < kLengthBytes) {
    refuse(where, "file must have at least 8 bytes, got " + std::to_string(file.bytes()));
  }
  std::uint64_t header_bytes = 0;
  file.read(&header_bytes, kLengthBytes, 0);
  if (header_bytes > file.bytes() - kLengthBytes || header_bytes > kMaxHeaderBytes) {
    refuse(where, "header length must fit the file's " + std::to_string(file.bytes()) +
                      " bytes and be at most " + std::to_string(kMaxHeaderBytes) + ", got " +
                      std::to_string(header_bytes));
  }
  std::string text(header_bytes, '\0');
  file.read(text.data(), text.size(), kLengthBytes);
  const std::size_t data_begin = kLengthBytes + text.size();
  // From here on every declared size is known to be covered by bytes of the file.
  ParsedHeader header = parse_header(text, file.bytes() - data_begin, where);
  const auto& metadata = header.metadata;

  if (required(metadata, "format", where) != kFormat) {
    refuse(where, std::string("metadata `format` must be `") + kFormat + "`, got `" +
                      metadata.at("format").substr(0, 100) + "`");
  }
  if (required(metadata, "format_version", where) != kFormatVersion) {
    refuse(where, std::string("metadata `format_version` must be ") + kFormatVersion + ", got `" +
                      metadata.at("format_version").substr(0, 100) + "`");
  }

  std::map<std::string, const TensorEntry*> tensors;
  for (const TensorEntry& tensor : header.tensors) tensors[tensor.name] = &tensor;
  const auto find = [&](const char* name, std::size_t n_dimensions) -> const TensorEntry& {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      refuse(where, std::string("tensor `") + name + "` must be there, got none");
    }
    if (found->second->shape.size() != n_dimensions) {
      refuse(where, std::string("tensor `") + name + "` must have " + std::to_string(n_dimensions) +
                        " dimensions, got " + std::to_string(found->second->shape.size()));
    }
    return *found->second;
  };

  // Four tensors and two texts fix the shape; then all tensors must agree with it.
  ModelShape shape;
  shape.n_samples = required_size(metadata, "n_samples", where);
  shape.n_features = required_size(metadata, "n_features", where);
  const TensorShape& fits = find("lambda", 3).shape;
  shape.n_responses = fits[0];
  shape.n_l1_ratios = fits[1];
  shape.n_lambdas = fits[2];
  shape.n_values = find("coef.values", 1).shape[0];
  shape.has_cv = std::any_of(tensors.begin(), tensors.end(),
                             [](const auto& t) { return t.first.starts_with("cv."); });
  shape.has_predictions = tensors.count("cv.predictions") != 0;
  if (shape.has_cv) shape.n_folds = find("cv.fold_error", 4).shape[3];
  check_sizes(shape, where);

  Model model;
  model.n_samples = shape.n_samples;
  model.n_features = shape.n_features;
  model.n_responses = shape.n_responses;
  model.n_l1_ratios = shape.n_l1_ratios;
  model.n_lambdas = shape.n_lambdas;
  if (shape.has_cv) {
    model.cv.emplace();
    model.cv->n_folds = shape.n_folds;
  }
  for_each_tensor(model, shape, [&](const char* name, const TensorShape& sizes, auto& values) {
    using T = typename std::remove_reference_t<decltype(values)>::value_type;
    const TensorEntry& tensor = find(name, sizes.size());
    if (tensor.dtype != TensorType<T>::kName || tensor.shape != sizes) {
      refuse(where, std::string("tensor `") + name + "` must be " +
                        shape_text(TensorType<T>::kName, sizes) + ", got " +
                        shape_text(tensor.dtype, tensor.shape));
    }
  });
  for_each_tensor(model, shape, [&](const char* name, const TensorShape&, auto& values) {
    const TensorEntry& tensor = *tensors.at(name);
    values.resize((tensor.end - tensor.begin) / sizeof(values[0]));
    file.read(values.data(), tensor.end - tensor.begin, data_begin + tensor.begin);
  });

  if (const auto names = metadata.find("feature_names"); names != metadata.end()) {
    model.feature_names =
        names_from_json(names->second, shape.n_features, where + ": feature_names");
  }
  if (const auto names = metadata.find("response_names"); names != metadata.end()) {
    model.response_names =
        names_from_json(names->second, shape.n_responses, where + ": response_names");
  }
  model.metadata = std::move(header.metadata);
  for (const char* key : kStructuralKeys) model.metadata.erase(key);
  check_model(model, where);
  return model;
}

}  // namespace

Model load_model(const std::string& path) {
  try {
    return read_model(path);
  } catch (const std::bad_alloc&) {
    throw Error(Errc::kOutOfMemory, "load_model: " + path + " must fit in memory, got no more");
  }
}

}  // namespace thresher

#include "readers/matrix_file.hpp"

#include <new>
#include <stdexcept>
#include <string_view>

#include "readers/byte_source.hpp"
#include "readers/matrix_readers.hpp"
#include "readers/number_text.hpp"
#include "readers/text_lines.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

enum class Format { kNpy, kCsv, kTsv, kSvmlight, kMatrixMarket };

struct NamedFormat {
  std::string_view ending;
  Format format;
};

constexpr NamedFormat kFormats[] = {
    {".npy", Format::kNpy},           {".csv", Format::kCsv},
    {".tsv", Format::kTsv},           {".svm", Format::kSvmlight},
    {".svmlight", Format::kSvmlight}, {".libsvm", Format::kSvmlight},
    {".mtx", Format::kMatrixMarket}};

// Takes `ending` off `path` if it is there, in any case.
bool take_ending(std::string_view& path, std::string_view ending) {
  if (path.size() <= ending.size()) return false;
  const std::string_view tail = path.substr(path.size() - ending.size());
  for (std::size_t i = 0; i < ending.size(); ++i) {
    const char c = tail[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != ending[i]) return false;
  }
  path.remove_suffix(ending.size());
  return true;
}

Format find_format(const std::string& path) {
  std::string_view stem = path;
  take_ending(stem, ".gz");
  for (const NamedFormat& known : kFormats) {
    if (take_ending(stem, known.ending)) return known.format;
  }
  throw Error(Errc::kInvalidArgument,
              "read_matrix: file name must end in .npy, .csv, .tsv, .svm, .svmlight, .libsvm or "
              ".mtx, with or without .gz, got " +
                  in_quotes(path));
}

std::unique_ptr<ByteSource> open_source(const std::string& function, const std::string& path) {
  auto source = open_file(function, path);
  std::string_view stem = path;
  if (take_ending(stem, ".gz")) source = open_gzip(std::move(source));
  return source;
}

MatrixFile read_format(Format format, ByteSource& source, const ReadOptions& options) {
  switch (format) {
    case Format::kNpy:
      return read_npy(source, options);
    case Format::kCsv:
      return read_csv(source, ',', options);
    case Format::kTsv:
      return read_csv(source, '\t', options);
    case Format::kSvmlight:
      return read_svmlight(source, options);
    case Format::kMatrixMarket:
      return read_matrix_market(source, options);
  }
  return {};
}

// A standard container that cannot get its memory throws one of two exceptions of its own.
template <class Read>
auto with_memory_errors(const std::string& where, const Read& read) {
  try {
    return read();
  } catch (const std::bad_alloc&) {
    throw Error(Errc::kOutOfMemory, where + ": not enough memory to hold the file's content");
  } catch (const std::length_error&) {
    throw Error(Errc::kOutOfMemory, where + ": not enough memory to hold the file's content");
  }
}

}  // namespace

AnyMatrix MatrixFile::view() const {
  const auto as_view = [this](const auto* data) {
    using View = MatrixView<std::remove_pointer_t<decltype(data)>>;
    return AnyMatrix(column_major ? View::column_major(data, rows, cols)
                                  : View::row_major(data, rows, cols));
  };
  return is_float ? as_view(f32.data()) : as_view(f64.data());
}

MatrixFile read_matrix(const std::string& path, const ReadOptions& options) {
  const Format format = find_format(path);
  return with_memory_errors("read_matrix: " + path, [&] {
    const auto source = open_source("read_matrix", path);
    return read_format(format, *source, options);
  });
}

std::vector<std::string> read_names(const std::string& path) {
  return with_memory_errors("read_names: " + path, [&] {
    const auto source = open_source("read_names", path);
    return read_name_lines(*source);
  });
}

std::vector<std::string> read_name_lines(ByteSource& source) {
  std::vector<std::string> names;
  TextLines lines(source);
  std::string_view line;
  Index empty_line = 0;
  while (lines.next(line)) {
    if (empty_line > 0) {
      throw Error(Errc::kInvalidArgument, source.name() + ":" + std::to_string(empty_line) +
                                              ":1: line must hold a name, got an empty line");
    }
    if (line.find('\0') != std::string_view::npos) {
      lines.refuse(static_cast<Index>(line.find('\0')) + 1, "name must be text, got a NUL byte");
    }
    if (line.empty()) {
      empty_line = lines.number();
    } else {
      names.emplace_back(line);
    }
  }
  return names;
}

}  // namespace thresher

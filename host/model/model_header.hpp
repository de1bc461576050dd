#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "model/model_tensors.hpp"

// The JSON header of a model file, both ways. This pair of files is the only place that knows JSON.

namespace thresher {

/// Where one tensor lies: bytes [begin, end) of the data behind the header.
struct TensorEntry {
  std::string name;
  std::string dtype;
  TensorShape shape;
  std::size_t begin = 0;
  std::size_t end = 0;
};

struct ParsedHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorEntry> tensors;  // in the order of the data, without holes or overlap
};

/// The limit of the `safetensors` package, which would refuse a longer header.
inline constexpr std::size_t kMaxHeaderBytes = 100'000'000;

/// Length, JSON and padding: everything before the data.
/// Throws   Error{kInvalidArgument} if a metadata text is not UTF-8 or the header is too long.
std::string write_header(const std::map<std::string, std::string>& metadata,
                         const std::vector<TensorEntry>& tensors, const std::string& where);

/// Parses and checks the JSON text of a header whose data has `data_bytes` bytes: known types,
/// shapes that agree with the offsets, tensors that fill the data exactly.
/// Throws   Error{kInvalidArgument}.
ParsedHeader parse_header(const std::string& text, std::size_t data_bytes,
                          const std::string& where);

/// Names as a JSON list, and back.
/// Throws   Error{kInvalidArgument} naming the first name that is not UTF-8, or if the text is not
///          a list of `count` strings.
std::string names_to_json(const std::vector<std::string>& names, const std::string& what);
std::vector<std::string> names_from_json(const std::string& text, Index count,
                                         const std::string& what);

/// Throws Error{kInvalidArgument} unless every key and text is UTF-8.
void check_metadata(const std::map<std::string, std::string>& metadata, const std::string& where);

}  // namespace thresher

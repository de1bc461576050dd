#include "model/model_header.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "thresher/error.hpp"

namespace thresher {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps the tensors in the order of the data

// A header of ours has about 25 tensors and as many metadata texts.
constexpr std::size_t kMaxHeaderValues = 100'000;
constexpr std::size_t kMaxDimensions = 8;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(Errc::kInvalidArgument, where + ": " + what);
}

std::string in_ticks(const std::string& name) { return "`" + name.substr(0, 100) + "`"; }

bool is_utf8(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// Parses with bounds on depth and number of values, so that a small file cannot make a large tree,
// and refuses a key that appears twice.
Json parse_bounded(const std::string& text, int max_depth, std::size_t max_values,
                   const std::string& where) {
  std::vector<std::set<std::string>> keys;
  std::size_t n_values = 0;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case Json::parse_event_t::array_start:
        if (depth >= max_depth) refuse(where, "JSON must not be nested deeper");
        [[fallthrough]];
      case Json::parse_event_t::value:
        if (++n_values > max_values) {
          refuse(where, "JSON must have at most " + std::to_string(max_values) + " values");
        }
        break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(parsed.get<std::string>()).second) {
          refuse(where,
                 "JSON keys must be unique, got " + in_ticks(parsed.get<std::string>()) + " twice");
        }
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::array_end:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& e) {
    refuse(where, std::string("JSON must be valid, got: ") + e.what());
  }
}

// Bytes per element of the types the format knows; 0 for others.
Index element_bytes(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "U8" || dtype == "I8" || dtype == "BOOL" || dtype == "F8_E4M3" ||
      dtype == "F8_E5M2") {
    return 1;
  }
  return 0;
}

Index size_value(const Json& value, const std::string& where) {
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<Index>::max()}) {
    refuse(where, "sizes and offsets must be integers in 0 .. 2^63 - 1, got " +
                      value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 100));
  }
  return value.get<Index>();
}

TensorEntry parse_tensor(const std::string& name, const Json& value, const std::string& where) {
  const std::string tensor = where + ": tensor " + in_ticks(name);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets") || !value["dtype"].is_string() ||
      !value["shape"].is_array() || !value["data_offsets"].is_array()) {
    refuse(tensor, "must have a dtype, a shape and data_offsets, and nothing else");
  }
  TensorEntry entry;
  entry.name = name;
  entry.dtype = value["dtype"].get<std::string>();
  if (value["shape"].size() > kMaxDimensions) {
    refuse(tensor, "must have at most " + std::to_string(kMaxDimensions) + " dimensions, got " +
                       std::to_string(value["shape"].size()));
  }
  Index bytes = element_bytes(entry.dtype);
  if (bytes == 0) refuse(tensor, "dtype must be known, got " + in_ticks(entry.dtype));
  for (const Json& size : value["shape"]) {
    entry.shape.push_back(size_value(size, tensor));
    bytes = checked_product(bytes, entry.shape.back(), tensor);
  }
  const Json& offsets = value["data_offsets"];
  if (offsets.size() != 2) {
    refuse(tensor,
           "data_offsets must be a begin and an end, got " + std::to_string(offsets.size()));
  }
  const Index begin = size_value(offsets[0], tensor);
  const Index end = size_value(offsets[1], tensor);
  if (end < begin || end - begin != bytes) {
    refuse(tensor, "data_offsets must span the " + std::to_string(bytes) +
                       " bytes of its shape, got " + std::to_string(begin) + " .. " +
                       std::to_string(end));
  }
  entry.begin = static_cast<std::size_t>(begin);
  entry.end = static_cast<std::size_t>(end);
  return entry;
}

}  // namespace

void check_metadata(const std::map<std::string, std::string>& metadata, const std::string& where) {
  for (const auto& [key, text] : metadata) {
    if (!is_utf8(key) || !is_utf8(text)) {
      refuse(where, "metadata must be UTF-8, got other bytes in entry " +
                        (is_utf8(key) ? in_ticks(key) : std::string("with a broken key")));
    }
  }
}

std::string write_header(const std::map<std::string, std::string>& metadata,
                         const std::vector<TensorEntry>& tensors, const std::string& where) {
  check_metadata(metadata, where);
  OrderedJson header;
  header["__metadata__"] = metadata;
  for (const TensorEntry& tensor : tensors) {
    OrderedJson& entry = header[tensor.name];
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.begin, tensor.end};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes) {
    refuse(where, "names and metadata must fit a header of " + std::to_string(kMaxHeaderBytes) +
                      " bytes, got " + std::to_string(text.size()));
  }
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) {
    bytes.push_back(static_cast<char>((std::uint64_t{text.size()} >> shift) & 0xff));
  }
  return bytes + text;
}

ParsedHeader parse_header(const std::string& text, std::size_t data_bytes,
                          const std::string& where) {
  if (text.empty() || text[0] != '{') refuse(where, "header must start with `{`");
  constexpr int kDepth = 3;  // header, tensor, shape
  const Json json = parse_bounded(text, kDepth, kMaxHeaderValues, where + ": header");
  ParsedHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(parse_tensor(name, value, where));
      continue;
    }
    if (!value.is_object()) refuse(where, "__metadata__ must be an object");
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_string()) refuse(where, "metadata " + in_ticks(key) + " must be a string");
      header.metadata[key] = entry.get<std::string>();
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
            });
  std::size_t end = 0;
  for (const TensorEntry& tensor : header.tensors) {
    if (tensor.begin != end) {
      refuse(where, "tensor " + in_ticks(tensor.name) +
                        " must begin where the one before ends, at " + std::to_string(end) +
                        ", got " + std::to_string(tensor.begin));
    }
    end = tensor.end;
  }
  if (end != data_bytes) {
    refuse(where, "tensors must fill the file's " + std::to_string(data_bytes) +
                      " bytes of data, got " + std::to_string(end));
  }
  return header;
}

std::string names_to_json(const std::vector<std::string>& names, const std::string& what) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!is_utf8(names[i]))
      refuse(what, "must be UTF-8, got other bytes in name " + std::to_string(i));
  }
  return Json(names).dump();
}

std::vector<std::string> names_from_json(const std::string& text, Index count,
                                         const std::string& what) {
  // The list itself is one value more.
  const Json json = parse_bounded(text, 1, static_cast<std::size_t>(count) + 1, what);
  if (!json.is_array() || json.size() != static_cast<std::size_t>(count)) {
    refuse(what, "must be a list of " + std::to_string(count) + " names, got " +
                     std::to_string(json.is_array() ? json.size() : 0));
  }
  std::vector<std::string> names;
  names.reserve(json.size());
  for (const Json& name : json) {
    if (!name.is_string())
      refuse(what, "must hold strings, got a " + std::string(name.type_name()));
    names.push_back(name.get<std::string>());
  }
  return names;
}

}  // namespace thresher

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "readers/byte_source.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// What the header of a .npy file declares.
struct NpyHeader {
  std::string descr;  ///< such as "<f8"
  bool fortran_order = false;
  std::vector<Index> shape;
  std::uint64_t data_begin = 0;  ///< bytes before the data
};

/// Takes the header (format versions 1, 2 and 3) off the stream.
/// Throws   Error{kInvalidArgument} naming the byte if it is malformed or longer than 1 MiB.
NpyHeader read_npy_header(ByteSource& source);

/// Throws Error{kInvalidArgument} `function: path: byte N: message`.
[[noreturn]] void refuse_at_byte(const ByteSource& source, std::uint64_t byte,
                                 const std::string& message);

}  // namespace thresher

#include "command/npy_stream.hpp"

#include <bit>
#include <stdexcept>

namespace thresher::command {

static_assert(std::endian::native == std::endian::little, "the header says '<f8'");

NpyStream::NpyStream(const std::string& path, Index rows, Index cols, Order order)
    : file_(path), missing_(rows * cols) {
  std::string dict = "{'descr': '<f8', 'fortran_order': ";
  dict += order == Order::kColumns ? "True" : "False";
  dict += ", 'shape': (" + std::to_string(rows) + ", " + std::to_string(cols) + "), }";
  // Format 1.0: magic, version, 2-byte length; the whole header fills multiples of 64 bytes.
  constexpr std::size_t kPrefix = 10;
  const std::size_t filled = (kPrefix + dict.size() + 1 + 63) / 64 * 64;
  dict.append(filled - kPrefix - dict.size() - 1, ' ');
  dict += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dict.size() & 0xff);
  header += static_cast<char>(dict.size() >> 8);
  header += dict;
  file_.write(header.data(), header.size());
}

void NpyStream::append(std::span<const double> values) {
  file_.write(values.data(), values.size_bytes());
  missing_ -= static_cast<Index>(values.size());
}

void NpyStream::commit() {
  if (missing_ != 0) throw std::logic_error("NpyStream: values and shape must agree");
  file_.commit();
}

}  // namespace thresher::command

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "readers/matrix_readers.hpp"
#include "readers/memory_guard.hpp"
#include "readers/npy_header.hpp"
#include "readers/number_text.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;  // stays in the second-level cache

struct Half {
  std::uint16_t bits;
};

struct Bool {
  std::uint8_t byte;
};

enum class ItemType { kBool, kI1, kI2, kI4, kI8, kU1, kU2, kU4, kU8, kF2, kF4, kF8 };

struct Dtype {
  ItemType type = ItemType::kF8;
  std::size_t bytes = 8;
  bool swapped = false;
};

Dtype parse_dtype(const ByteSource& source, const NpyHeader& header) {
  struct Known {
    std::string_view code;
    ItemType type;
    std::size_t bytes;
  };
  static constexpr Known kKnown[] = {
      {"b1", ItemType::kBool, 1}, {"i1", ItemType::kI1, 1}, {"i2", ItemType::kI2, 2},
      {"i4", ItemType::kI4, 4},   {"i8", ItemType::kI8, 8}, {"u1", ItemType::kU1, 1},
      {"u2", ItemType::kU2, 2},   {"u4", ItemType::kU4, 4}, {"u8", ItemType::kU8, 8},
      {"f2", ItemType::kF2, 2},   {"f4", ItemType::kF4, 4}, {"f8", ItemType::kF8, 8}};
  const std::string_view descr = header.descr;
  const char order = descr.empty() ? '\0' : descr[0];
  const bool native_is_little = std::endian::native == std::endian::little;
  for (const Known& known : kKnown) {
    if (descr.empty() || descr.substr(1) != known.code) continue;
    // '|' means that order does not matter, so it is a lie for wider items.
    const bool order_known =
        order == '<' || order == '>' || order == '=' || (order == '|' && known.bytes == 1);
    if (!order_known) break;
    const bool swapped = known.bytes > 1 && order == (native_is_little ? '>' : '<');
    return {known.type, known.bytes, swapped};
  }
  refuse_at_byte(source, 0,
                 "dtype must be bool, an integer of 1 to 8 bytes or a float of 2, 4 or 8, got " +
                     in_quotes(descr));
}

double to_double(Half half) {
  const double sign = (half.bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = (half.bits >> 10) & 31;
  const double fraction = half.bits & 1023u;
  if (exponent == 31) return fraction == 0.0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0 + fraction, exponent - 25);
}

double to_double(Bool value) { return value.byte != 0 ? 1.0 : 0.0; }

template <class Number>
double to_double(Number value) {
  return static_cast<double>(value);
}

template <std::size_t kBytes>
void swap_items(char* bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    std::reverse(bytes + i * kBytes, bytes + (i + 1) * kBytes);
}

void swap_items(char* bytes, std::size_t count, std::size_t item_bytes) {
  if (item_bytes == 2) swap_items<2>(bytes, count);
  if (item_bytes == 4) swap_items<4>(bytes, count);
  if (item_bytes == 8) swap_items<8>(bytes, count);
}

// Items in file order, one format to the other. Gives the first finite item that became infinite,
// else `count`.
template <class Item, class T>
std::size_t convert_items(const char* bytes, std::size_t count, T* out) {
  std::size_t out_of_range = count;
  for (std::size_t i = 0; i < count; ++i) {
    Item item;
    std::memcpy(&item, bytes + i * sizeof(Item), sizeof(Item));
    const double value = to_double(item);
    out[i] = static_cast<T>(value);
    if constexpr (std::is_same_v<T, float>) {
      if (std::isinf(out[i]) && !std::isinf(value)) out_of_range = std::min(out_of_range, i);
    }
  }
  return out_of_range;
}

template <class T>
std::size_t convert(const Dtype& dtype, const char* bytes, std::size_t count, T* out) {
  switch (dtype.type) {
    case ItemType::kBool:
      return convert_items<Bool>(bytes, count, out);
    case ItemType::kI1:
      return convert_items<std::int8_t>(bytes, count, out);
    case ItemType::kI2:
      return convert_items<std::int16_t>(bytes, count, out);
    case ItemType::kI4:
      return convert_items<std::int32_t>(bytes, count, out);
    case ItemType::kI8:
      return convert_items<std::int64_t>(bytes, count, out);
    case ItemType::kU1:
      return convert_items<std::uint8_t>(bytes, count, out);
    case ItemType::kU2:
      return convert_items<std::uint16_t>(bytes, count, out);
    case ItemType::kU4:
      return convert_items<std::uint32_t>(bytes, count, out);
    case ItemType::kU8:
      return convert_items<std::uint64_t>(bytes, count, out);
    case ItemType::kF2:
      return convert_items<Half>(bytes, count, out);
    case ItemType::kF4:
      return convert_items<float>(bytes, count, out);
    case ItemType::kF8:
      return convert_items<double>(bytes, count, out);
  }
  return 0;
}

template <class T>
constexpr ItemType kItemOf = std::is_same_v<T, float> ? ItemType::kF4 : ItemType::kF8;

// Huge pages: fewer faults while reading, and fewer misses whenever X is read in blocks. NumPy asks
// for the same.
void ask_for_huge_pages(void* data, std::size_t bytes) {
  constexpr std::size_t kPage = std::size_t{2} << 20;
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

// Memory grows with the bytes that really come, unless the file is known to hold them all.
template <class T>
void read_items(ByteSource& source, const NpyHeader& header, const Dtype& dtype, std::size_t count,
                std::vector<T>& out) {
  const std::size_t chunk = kChunkBytes / dtype.bytes;
  const bool direct = dtype.type == kItemOf<T>;
  std::vector<char> bytes(direct ? 0 : std::min(chunk, count) * dtype.bytes);
  if (source.size()) {
    out.reserve(count);
    ask_for_huge_pages(out.data(), count * sizeof(T));
  }
  for (std::size_t done = 0; done < count;) {
    const std::size_t now = std::min(chunk, count - done);
    if (done + now > out.capacity()) out.reserve(std::min(count, 2 * (done + now)));
    out.resize(done + now);
    char* target = direct ? reinterpret_cast<char*>(out.data() + done) : bytes.data();
    const std::size_t got = source.read(target, now * dtype.bytes);
    if (got < now * dtype.bytes) {
      refuse_at_byte(source, header.data_begin + done * dtype.bytes + got,
                     "data must be " + std::to_string(count * dtype.bytes) +
                         " bytes long, got the end of the file after " +
                         std::to_string(done * dtype.bytes + got));
    }
    if (dtype.swapped) swap_items(target, now, dtype.bytes);
    const std::size_t bad = direct ? now : convert(dtype, target, now, out.data() + done);
    if (bad < now) {
      refuse_at_byte(source, header.data_begin + (done + bad) * dtype.bytes,
                     "value must be within the range of float, got more");
    }
    done += now;
  }
}

}  // namespace

MatrixFile read_npy(ByteSource& source, const ReadOptions& options) {
  const NpyHeader header = read_npy_header(source);
  const Dtype dtype = parse_dtype(source, header);
  if (header.shape.empty() || header.shape.size() > 2) {
    refuse_at_byte(source, 0,
                   "array must have 1 or 2 dimensions, got " + std::to_string(header.shape.size()));
  }
  MatrixFile out;
  out.rows = header.shape[0];
  out.cols = header.shape.size() == 2 ? header.shape[1] : 1;
  out.column_major = header.fortran_order || header.shape.size() == 1;
  out.is_float = options.as_float || dtype.type == ItemType::kF4;
  if (out.rows == 0 || out.cols == 0) {
    refuse_at_byte(source, 0,
                   "array must have at least one row and one column, got " +
                       std::to_string(out.rows) + " x " + std::to_string(out.cols));
  }

  const auto declared = matrix_bytes(out.rows, out.cols, dtype.bytes);
  const auto known = source.largest_size();
  const std::uint64_t most = known ? *known - std::min(*known, header.data_begin) : UINT64_MAX;
  const bool exact = source.size().has_value();
  if (!declared || *declared > most || (exact && *declared < most)) {
    refuse_at_byte(source, header.data_begin,
                   "data must be " + std::to_string(out.rows) + " x " + std::to_string(out.cols) +
                       " items of " + std::to_string(dtype.bytes) + " bytes, got " +
                       (exact ? "" : "at most ") + std::to_string(most) + " bytes");
  }
  const MemoryGuard memory(source.name(), options.max_bytes);
  memory.require_matrix(out.rows, out.cols, out.is_float ? sizeof(float) : sizeof(double));

  const std::size_t count = *declared / dtype.bytes;
  if (out.is_float) {
    read_items(source, header, dtype, count, out.f32);
  } else {
    read_items(source, header, dtype, count, out.f64);
  }
  char extra = 0;
  if (source.read(&extra, 1) != 0) {
    refuse_at_byte(source, header.data_begin + *declared,
                   "file must end after its data, got more bytes");
  }
  return out;
}

}  // namespace thresher

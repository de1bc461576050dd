// One libFuzzer target per format, chosen by THRESHER_FUZZ_TARGET; built and run by fuzz.sh.
// The first byte of an input holds the options, the rest is the file.

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "readers/byte_source.hpp"
#include "readers/matrix_readers.hpp"
#include "thresher/error.hpp"
#include "thresher/model_file.hpp"

namespace thresher::fuzz {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 24;

void require(bool condition) {
  if (!condition) std::abort();
}

ReadOptions options_of(std::uint8_t byte) {
  return {.as_float = (byte & 1) != 0, .allow_missing = (byte & 2) != 0, .max_bytes = kMaxBytes};
}

bool size_known(std::uint8_t byte) { return (byte & 4) == 0; }

// What every caller relies on without looking.
void check(const MatrixFile& matrix) {
  require(matrix.rows > 0 && matrix.cols > 0);
  const auto count = static_cast<std::size_t>(matrix.rows) * static_cast<std::size_t>(matrix.cols);
  require(matrix.f64.size() == (matrix.is_float ? 0 : count));
  require(matrix.f32.size() == (matrix.is_float ? count : 0));
  require(count * (matrix.is_float ? sizeof(float) : sizeof(double)) <= kMaxBytes);
  const auto rows = static_cast<std::size_t>(matrix.rows);
  const auto cols = static_cast<std::size_t>(matrix.cols);
  require(matrix.column_names.empty() || matrix.column_names.size() == cols);
  require(matrix.row_names.empty() || matrix.row_names.size() == rows);
  require(matrix.labels.empty() || matrix.labels.size() == rows);
}

// Compressed in two members, then read back in pieces of `at_once` bytes.
void check_gzip_round_trip(std::string_view content, std::size_t at_once) {
  std::string compressed;
  for (const std::string_view part :
       {content.substr(0, content.size() / 3), content.substr(content.size() / 3)}) {
    z_stream stream{};
    require(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string member(deflateBound(&stream, part.size()) + 32, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
    stream.avail_in = static_cast<uInt>(part.size());
    stream.next_out = reinterpret_cast<Bytef*>(member.data());
    stream.avail_out = static_cast<uInt>(member.size());
    require(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    compressed.append(member, 0, stream.total_out);
    deflateEnd(&stream);
  }
  const auto source = open_gzip(std::make_unique<MemorySource>("fuzz", compressed));
  std::string got;
  std::string buffer(at_once, '\0');
  for (std::size_t n = at_once; n == at_once;) {
    n = source->read(buffer.data(), at_once);
    got.append(buffer, 0, n);
  }
  require(got == content);
}

}  // namespace

void npy(std::uint8_t byte, std::string_view content) {
  MemorySource source("fuzz", content, size_known(byte));
  check(read_npy(source, options_of(byte)));
}

void csv(std::uint8_t byte, std::string_view content) {
  MemorySource source("fuzz", content, size_known(byte));
  check(read_csv(source, (byte & 8) != 0 ? '\t' : ',', options_of(byte)));
}

void svmlight(std::uint8_t byte, std::string_view content) {
  MemorySource source("fuzz", content, size_known(byte));
  check(read_svmlight(source, options_of(byte)));
}

void mtx(std::uint8_t byte, std::string_view content) {
  MemorySource source("fuzz", content, size_known(byte));
  check(read_matrix_market(source, options_of(byte)));
}

void gz(std::uint8_t byte, std::string_view content) {
  if ((byte & 8) != 0) check_gzip_round_trip(content, 1 + (byte >> 4));
  const auto source = open_gzip(std::make_unique<MemorySource>("fuzz", content, size_known(byte)));
  check((byte & 16) != 0 ? read_npy(*source, options_of(byte))
                         : read_csv(*source, ',', options_of(byte)));
}

void names(std::uint8_t byte, std::string_view content) {
  MemorySource source("fuzz", content, size_known(byte));
  for (const std::string& name : read_name_lines(source)) require(!name.empty());
}

#ifdef THRESHER_FUZZ_MODEL
void model(std::uint8_t, std::string_view content) {
  const int descriptor = ::memfd_create("fuzz", MFD_CLOEXEC);
  require(descriptor >= 0);
  require(::write(descriptor, content.data(), content.size()) == std::ssize(content));
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  try {
    const Model got = load_model(path);
    const auto n_fits = static_cast<std::size_t>(got.n_responses * got.n_l1_ratios * got.n_lambdas);
    require(got.lambda.size() == n_fits && got.coef_indptr.size() == n_fits + 1);
    require(got.coef_indices.size() == got.coef_values.size());
    require(got.coef_indptr.back() == std::ssize(got.coef_indices));
    for (const Index j : got.coef_indices) require(j >= 0 && j < got.n_features);
  } catch (const Error&) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}
#endif

}  // namespace thresher::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    thresher::fuzz::THRESHER_FUZZ_TARGET(
        data[0], std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1));
  } catch (const thresher::Error&) {  // a refusal; any other exception ends the run as a crash
  }
  return 0;
}

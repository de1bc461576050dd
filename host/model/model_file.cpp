#include "thresher/model_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "model/atomic_file.hpp"
#include "model/model_header.hpp"
#include "model/model_metadata.hpp"
#include "model/model_tensors.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is written as memory holds it");

// Per tensor, before it goes to disk: a model of everyday size never does.
constexpr std::size_t kSpoolBytes = std::size_t{1} << 18;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

[[noreturn]] void refuse(const std::string& what) { throw Error(Errc::kInvalidArgument, what); }

// Bytes that are written once and read once, in memory while they are few, then in a file without
// a name beside the model: there is room for the model there, and a killed process leaves nothing.
class Spool {
 public:
  explicit Spool(std::string folder) : folder_(std::move(folder)) {}
  ~Spool() { release(); }
  Spool(Spool&& other) noexcept
      : folder_(std::move(other.folder_)),
        buffer_(std::move(other.buffer_)),
        next_(other.next_),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  Spool& operator=(Spool&&) = delete;

  void write(const void* data, std::size_t bytes) {
    const char* from = static_cast<const char*>(data);
    buffer_.insert(buffer_.end(), from, from + bytes);
    if (buffer_.size() >= kSpoolBytes) flush();
  }

  /// Turns from writing to reading, at the first byte.
  void rewind() {
    next_ = 0;
    if (descriptor_ < 0) return;
    flush();
    if (lseek(descriptor_, 0, SEEK_SET) != 0) fail(errno);
  }

  void read(void* data, std::size_t bytes) {
    char* to = static_cast<char*>(data);
    while (bytes > 0) {
      if (next_ == buffer_.size()) refill();
      const std::size_t part = std::min(bytes, buffer_.size() - next_);
      std::memcpy(to, buffer_.data() + next_, part);
      next_ += part;
      to += part;
      bytes -= part;
    }
  }

  /// Gives memory and disk space back.
  void release() {
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = -1;
    buffer_ = {};
    next_ = 0;
  }

 private:
  [[noreturn]] void fail(int reason) {
    throw Error(Errc::kFile,
                "ModelFileWriter: temporary file in " + folder_ +
                    " must be writable, got: " + std::generic_category().message(reason));
  }

  void flush() {
    if (descriptor_ < 0) descriptor_ = open_unnamed_file(folder_);
    if (descriptor_ < 0) fail(errno);
    std::size_t done = 0;
    while (done < buffer_.size()) {
      const ssize_t wrote = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
      if (wrote > 0) {
        done += static_cast<std::size_t>(wrote);
      } else if (wrote == 0 || errno != EINTR) {
        fail(wrote == 0 ? ENOSPC : errno);
      }
    }
    buffer_.clear();
  }

  void refill() {
    next_ = 0;
    buffer_.resize(descriptor_ < 0 ? 0 : kSpoolBytes);
    ssize_t got = 0;
    if (descriptor_ >= 0) {
      do {
        got = ::read(descriptor_, buffer_.data(), buffer_.size());
      } while (got < 0 && errno == EINTR);
    }
    if (got <= 0) fail(got < 0 ? errno : EIO);
    buffer_.resize(static_cast<std::size_t>(got));
  }

  std::string folder_;
  std::vector<char> buffer_;
  std::size_t next_ = 0;  // of buffer_, while reading
  int descriptor_ = -1;
};

// What one response contributes to one tensor, and how the rest is padded.
struct Column {
  Spool spool;
  std::size_t element_bytes;
  Index rows;       // per response
  Index inner;      // elements per lambda, or per row if not per_lambda
  bool per_lambda;  // a row has inner elements for every lambda of its response
  std::string pad;  // the bytes of one element
};

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// The names, shapes and offsets of all tensors of a model of this shape.
std::vector<TensorEntry> layout(const ModelShape& shape) {
  std::vector<TensorEntry> tensors;
  std::size_t end = 0;
  Model sample;
  if (shape.has_cv) sample.cv.emplace();
  for_each_tensor(sample, shape, [&](const char* name, const TensorShape& sizes, auto& values) {
    using T = typename std::remove_reference_t<decltype(values)>::value_type;
    std::size_t bytes = sizeof(T);
    for (const Index n : sizes) bytes *= size(n);  // check_sizes has bounded it
    tensors.push_back({name, TensorType<T>::kName, sizes, end, end + bytes});
    end += bytes;
  });
  return tensors;
}

// The one writer: header, then emit(tensor) must write the bytes of each tensor in order.
template <class Emit>
void write_file(AtomicFile& file, const ModelShape& shape,
                const std::map<std::string, std::string>& metadata, const std::string& where,
                Emit&& emit) {
  check_sizes(shape, where);
  const std::vector<TensorEntry> tensors = layout(shape);
  const std::string header = write_header(metadata, tensors, where);
  file.write(header.data(), header.size());
  for (const TensorEntry& tensor : tensors) emit(tensor);
  file.commit();
}

}  // namespace

std::map<std::string, std::string> file_metadata(const ModelShape& shape,
                                                 const std::map<std::string, std::string>& own,
                                                 const std::vector<std::string>& feature_names,
                                                 const std::vector<std::string>& response_names,
                                                 const std::string& where) {
  std::map<std::string, std::string> all = own;
  all.emplace("library_version", version());
  for (const char* key : kStructuralKeys) all.erase(key);
  all["format"] = kFormat;
  all["format_version"] = kFormatVersion;
  all["n_samples"] = std::to_string(shape.n_samples);
  all["n_features"] = std::to_string(shape.n_features);
  if (!feature_names.empty()) {
    all["feature_names"] = names_to_json(feature_names, where + ": feature names");
  }
  if (!response_names.empty()) {
    all["response_names"] = names_to_json(response_names, where + ": response names");
  }
  return all;
}

void save_model(const Model& model, const std::string& path) {
  const std::string where = "save_model";
  const ModelShape shape = check_model(model, where);
  const auto metadata =
      file_metadata(shape, model.metadata, model.feature_names, model.response_names, where);
  std::map<std::string_view, std::pair<const void*, std::size_t>> data;
  for_each_tensor(model, shape, [&](const char* name, const TensorShape&, const auto& values) {
    data[name] = {values.data(), values.size() * sizeof(values[0])};
  });
  AtomicFile file(path);
  write_file(file, shape, metadata, where, [&](const TensorEntry& tensor) {
    const auto& [bytes, count] = data.at(tensor.name);
    file.write(bytes, count);
  });
}

struct ModelFileWriter::Impl {
  explicit Impl(const std::string& path) : file(path), folder(folder_behind_links(path)) {}

  enum class State { kNew, kBegun, kFinished };

  void check_state(State wanted, const char* call, const char* rule) const {
    if (state != wanted) refuse(std::string("ModelFileWriter::") + call + ": " + rule);
  }

  void check_names() const {
    const auto check = [](const char* name, std::size_t got, Index want) {
      if (got != 0 && got != size(want)) {
        refuse("ModelFileWriter::set_names: there must be " + std::to_string(want) + " " + name +
               " names or none, got " + std::to_string(got));
      }
    };
    if (state == State::kNew) return;
    check("feature", feature_names.size(), header.n_features);
    check("response", response_names.size(), header.n_responses);
  }

  template <class T>
  void add_column(const std::string& name, Index rows, Index inner, bool per_lambda, T pad) {
    columns.emplace(name, Column{Spool(folder), sizeof(T), rows, inner, per_lambda, bytes_of(pad)});
  }

  template <class T>
  void append(const char* name, const T* values, std::size_t count) {
    columns.at(name).spool.write(values, count * sizeof(T));
  }

  // Responses that came without predictions, for example those cut short, read as NaN.
  void pad_predictions() {
    const std::vector<double> none(size(header.n_samples), kNone);
    for (; n_predicted < n_taken; ++n_predicted) {
      append("cv.predictions", none.data(), none.size());
    }
  }

  // Calls put(bytes, count) for the whole tensor in file order.
  template <class Put>
  void emit_column(Column& column, Index n_lambdas_file, Put&& put) {
    const auto row_bytes = [&](Index n_lambdas) {
      return size(column.per_lambda ? n_lambdas * column.inner : column.inner) *
             column.element_bytes;
    };
    const std::size_t full = row_bytes(n_lambdas_file);
    std::string padding;
    while (padding.size() < full) padding += column.pad;
    std::string row(full, '\0');
    column.spool.rewind();
    for (const Index n_lambdas : lengths) {
      const std::size_t stored = n_lambdas < 0 ? 0 : row_bytes(n_lambdas);
      for (Index i = 0; i < column.rows; ++i) {
        column.spool.read(row.data(), stored);
        std::copy(padding.begin() + static_cast<std::ptrdiff_t>(stored), padding.end(),
                  row.begin() + static_cast<std::ptrdiff_t>(stored));
        put(row.data(), full);
      }
    }
    column.spool.release();
  }

  void copy_spool(Spool& spool, std::size_t bytes) {
    std::vector<char> part(std::min(bytes, kSpoolBytes));
    spool.rewind();
    while (bytes > 0) {
      const std::size_t now = std::min(bytes, part.size());
      spool.read(part.data(), now);
      file.write(part.data(), now);
      bytes -= now;
    }
    spool.release();
  }

  AtomicFile file;
  std::string folder;
  State state = State::kNew;
  ModelHeader header;
  std::vector<std::string> feature_names, response_names;
  std::map<std::string, Column, std::less<>> columns;
  std::vector<Spool> coef;     // indices, values
  std::vector<Index> lengths;  // n_lambdas per response, -1: never taken
  Index last = -1;
  Index n_values = 0;
  Index n_taken = 0;
  Index n_predicted = 0;  // of the responses taken, those whose predictions are spooled
};

ModelFileWriter::ModelFileWriter(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
ModelFileWriter::~ModelFileWriter() = default;

void ModelFileWriter::set_names(std::vector<std::string> features,
                                std::vector<std::string> responses) {
  // Refused here rather than after hours of work.
  names_to_json(features, "ModelFileWriter::set_names: feature names");
  names_to_json(responses, "ModelFileWriter::set_names: response names");
  impl_->feature_names = std::move(features);
  impl_->response_names = std::move(responses);
  impl_->check_names();
}

void ModelFileWriter::begin(const ModelHeader& header) {
  Impl& m = *impl_;
  m.check_state(Impl::State::kNew, "begin", "must be called once, got a second call");
  check_header(header, "ModelFileWriter::begin");
  check_metadata(header.metadata, "ModelFileWriter::begin");
  m.header = header;
  m.state = Impl::State::kBegun;
  m.check_names();
  m.lengths.assign(size(header.n_responses), -1);

  Model model;
  model.cv.emplace();
  ResponseResult result;
  std::vector<Index> n_coef;
  for_each_lambda_field(model, result, n_coef, header.n_folds,
                        [&](const char* name, auto&, auto&, Index inner, auto pad) {
                          m.add_column(name, header.n_l1_ratios, inner, true, pad);
                        });
  if (header.n_folds > 0) {
    m.add_column("cv.best", 1, 2, false, Index{0});
    m.add_column("cv.one_se", 1, 2, false, Index{0});
    m.add_column("cv.boundary", 1, 1, false, std::uint8_t{0});
    m.add_column("cv.predictions", 1, header.n_samples, false, kNone);
  }
  m.coef.emplace_back(m.folder);
  m.coef.emplace_back(m.folder);
}

void ModelFileWriter::take(ResponseResult&& result) {
  Impl& m = *impl_;
  m.check_state(Impl::State::kBegun, "take", "must come between begin and finish");
  ResponseResult part = std::move(result);
  std::vector<Index> n_coef = check_result(m.header, m.last, part, "ModelFileWriter::take");

  Model unused;
  unused.cv.emplace();
  for_each_lambda_field(unused, part, n_coef, m.header.n_folds,
                        [&](const char* name, auto&, auto& values, Index, auto) {
                          m.append(name, values.data(), values.size());
                        });
  std::vector<Index> indices;
  std::vector<double> values;
  for (const auto& coef : part.coef) {
    for (const auto& [j, value] : coef) {
      indices.push_back(j);
      values.push_back(value);
    }
  }
  m.coef[0].write(indices.data(), indices.size() * sizeof(Index));
  m.coef[1].write(values.data(), values.size() * sizeof(double));
  m.n_values += static_cast<Index>(values.size());
  if (m.header.n_folds > 0) {
    m.append("cv.best", part.best, 2);
    m.append("cv.one_se", part.one_se, 2);
    const std::uint8_t boundary = part.boundary ? 1 : 0;
    m.append("cv.boundary", &boundary, 1);
    if (!part.predictions.empty()) {
      m.pad_predictions();
      m.append("cv.predictions", part.predictions.data(), part.predictions.size());
      ++m.n_predicted;
    }
  }
  m.lengths[size(part.response)] = part.n_lambdas;
  m.last = part.response;
  ++m.n_taken;
}

void ModelFileWriter::amend(const std::map<std::string, std::string>& metadata) {
  impl_->check_state(Impl::State::kBegun, "amend", "must come between begin and finish");
  check_metadata(metadata, "ModelFileWriter::amend");
  impl_->header.metadata = metadata;
}

void ModelFileWriter::finish() {
  Impl& m = *impl_;
  m.check_state(Impl::State::kBegun, "finish", "must follow begin, once");
  m.state = Impl::State::kFinished;
  const std::string where = "ModelFileWriter::finish";

  ModelShape shape;
  shape.n_samples = m.header.n_samples;
  shape.n_features = m.header.n_features;
  shape.n_responses = m.header.n_responses;
  shape.n_l1_ratios = m.header.n_l1_ratios;
  // A run that ended before its first response still makes a valid file.
  shape.n_lambdas = std::max<Index>(1, *std::max_element(m.lengths.begin(), m.lengths.end()));
  shape.n_folds = m.header.n_folds;
  shape.n_values = m.n_values;
  shape.has_cv = m.header.n_folds > 0;
  shape.has_predictions = m.n_predicted > 0;
  if (shape.has_predictions) m.pad_predictions();

  const auto metadata =
      file_metadata(shape, m.header.metadata, m.feature_names, m.response_names, where);
  const auto put = [&](const void* data, std::size_t bytes) { m.file.write(data, bytes); };
  write_file(m.file, shape, metadata, where, [&](const TensorEntry& tensor) {
    if (tensor.name == "l1_ratio") {
      put(m.header.l1_ratio.data(), tensor.end - tensor.begin);
    } else if (tensor.name == "coef.indices") {
      m.copy_spool(m.coef[0], tensor.end - tensor.begin);
    } else if (tensor.name == "coef.values") {
      m.copy_spool(m.coef[1], tensor.end - tensor.begin);
    } else if (tensor.name == "coef.indptr") {
      Index end = 0;
      put(&end, sizeof end);
      m.emit_column(m.columns.at("coef.indptr"), shape.n_lambdas,
                    [&](const char* counts, std::size_t bytes) {
                      for (std::size_t i = 0; i < bytes; i += sizeof(Index)) {
                        Index count = 0;
                        std::memcpy(&count, counts + i, sizeof count);
                        end += count;
                        put(&end, sizeof end);
                      }
                    });
    } else {
      m.emit_column(m.columns.at(tensor.name), shape.n_lambdas, put);
    }
  });
}

}  // namespace thresher

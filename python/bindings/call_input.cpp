#include "call_input.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "thresher/error.hpp"

namespace thresher::python {
namespace {

using Matrix64 = nb::ndarray<const double, nb::ndim<2>, nb::device::cpu>;
using Matrix32 = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using Vector64 = nb::ndarray<const double, nb::ndim<1>, nb::device::cpu>;
using Vector32 = nb::ndarray<const float, nb::ndim<1>, nb::device::cpu>;
using DenseVector = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FoldVector = nb::ndarray<const Index, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

/// "int64 array of shape (3, 2)", or the type.
std::string describe(nb::handle value) {
  if (!nb::hasattr(value, "dtype") || !nb::hasattr(value, "shape")) {
    return nb::type_name(value.type()).c_str();
  }
  const nb::object dtype = value.attr("dtype"), shape = value.attr("shape");
  return std::string(nb::str(nb::handle(dtype)).c_str()) + " array of shape " +
         nb::str(nb::handle(shape)).c_str();
}

[[noreturn]] void wrong_type(const std::string& function, const std::string& name,
                             const std::string& rule, nb::handle value) {
  throw nb::type_error(
      (function + ": " + name + " must " + rule + ", got " + describe(value)).c_str());
}

template <class T>
T read(const std::string& function, const char* name, const char* rule, nb::handle value) {
  T out;
  if (!nb::try_cast<T>(value, out)) wrong_type(function, name, rule, value);
  return out;
}

template <class Array>
auto matrix_view(const Array& array) {
  using T = typename Array::Scalar;
  const auto extent = [&](std::size_t k) { return static_cast<Index>(array.shape(k)); };
  if constexpr (std::is_same_v<Array, Vector64> || std::is_same_v<Array, Vector32>) {
    return MatrixView<const T>{array.data(), extent(0), 1, array.stride(0), extent(0)};
  } else {
    return MatrixView<const T>{array.data(), extent(0), extent(1), array.stride(0),
                               array.stride(1)};
  }
}

template <class Array>
bool try_matrix(nb::handle value, AnyMatrix& out, CallInput& keeps) {
  Array array;
  if (!nb::try_cast<Array>(value, array, /*convert=*/false)) return false;
  out = matrix_view(array);
  keeps.arrays.emplace_back(array);
  return true;
}

std::span<const double> vector(const std::string& function, const char* name, nb::handle value,
                               CallInput& keeps) {
  DenseVector array;
  if (!nb::try_cast<DenseVector>(value, array)) {
    wrong_type(function, name, "be an array of float64 with one dimension", value);
  }
  keeps.arrays.emplace_back(array);
  // An empty span means the default; an empty array is a mistake.
  if (array.shape(0) == 0) {
    throw Error(Errc::kInvalidArgument, function + ": " + name + " must not be empty, got size 0");
  }
  return {array.data(), array.shape(0)};
}

/// A matrix of double; `single` says what one dimension stands for.
enum class Single { kRefused, kColumn, kRow };

MatrixView<const double> small_matrix(const std::string& function, const char* name, Single single,
                                      nb::handle value, CallInput& keeps) {
  Matrix64 matrix;
  if (nb::try_cast<Matrix64>(value, matrix)) {
    keeps.arrays.emplace_back(matrix);
    return matrix_view(matrix);
  }
  Vector64 line;
  if (single != Single::kRefused && nb::try_cast<Vector64>(value, line)) {
    keeps.arrays.emplace_back(line);
    const auto size = static_cast<Index>(line.shape(0));
    if (single == Single::kColumn) return {line.data(), size, 1, line.stride(0), size};
    return {line.data(), 1, size, size, line.stride(0)};
  }
  wrong_type(function, name,
             single == Single::kRefused ? "be an array of float64 with two dimensions"
                                        : "be an array of float64 with one or two dimensions",
             value);
}

/// The enumerator whose name(...) is the word given; enumerators count from 0 to `last`.
template <class Enum>
Enum from_word(const std::string& function, const char* operand, nb::handle value, Enum last) {
  const auto word = read<std::string>(function, operand, "be a string", value);
  std::string known;
  for (int k = 0; k <= static_cast<int>(last); ++k) {
    const auto candidate = static_cast<Enum>(k);
    if (name(candidate) == word) return candidate;
    known += (k == 0 ? "" : ", ") + std::string(name(candidate));
  }
  throw Error(Errc::kInvalidArgument,
              function + ": " + operand + " must be one of " + known + ", got " + word);
}

struct Keyword {
  const char* name;
  Folds needs;
  void (*set)(const std::string& function, const char* name, nb::handle value, CallInput& input);
  nb::object (*default_value)(const Options& options, const CvOptions& cv);
};

nb::object none_default(const Options&, const CvOptions&) { return nb::none(); }

#define THRESHER_SET \
  [](const std::string& function, const char* name, nb::handle value, CallInput& in)
#define THRESHER_DEFAULT(expression)                                                          \
  []([[maybe_unused]] const Options& o, [[maybe_unused]] const CvOptions& cv) -> nb::object { \
    return nb::cast(expression);                                                              \
  }

nb::object optional_double(const std::optional<double>& value) {
  return value ? nb::cast(*value) : nb::none();
}

std::optional<double> read_optional(const std::string& function, const char* name,
                                    nb::handle value) {
  if (value.is_none()) return {};
  return read<double>(function, name, "be a number or None", value);
}

// None stands for the default of every array, for "no limit" of time_limit and for "never" of
// early_stop.
const std::array kKeywords = {Keyword{
    "sample_weight", Folds::kNone,
    THRESHER_SET{if (!value.is_none()) in.data.sample_weight = vector(function, name, value, in);
}  // namespace
, none_default
}  // namespace thresher::python
, Keyword{"response_weight", Folds::kNone, THRESHER_SET{if (value.is_none()) return;
in.data.response_weight = small_matrix(function, name, Single::kColumn, value, in);
}
, none_default
}
, Keyword{"l1_factor", Folds::kNone,
          THRESHER_SET{if (!value.is_none()) in.data.l1_factor = vector(function, name, value, in);
}
, none_default
}
, Keyword{"l2_factor", Folds::kNone,
          THRESHER_SET{if (!value.is_none()) in.data.l2_factor = vector(function, name, value, in);
}
, none_default
}
, Keyword{"fixed_l2", Folds::kNone,
          THRESHER_SET{if (!value.is_none()) in.data.fixed_l2 = vector(function, name, value, in);
}
, none_default
}
, Keyword{"missing_responses", Folds::kNone,
          THRESHER_SET{in.data.missing_responses = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(Data{}.missing_responses)
}
, Keyword{"intercept", Folds::kNone,
          THRESHER_SET{in.options.intercept = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(o.intercept)
}
, Keyword{"standardize", Folds::kNone,
          THRESHER_SET{in.options.standardize = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(o.standardize)
}
, Keyword{"dropout_rate", Folds::kNone,
          THRESHER_SET{in.options.dropout_rate = read<double>(function, name, "be a number", value);
}
, THRESHER_DEFAULT(o.dropout_rate)
}
, Keyword{"l1_ratio", Folds::kNone, THRESHER_SET{double one = 0.0;
if (nb::try_cast<double>(value, one)) {
  in.options.l1_ratio = {one};
  return;
}
in.options.l1_ratio =
    read<std::vector<double>>(function, name, "be a number or a sequence of numbers", value);
}
, THRESHER_DEFAULT(nb::tuple(nb::cast(o.l1_ratio)))
}
, Keyword{"n_lambdas", Folds::kNone,
          THRESHER_SET{in.options.n_lambdas = read<Index>(function, name, "be an integer", value);
}
, THRESHER_DEFAULT(o.n_lambdas)
}
, Keyword{"lambda_min_ratio", Folds::kNone,
          THRESHER_SET{in.options.lambda_min_ratio = read_optional(function, name, value);
}
, THRESHER_DEFAULT(optional_double(o.lambda_min_ratio))
}
, Keyword{"lambda_grid", Folds::kNone, THRESHER_SET{if (value.is_none()) return;
in.options.lambda_grid = small_matrix(function, name, Single::kRow, value, in);
if (in.options.lambda_grid.empty()) {
  throw Error(Errc::kInvalidArgument,
              function + ": lambda_grid must have at least one value, got none");
}
}
, none_default
}
, Keyword{"tol", Folds::kNone, THRESHER_SET{in.options.tol = read_optional(function, name, value);
}
, THRESHER_DEFAULT(optional_double(o.tol))
}
, Keyword{
      "max_iterations", Folds::kNone,
      THRESHER_SET{in.options.max_iterations = read<Index>(function, name, "be an integer", value);
}
, THRESHER_DEFAULT(o.max_iterations)
}
, Keyword{
      "time_limit", Folds::kNone,
      THRESHER_SET{in.options.time_limit = read_optional(function, name, value)
                                               .value_or(std::numeric_limits<double>::infinity());
}
, none_default
}
, Keyword{"early_stop", Folds::kNone,
          THRESHER_SET{in.options.early_stop = read_optional(function, name, value);
}
, THRESHER_DEFAULT(optional_double(o.early_stop))
}
, Keyword{"keep_chosen", Folds::kTaken,
          THRESHER_SET{in.options.keep_chosen = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(o.keep_chosen)
}
, Keyword{"warm_start", Folds::kNone, THRESHER_SET{if (value.is_none()) return;
in.options.warm_start = small_matrix(function, name, Single::kColumn, value, in);
}
, none_default
}
, Keyword{"engine", Folds::kNone,
          THRESHER_SET{in.options.engine = from_word(function, name, value, Engine::kReference);
}
, THRESHER_DEFAULT(name(o.engine))
}
, Keyword{"mode", Folds::kNone,
          THRESHER_SET{in.options.mode = from_word(function, name, value, Mode::kResidual);
}
, THRESHER_DEFAULT(name(o.mode))
}
, Keyword{"device", Folds::kNone,
          THRESHER_SET{in.options.device = from_word(function, name, value, Device::kCuda);
}
, THRESHER_DEFAULT(name(o.device))
}
, Keyword{"threads", Folds::kNone,
          THRESHER_SET{in.options.threads = read<int>(function, name, "be an integer", value);
}
, THRESHER_DEFAULT(o.threads)
}
, Keyword{"max_memory", Folds::kNone,
          THRESHER_SET{in.options.max_memory =
                           read<std::size_t>(function, name, "be an integer >= 0, bytes", value);
}
, THRESHER_DEFAULT(o.max_memory)
}
, Keyword{"proven_skip", Folds::kNone,
          THRESHER_SET{in.options.proven_skip = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(o.proven_skip)
}
, Keyword{"low_precision", Folds::kNone,
          THRESHER_SET{in.options.low_precision = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(o.low_precision)
}
, Keyword{"look_ahead", Folds::kNone,
          THRESHER_SET{in.options.look_ahead = read<Index>(function, name, "be an integer", value);
}
, THRESHER_DEFAULT(o.look_ahead)
}
, Keyword{"n_folds", Folds::kTaken,
          THRESHER_SET{in.cv.n_folds = read<Index>(function, name, "be an integer", value);
}
, THRESHER_DEFAULT(cv.n_folds)
}
, Keyword{"fold_id", Folds::kTaken, THRESHER_SET{if (value.is_none()) return;
FoldVector array;
if (!nb::try_cast<FoldVector>(value, array, /*convert=*/false)) {
  wrong_type(function, name, "be a contiguous array of int64 with one dimension", value);
}
in.arrays.emplace_back(array);
in.cv.fold_id = {array.data(), array.shape(0)};
if (in.cv.fold_id.empty()) {
  throw Error(Errc::kInvalidArgument, function + ": fold_id must not be empty, got size 0");
}
}
, none_default
}
, Keyword{
      "seed", Folds::kTaken,
      THRESHER_SET{in.cv.seed = read<std::uint64_t>(function, name, "be an integer >= 0", value);
}
, THRESHER_DEFAULT(cv.seed)
}
, Keyword{"predictions", Folds::kTaken,
          THRESHER_SET{in.cv.predictions = read<bool>(function, name, "be a bool", value);
}
, THRESHER_DEFAULT(cv.predictions)
}
, Keyword{"callback", Folds::kNone,
          THRESHER_SET{if (!value.is_none() && !PyCallable_Check(value.ptr())){
              wrong_type(function, name, "be callable or None", value);
}
in.callback = nb::borrow(value);
}
, none_default
}
,
}
;

#undef THRESHER_SET
#undef THRESHER_DEFAULT

}  // namespace

AnyMatrix any_matrix(const std::string& function, const std::string& name, nb::handle array,
                     CallInput& keeps) {
  AnyMatrix out;
  if (try_matrix<Matrix64>(array, out, keeps) || try_matrix<Matrix32>(array, out, keeps)) {
    return out;
  }
  wrong_type(function, name,
             "be an array of float64 or float32 with two dimensions, strides whole elements",
             array);
}

CallInput call_input(const std::string& function, nb::handle X, nb::handle Y,
                     const nb::kwargs& keywords, Folds folds) {
  CallInput input;
  input.callback = nb::none();
  input.data.X = any_matrix(function, "X", X, input);
  if (!try_matrix<Vector64>(Y, input.data.Y, input) &&
      !try_matrix<Vector32>(Y, input.data.Y, input)) {
    input.data.Y = any_matrix(function, "Y", Y, input);
  }
  for (const auto& [key, value] : keywords) {
    const std::string_view word = nb::cast<std::string_view>(key);
    const Keyword* found = nullptr;
    for (const Keyword& keyword : kKeywords) {
      if (keyword.name == word && (keyword.needs == Folds::kNone || folds == Folds::kTaken)) {
        found = &keyword;
      }
    }
    if (found == nullptr) {
      throw nb::type_error(
          (function + "() got an unexpected keyword argument '" + std::string(word) + "'").c_str());
    }
    found->set(function, found->name, value, input);
  }
  return input;
}

nb::dict defaults() {
  nb::dict out;
  const Options options;
  const CvOptions cv;
  for (const Keyword& keyword : kKeywords) out[keyword.name] = keyword.default_value(options, cv);
  return out;
}

}  // namespace thresher::python

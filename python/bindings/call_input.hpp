#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "thresher/fit.hpp"

namespace thresher::python {

namespace nb = nanobind;

/// What a call of the library borrows: views into NumPy arrays, and what keeps those alive. Views
/// stay valid where this object is moved to, not where it is copied.
struct CallInput {
  Data data;
  Options options;
  CvOptions cv;
  nb::object callback;  ///< called with (fits_done, fits_total, seconds), or None
  std::vector<nb::ndarray<nb::ro>> arrays;

  CallInput() = default;
  CallInput(CallInput&&) = default;
  CallInput& operator=(CallInput&&) = default;
};

/// Which keywords a function takes beside those of every fit.
enum class Folds { kNone, kTaken };

/// Reads X, Y and keywords. Names are those of Data, Options and CvOptions; a keyword that is
/// absent keeps the default that stands there.
/// Throws   Error{kInvalidArgument} for shapes and words; nb::type_error for what has another type.
CallInput call_input(const std::string& function, nb::handle X, nb::handle Y,
                     const nb::kwargs& keywords, Folds folds);

/// double or float, two dimensions, any strides, host memory; nothing is converted.
AnyMatrix any_matrix(const std::string& function, const std::string& name, nb::handle array,
                     CallInput& keeps);

/// Keyword -> default, as the structs of the library have them; None where the default depends on
/// the data.
nb::dict defaults();

}  // namespace thresher::python

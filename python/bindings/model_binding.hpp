#pragma once

#include <nanobind/nanobind.h>

namespace thresher::python {

/// Binds Model as an object whose arrays are read-only NumPy views on the memory of the model.
void bind_model(nanobind::module_& module);

}  // namespace thresher::python

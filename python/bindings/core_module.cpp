// The module thresher._core: the library's functions with NumPy arrays for views. It converts
// nothing and decides nothing; thresher/*.py does.

#include <array>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "call_input.hpp"
#include "command/build_info.hpp"
#include "model_binding.hpp"
#include "thresher/thresher.hpp"
#include "watched_call.hpp"

namespace thresher::python {
namespace {

using Choice = nb::ndarray<const Index, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

PyObject* device_error = nullptr;  // DeviceError, owned by the module for the process's life

void translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    PyObject* type = device_error;
    if (error.code() == Errc::kInvalidArgument) type = PyExc_ValueError;
    if (error.code() == Errc::kOutOfMemory) type = PyExc_MemoryError;
    if (error.code() == Errc::kFile) type = PyExc_OSError;
    PyErr_SetString(type, error.what());
  }
}

/// An array that owns `values`.
template <class T, std::size_t N>
nb::object owned(std::vector<T>&& values, const std::array<std::size_t, N>& shape) {
  auto* const memory = new std::vector<T>(std::move(values));
  const nb::capsule owner(memory, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(memory->data(), N, shape.data(), owner));
}

/// Runs a fit. What a signal handler or the callback raised is raised again with the finished part
/// as its attribute `model`.
template <class Fit>
nb::object run(const CallInput& input, const Fit& fit) {
  Model model;
  const nb::object error =
      watched_call([&](Observer& observer) { model = fit(observer); }, input.callback);
  nb::object result = nb::cast(std::move(model));
  if (error.is_none()) return result;
  nb::setattr(error, "model", result);
  PyErr_SetObject(reinterpret_cast<PyObject*>(error.type().ptr()), error.ptr());
  throw nb::python_error();
}

nb::object fit_path_call(nb::handle X, nb::handle Y, const nb::kwargs& keywords) {
  const CallInput input = call_input("fit_path", X, Y, keywords, Folds::kNone);
  return run(input,
             [&](Observer& observer) { return fit_path(input.data, input.options, &observer); });
}

nb::object cross_validate_call(nb::handle X, nb::handle Y, const nb::kwargs& keywords) {
  const CallInput input = call_input("cross_validate", X, Y, keywords, Folds::kTaken);
  return run(input, [&](Observer& observer) {
    return cross_validate(input.data, input.options, input.cv, &observer);
  });
}

nb::object ridge_closed_form_call(nb::handle X, nb::handle Y, const std::string& form,
                                  const nb::kwargs& keywords) {
  const CallInput input = call_input("ridge_closed_form", X, Y, keywords, Folds::kNone);
  if (form != "loo" && form != "gcv") {
    throw Error(Errc::kInvalidArgument, "ridge_closed_form: form must be loo or gcv, got " + form);
  }
  const ClosedForm closed = form == "loo" ? ClosedForm::kLeaveOneOut : ClosedForm::kGcv;
  return run(input, [&](Observer& observer) {
    return ridge_closed_form(input.data, input.options, closed, &observer);
  });
}

nb::dict plan_dict(const Plan& plan) {
  nb::dict out;
  out["bytes"] = plan.bytes;
  out["limit"] = plan.limit;
  out["responses_per_tile"] = plan.responses_per_tile;
  out["n_tiles"] = plan.n_tiles;
  out["n_fits"] = plan.n_fits;
  out["engine"] = std::string(name(plan.engine));
  out["mode"] = std::string(name(plan.mode));
  out["threads"] = plan.threads;
  out["device"] = std::string(name(plan.device));
  out["device_name"] = plan.device_name;
  out["device_note"] = plan.device_note;
  out["seconds"] = plan.seconds;
  out["text"] = plan.text();
  return out;
}

nb::dict plan_path_call(nb::handle X, nb::handle Y, const nb::kwargs& keywords) {
  const CallInput input = call_input("plan_path", X, Y, keywords, Folds::kNone);
  return plan_dict(plan_path(input.data, input.options));
}

nb::dict plan_cross_validation_call(nb::handle X, nb::handle Y, const nb::kwargs& keywords) {
  const CallInput input = call_input("plan_cross_validation", X, Y, keywords, Folds::kTaken);
  return plan_dict(plan_cross_validation(input.data, input.options, input.cv));
}

nb::object predict_call(const Model& model, nb::handle X, const Choice& choice) {
  CallInput input;
  const AnyMatrix matrix = any_matrix("predict", "X", X, input);
  std::vector<std::pair<Index, Index>> chosen;
  for (std::size_t r = 0; r < choice.shape(0); ++r) chosen.emplace_back(choice(r, 0), choice(r, 1));
  const Index n = rows(matrix);
  const auto n_responses = static_cast<Index>(chosen.size());
  std::vector<double> out(static_cast<std::size_t>(n) * chosen.size());
  {
    const nb::gil_scoped_release released;
    predict(model, matrix, chosen, MatrixView<double>::row_major(out.data(), n, n_responses));
  }
  return owned(std::move(out), std::array{static_cast<std::size_t>(n), chosen.size()});
}

nb::object make_folds_call(Index n_samples, Index n_folds, std::uint64_t seed) {
  std::vector<Index> folds = make_folds(n_samples, n_folds, seed);
  const std::array size{folds.size()};
  return owned(std::move(folds), size);
}

template <class Enum>
nb::tuple words(Enum last) {
  nb::list out;
  for (int k = 0; k <= static_cast<int>(last); ++k) {
    out.append(std::string(name(static_cast<Enum>(k))));
  }
  return nb::tuple(out);
}

}  // namespace

NB_MODULE(_core, module) {
  module.attr("__doc__") = "Thresher's library with NumPy arrays; use the package `thresher`.";
  module.attr("__version__") = version();
  device_error =
      nb::exception<std::runtime_error>(module, "DeviceError", PyExc_RuntimeError).release().ptr();
  nb::register_exception_translator(translate);

  module.attr("STATUS_NAMES") = words(Status::kNotComputed);
  nb::list good;
  for (int k = 0; k <= static_cast<int>(Status::kNotComputed); ++k) {
    good.append(is_good(static_cast<Status>(k)));
  }
  module.attr("STATUS_GOOD") = nb::tuple(good);
  module.attr("ENGINE_NAMES") = words(Engine::kReference);
  module.attr("MODE_NAMES") = words(Mode::kResidual);
  module.attr("DEVICE_NAMES") = words(Device::kCuda);
  module.def("defaults", &defaults, "Keyword -> default; the structs of the library hold them.");

  bind_model(module);
  const nb::arg X("X"), Y("Y");
  module.def("fit_path", &fit_path_call, X, Y, nb::arg("keywords"));
  module.def("cross_validate", &cross_validate_call, X, Y, nb::arg("keywords"));
  module.def("ridge_closed_form", &ridge_closed_form_call, X, Y, nb::arg("form"),
             nb::arg("keywords"));
  module.def("plan_path", &plan_path_call, X, Y, nb::arg("keywords"));
  module.def("plan_cross_validation", &plan_cross_validation_call, X, Y, nb::arg("keywords"));
  module.def(
      "predict", &predict_call, nb::arg("model"), X, nb::arg("choice"),
      "(rows of X, R): X b + b0 of the fits (l1_ratio index, lambda index) in choice (R, 2)");
  module.def("make_folds", &make_folds_call, nb::arg("n_samples"), nb::arg("n_folds"),
             nb::arg("seed"), "(n_samples,): the fold of each row");
  module.def(
      "build_info",
      [] { return command::build_info_json(command::build_info(), command::device_info()); },
      "Version, compiler, BLAS, instruction set and device, as JSON; opens the device.");
}

}  // namespace thresher::python

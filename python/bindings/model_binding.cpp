#include "model_binding.hpp"

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "thresher/error.hpp"
#include "thresher/model.hpp"
#include "thresher/model_file.hpp"

namespace thresher::python {
namespace {

namespace nb = nanobind;

template <class T>
using Array = nb::ndarray<nb::numpy, const T>;

/// A view on `values`, which lives in the model that the property belongs to.
template <class T>
Array<T> view(const std::vector<T>& values, std::initializer_list<Index> shape) {
  std::vector<std::size_t> extents;
  for (const Index extent : shape) extents.push_back(static_cast<std::size_t>(extent));
  return Array<T>(values.data(), extents.size(), extents.data());
}

template <class T, std::vector<T> Model::*member>
Array<T> per_fit(const Model& model) {
  return view(model.*member, {model.n_responses, model.n_l1_ratios, model.n_lambdas});
}

template <class T, std::vector<T> Model::*member>
Array<T> flat(const Model& model) {
  return view(model.*member, {static_cast<Index>((model.*member).size())});
}

const CvTable& table(const Model& model) {
  if (!model.cv) {
    throw Error(Errc::kInvalidArgument,
                "Model: it must come from cross-validation, got a plain path");
  }
  return *model.cv;
}

template <std::vector<double> CvTable::*member>
Array<double> cv_per_fit(const Model& model) {
  return view(table(model).*member, {model.n_responses, model.n_l1_ratios, model.n_lambdas});
}

template <std::vector<Index> CvTable::*member>
Array<Index> cv_choice(const Model& model) {
  return view(table(model).*member, {model.n_responses, 2});
}

nb::dict stats(const Model& model) {
  const RunStats& run = model.stats;
  nb::dict out;
  out["setup_seconds"] = run.setup_seconds;
  out["solve_seconds"] = run.solve_seconds;
  out["worst_gap"] = run.worst_gap;
  out["n_fits"] = run.n_fits;
  out["n_not_converged"] = run.n_not_converged;
  out["n_tiles"] = run.n_tiles;
  out["threads"] = run.threads;
  out["planned_bytes"] = run.planned_bytes;
  out["interrupted"] = run.interrupted;
  out["device"] = std::string(name(run.device));
  out["device_name"] = run.device_name;
  out["device_note"] = run.device_note;
  return out;
}

void set_names(Model& model, std::vector<std::string> features,
               std::vector<std::string> responses) {
  const auto check = [](const char* what, std::size_t names, Index wanted) {
    if (names == 0 || static_cast<Index>(names) == wanted) return;
    throw Error(Errc::kInvalidArgument, std::string("set_names: ") + what +
                                            " must be empty or have " + std::to_string(wanted) +
                                            " names, got " + std::to_string(names));
  };
  check("features", features.size(), model.n_features);
  check("responses", responses.size(), model.n_responses);
  model.feature_names = std::move(features);
  model.response_names = std::move(responses);
}

}  // namespace

void bind_model(nb::module_& module) {
  constexpr auto kView = nb::rv_policy::reference_internal;
  nb::class_<Model>(module, "Model",
                    "All fits of a run: R responses, A l1_ratios, L lambdas. Arrays are read-only "
                    "views; what was not computed holds NaN.")
      .def_ro("n_samples", &Model::n_samples)
      .def_ro("n_features", &Model::n_features)
      .def_ro("n_responses", &Model::n_responses)
      .def_ro("n_l1_ratios", &Model::n_l1_ratios)
      .def_ro("n_lambdas", &Model::n_lambdas)
      .def_prop_ro("l1_ratio", &flat<double, &Model::l1_ratio>, kView, "(A,)")
      .def_prop_ro("lambdas", &per_fit<double, &Model::lambda>, kView, "(R, A, L), [X][y]")
      .def_prop_ro("intercept", &per_fit<double, &Model::intercept>, kView, "(R, A, L), [y]")
      .def_prop_ro("objective", &per_fit<double, &Model::objective>, kView, "(R, A, L), [y]^2")
      .def_prop_ro("gap", &per_fit<double, &Model::gap>, kView, "(R, A, L), relative to P0")
      .def_prop_ro("deviance", &per_fit<double, &Model::deviance>, kView,
                   "(R, A, L), share of the variance of y explained on the training rows")
      .def_prop_ro("status", &per_fit<std::uint8_t, &Model::status>, kView,
                   "(R, A, L), an index into STATUS_NAMES")
      .def_prop_ro("engine", &per_fit<std::uint8_t, &Model::engine>, kView,
                   "(R, A, L), an index into ENGINE_NAMES")
      .def_prop_ro("mode", &per_fit<std::uint8_t, &Model::mode>, kView,
                   "(R, A, L), an index into MODE_NAMES")
      .def_prop_ro("rank_deficient", &per_fit<std::uint8_t, &Model::rank_deficient>, kView,
                   "(R, A, L), 1: the answer is not unique")
      .def_prop_ro("n_nonzero", &per_fit<Index, &Model::n_nonzero>, kView, "(R, A, L)")
      .def_prop_ro("iterations", &per_fit<Index, &Model::iterations>, kView, "(R, A, L)")
      .def_prop_ro("coef_kept", &per_fit<std::uint8_t, &Model::coef_kept>, kView,
                   "(R, A, L), 0: coefficients were not kept")
      .def_prop_ro("coef_indptr", &flat<Index, &Model::coef_indptr>, kView,
                   "(R*A*L + 1,): fit f = (r*A + a)*L + l owns [indptr[f], indptr[f + 1])")
      .def_prop_ro("coef_indices", &flat<Index, &Model::coef_indices>, kView,
                   "features, ascending within a fit")
      .def_prop_ro("coef_values", &flat<double, &Model::coef_values>, kView, "[y]/[X]")
      .def_prop_ro("has_cv", [](const Model& model) { return model.cv.has_value(); })
      .def_prop_ro("cv_n_folds", [](const Model& model) { return table(model).n_folds; })
      .def_prop_ro("cv_error", &cv_per_fit<&CvTable::error>, kView, "(R, A, L), [y]^2")
      .def_prop_ro("cv_se", &cv_per_fit<&CvTable::se>, kView, "(R, A, L), [y]^2")
      .def_prop_ro("cv_train_error", &cv_per_fit<&CvTable::train_error>, kView, "(R, A, L), [y]^2")
      .def_prop_ro(
          "cv_fold_error",
          [](const Model& model) {
            return view(table(model).fold_error, {model.n_responses, model.n_l1_ratios,
                                                  model.n_lambdas, table(model).n_folds});
          },
          kView, "(R, A, L, K), [y]^2")
      .def_prop_ro("cv_best", &cv_choice<&CvTable::best>, kView,
                   "(R, 2), (l1_ratio index, lambda index)")
      .def_prop_ro("cv_one_se", &cv_choice<&CvTable::one_se>, kView,
                   "(R, 2), (l1_ratio index, lambda index)")
      .def_prop_ro(
          "cv_boundary",
          [](const Model& model) { return view(table(model).boundary, {model.n_responses}); },
          kView, "(R,), 1: the best lambda is the end of the grid")
      .def_prop_ro(
          "cv_predictions",
          [](const Model& model) -> std::optional<Array<double>> {
            const std::vector<double>& values = table(model).predictions;
            if (values.empty()) return {};
            return view(values, {model.n_responses, model.n_samples});
          },
          kView, "(R, n_samples), out of fold at the best lambda, [y]; None if not asked for")
      .def_ro("feature_names", &Model::feature_names)
      .def_ro("response_names", &Model::response_names)
      .def("set_names", &set_names, nb::arg("features"), nb::arg("responses"))
      .def_rw("metadata", &Model::metadata)
      .def_prop_ro("stats", &stats)
      .def(
          "save",
          [](const Model& model, const std::string& path) {
            const nb::gil_scoped_release released;
            save_model(model, path);
          },
          nb::arg("path"));
  module.def(
      "load_model",
      [](const std::string& path) {
        const nb::gil_scoped_release released;
        return load_model(path);
      },
      nb::arg("path"));
}

}  // namespace thresher::python

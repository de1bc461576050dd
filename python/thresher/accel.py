"""scikit-learn's linear models, solved by Thresher without a changed import.

    thresher.accel.patch()                      from here on; unpatch() goes back
    python -m thresher.accel script.py          a script under patch()
    pytest -p thresher.accel                    tests under patch(), with a summary

`Lasso`, `ElasticNet`, `Ridge`, their CV and MultiTask forms, `lasso_path` and `enet_path` of
`sklearn.linear_model` stay the classes they are, with scikit-learn's parameters and attributes:
only their `fit` is replaced, so models made, imported or pickled before or after take part, and a
pickle needs no Thresher. A call that asks for something the objective of Thresher does not have
goes to scikit-learn; `counts()` tells how many did and why, and the logger "thresher.accel" says so
(INFO).
"""

import argparse
import functools
import inspect
import logging
import runpy
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import sklearn.linear_model
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.linear_model._base import _pre_fit
from sklearn.utils._param_validation import validate_parameter_constraints

from .certified_fit import DENSE_LIMIT_BYTES, Settings, dense_bytes
from .elastic_net import elastic_net_path, fit_elastic_net
from .elastic_net_cv import fit_elastic_net_cv
from .ridge_models import fit_ridge, fit_ridge_cv

logger = logging.getLogger(__name__)

# Solvers of scikit-learn's Ridge whose iterations show: n_iter_, random_state, warnings.
_ITERATIVE_SOLVERS = ("lsqr", "sag", "saga", "lbfgs")

_originals: dict[tuple[object, str], Callable] = {}  # (owner, name): what stood there
_counts: Counter[tuple[str, str | None]] = Counter()  # (what, reason or None): calls
_lock = threading.Lock()
_inside = threading.local()  # .fallback: a call of this thread is scikit-learn's own work


def _count(what, reason):
    with _lock:
        _counts[what, reason] += 1
    if reason is not None:
        logger.info("%s: left to scikit-learn (%s)", what, reason)


def counts():
    """Calls since the last `reset_counts`.

    Returns
    -------
    dict
        Name -> {"thresher": calls solved here, "scikit-learn": {reason: calls}}.
    """
    out = {}
    with _lock:
        items = sorted(_counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    for (what, reason), calls in items:
        entry = out.setdefault(what, {"thresher": 0, "scikit-learn": {}})
        if reason is None:
            entry["thresher"] = calls
        else:
            entry["scikit-learn"][reason] = calls
    return out


def reset_counts():
    """Start counting from zero."""
    with _lock:
        _counts.clear()


def summary():
    """`counts()` as lines of text, with the share of calls that fell back."""
    lines = []
    here, there = 0, 0
    for what, entry in counts().items():
        fallen = sum(entry["scikit-learn"].values())
        here, there = here + entry["thresher"], there + fallen
        lines.append(f"{what:22} thresher {entry['thresher']:6}   scikit-learn {fallen:6}")
        lines += [f"    {calls:6}  {reason}" for reason, calls in entry["scikit-learn"].items()]
    share = there / max(here + there, 1)
    lines.append(f"{here + there} calls, {there} left to scikit-learn: {share:.1%}")
    return "\n".join(lines)


def _reason_in_data(X, sample_weight=None):
    """Why these data are not for us, or None."""
    if sparse.issparse(X):
        if dense_bytes(X) > DENSE_LIMIT_BYTES:
            return "sparse X too large to be made dense"
    elif sklearn.get_config()["array_api_dispatch"] and not isinstance(X, np.ndarray):
        return "array API dispatch"
    if sample_weight is not None and not np.isscalar(sample_weight):
        weights = np.asarray(sample_weight)
        if weights.dtype.kind in "fi" and np.any(weights < 0):
            return "negative sample_weight"
    return None


def _check_gram(model, X, y, sample_weight):
    """Judge a given Gram matrix as scikit-learn does; the solver needs none."""
    gram = model.precompute
    if isinstance(gram, (bool, np.bool_, str)) or sparse.issparse(X):
        return
    X, y = np.asarray(X), np.asarray(y)
    if sample_weight is not None and not np.isscalar(sample_weight):
        sample_weight = np.asarray(sample_weight, dtype=X.dtype)
        sample_weight = sample_weight * (len(X) / sample_weight.sum())
    _pre_fit(X, y, None, gram, model.fit_intercept, True, sample_weight=sample_weight)


def _elastic_net_reason(model, X, sample_weight, check_input):
    if model.positive:
        return "positive=True"
    if not check_input and not sparse.issparse(X) and not np.asarray(X).flags.f_contiguous:
        return "check_input=False and X not in Fortran order, which scikit-learn refuses"
    return _reason_in_data(X, sample_weight)


def _elastic_net_cv_reason(model, plain_class, X, y, sample_weight):
    if model.positive:
        return "positive=True"
    if type(model._get_estimator()) is not plain_class:
        return "an estimator of its own"
    if not isinstance(model.precompute, (bool, np.bool_, str)):
        return "precompute is a Gram matrix, of all folds alike"
    shape = np.shape(y)
    if len(shape) > 1 and shape[1] > 1:
        return "several responses, which scikit-learn refuses"
    return _reason_in_data(X, sample_weight)


def _ridge_reason(model, X, sample_weight):
    if model.positive:
        return "positive=True"
    if model.solver in _ITERATIVE_SOLVERS:
        return f"solver={model.solver!r}"
    if sparse.issparse(X) and model.fit_intercept and model.solver in ("svd", "cholesky"):
        return f"solver={model.solver!r} with sparse X, which scikit-learn refuses"
    return _reason_in_data(X, sample_weight)


def _ridge_cv_reason(model, X, sample_weight):
    if sparse.issparse(X) and model.gcv_mode == "svd":
        return "gcv_mode='svd' with sparse X, which scikit-learn deprecates"
    return _reason_in_data(X, sample_weight)


def _run(what, reason, solve, original):
    """solve(), or original() if there is a reason or scikit-learn itself is calling."""
    if getattr(_inside, "fallback", False):
        return original()
    _count(what, reason)
    if reason is None:
        return solve()
    _inside.fallback = True
    try:
        return original()
    finally:
        _inside.fallback = False


def _original(owner, name="fit"):
    return _originals[owner, name]


@_fit_context(prefer_skip_nested_validation=True)
def _fit_elastic_net(self, X, y, sample_weight=None, check_input=True):
    def solve():
        _check_gram(self, X, y, sample_weight)
        return fit_elastic_net(self, X, y, sample_weight, check_input)

    return _run(
        "Lasso" if isinstance(self, sklearn.linear_model.Lasso) else "ElasticNet",
        _elastic_net_reason(self, X, sample_weight, check_input),
        solve,
        lambda: _original(sklearn.linear_model.ElasticNet)(self, X, y, sample_weight, check_input),
    )


@_fit_context(prefer_skip_nested_validation=True)
def _fit_lasso_cv(self, X, y, sample_weight=None, **params):
    def solve():
        fit_elastic_net_cv(self, X, y, sample_weight, params, [1.0], several=False)
        return self

    return _run(
        "LassoCV",
        _elastic_net_cv_reason(self, sklearn.linear_model.Lasso, X, y, sample_weight),
        solve,
        lambda: _original(sklearn.linear_model.LassoCV)(self, X, y, sample_weight, **params),
    )


@_fit_context(prefer_skip_nested_validation=True)
def _fit_elastic_net_cv(self, X, y, sample_weight=None, **params):
    def solve():
        ratios = np.atleast_1d(self.l1_ratio)
        best = fit_elastic_net_cv(
            self, X, y, sample_weight, params, ratios.astype(float).tolist(), several=False
        )
        self.l1_ratio_ = ratios[best]
        return self

    return _run(
        "ElasticNetCV",
        _elastic_net_cv_reason(self, sklearn.linear_model.ElasticNet, X, y, sample_weight),
        solve,
        lambda: _original(sklearn.linear_model.ElasticNetCV)(self, X, y, sample_weight, **params),
    )


def _multi_task_reason(X, y):
    if np.ndim(y) != 2 or np.shape(y)[1] != 1:
        return "MultiTask: responses coupled by an L21 penalty"
    return _reason_in_data(X)


def _as_one_task(model):
    """The shapes of a MultiTask model with one response."""
    model.coef_ = model.coef_[np.newaxis]
    if model.fit_intercept:
        model.intercept_ = np.reshape(model.intercept_, 1)


@_fit_context(prefer_skip_nested_validation=True)
def _fit_multi_task(self, X, y, sample_weight=None):
    def solve():  # the L21 norm of one column is its L1 norm
        fit_elastic_net(self, X, y, sample_weight, check_input=True)
        _as_one_task(self)
        return self

    original = _original(sklearn.linear_model.MultiTaskElasticNet)
    # Before scikit-learn 1.9 there was no such argument.
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    return _run(
        type(self).__name__,
        _multi_task_reason(X, y),
        solve,
        lambda: original(self, X, y, **weights),
    )


def _multi_task_cv_fit(plain_class):
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        def solve():
            ratios = np.atleast_1d(getattr(self, "l1_ratio", 1.0))
            best = fit_elastic_net_cv(
                self, X, np.ravel(y), sample_weight, params, ratios.astype(float).tolist()
            )
            if hasattr(self, "l1_ratio"):
                self.l1_ratio_ = ratios[best]
            _as_one_task(self)
            return self

        return _run(
            plain_class.__name__,
            _multi_task_reason(X, y),
            solve,
            lambda: _original(plain_class)(self, X, y, sample_weight, **params),
        )

    return fit


@_fit_context(prefer_skip_nested_validation=True)
def _fit_ridge(self, X, y, sample_weight=None):
    def solve():
        fit_ridge(self, X, y, sample_weight)
        self.n_iter_ = None
        if self.solver == "auto":
            self.solver_ = "sparse_cg" if sparse.issparse(X) else "cholesky"
        else:
            self.solver_ = self.solver
        return self

    return _run(
        "Ridge",
        _ridge_reason(self, X, sample_weight),
        solve,
        lambda: _original(sklearn.linear_model.Ridge)(self, X, y, sample_weight),
    )


@_fit_context(prefer_skip_nested_validation=True)
def _fit_ridge_cv(self, X, y, sample_weight=None, **params):
    def solve():
        fit_ridge_cv(self, X, y, sample_weight, params)
        return self

    return _run(
        "RidgeCV",
        _ridge_cv_reason(self, X, sample_weight),
        solve,
        lambda: _original(sklearn.linear_model.RidgeCV)(self, X, y, sample_weight, **params),
    )


# What a path function of scikit-learn may be given, and what it means if it is not.
_PATH_DEFAULTS = {
    "l1_ratio": 1.0,
    "alphas": 100,
    "check_input": True,
    "tol": 1e-4,
    "max_iter": 1000,
}
_PATH_IGNORED = {"precompute", "copy_X", "verbose", "random_state", "selection", "do_screening"}
_PATH_KNOWN = {"eps", "coef_init", "return_n_iter", "positive", *_PATH_DEFAULTS}


def _path_reason(X, y, given):
    """Why a call of a path function is not for us, or None."""
    if given["positive"]:
        return "positive=True"
    if given.get("Xy") is not None:
        return "Xy given"
    if np.ndim(y) > 1:
        return "several responses, which scikit-learn couples (MultiTask)"
    if given.get("alphas") is None or given.get("n_alphas", "deprecated") not in (
        "deprecated",
        100,
    ):
        return "deprecated alphas or n_alphas"
    unknown = {
        name
        for name, value in given.items()
        if value is not None and name not in _PATH_KNOWN | _PATH_IGNORED | {"Xy", "n_alphas"}
    }
    if unknown:
        return "parameters: " + ", ".join(sorted(unknown))
    if not isinstance(given["precompute"], (bool, np.bool_, str)):
        return "precompute is a Gram matrix"
    return _reason_in_data(X)


def _path_function(name):
    """The replacement of sklearn.linear_model's function `name`."""
    original = getattr(sklearn.linear_model, name)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def path(X, y, **keywords):
        bound = signature.bind(X, y, **keywords)
        bound.apply_defaults()
        extra = bound.arguments.pop("params", {})
        validate_parameter_constraints(
            original._skl_parameter_constraints, bound.arguments, caller_name=name
        )
        given = {**bound.arguments, **extra}
        del given["X"], given["y"]
        if isinstance(given["alphas"], str):  # "warn": not given
            given["alphas"] = 100
        given = {**_PATH_DEFAULTS, **given}

        def solve():
            return elastic_net_path(
                X,
                y,
                l1_ratio=given["l1_ratio"],
                eps=given["eps"],
                alphas=given["alphas"],
                coef_init=given["coef_init"],
                check_input=given["check_input"],
                settings=Settings(False, given["tol"], given["max_iter"]),
                return_n_iter=given["return_n_iter"],
            )

        return _run(name, _path_reason(X, y, given), solve, lambda: original(X, y, **keywords))

    return path


def _replace(owner, name, replacement):
    original = getattr(owner, name)
    _originals[owner, name] = original
    setattr(owner, name, functools.wraps(original)(replacement))


def patch():
    """Let Thresher solve scikit-learn's linear models; a second call changes nothing."""
    if _originals:
        return
    linear_model = sklearn.linear_model
    _replace(linear_model.ElasticNet, "fit", _fit_elastic_net)
    _replace(linear_model.LassoCV, "fit", _fit_lasso_cv)
    _replace(linear_model.ElasticNetCV, "fit", _fit_elastic_net_cv)
    _replace(linear_model.MultiTaskElasticNet, "fit", _fit_multi_task)
    for plain_class in (linear_model.MultiTaskElasticNetCV, linear_model.MultiTaskLassoCV):
        _replace(plain_class, "fit", _multi_task_cv_fit(plain_class))
    _replace(linear_model.Ridge, "fit", _fit_ridge)
    _replace(linear_model.RidgeCV, "fit", _fit_ridge_cv)
    for name in ("enet_path", "lasso_path"):
        _replace(linear_model, name, _path_function(name))


def unpatch():
    """Give scikit-learn its own solvers back."""
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()


def pytest_configure(config):
    """pytest -p thresher.accel."""
    patch()


def pytest_terminal_summary(terminalreporter):
    """What was solved here and what was left to scikit-learn."""
    terminalreporter.section("thresher.accel")
    terminalreporter.write_line(summary())


def main(arguments=None):
    """python -m thresher.accel [-v] script.py [arguments of the script]."""
    parser = argparse.ArgumentParser(prog="python -m thresher.accel", description=main.__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="print a summary at the end")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    patch()
    sys.argv = [given.script, *given.arguments]
    sys.path[0] = str(Path(given.script).resolve().parent)
    try:
        runpy.run_path(given.script, run_name="__main__")
    finally:
        if given.verbose:
            print(summary(), file=sys.stderr)


if __name__ == "__main__":
    # The module stands under two names when run by -m; the counts live in the importable one.
    from thresher.accel import main as importable_main

    importable_main()

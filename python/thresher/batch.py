"""Many responses in one call: cross-validation, paths and plans."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, cast

import numpy as np

from . import _core
from ._arrays import as_matrix, as_vector, fold_numbers
from ._progress import callback_for
from .results import CvResult, Interrupted, PathResult, wrap


class FitOptions(TypedDict, total=False):
    """Keywords of every batch function; ``_core.defaults()`` holds their defaults."""

    sample_weight: Any
    response_weight: Any
    l1_factor: Any
    l2_factor: Any
    fixed_l2: Any
    missing_responses: bool
    intercept: bool
    standardize: bool
    dropout_rate: float
    l1_ratio: float | Sequence[float]
    n_lambdas: int
    lambda_min_ratio: float | None
    lambda_grid: Any
    tol: float | None
    max_iterations: int
    time_limit: float | None
    early_stop: float | None
    warm_start: Any
    engine: str
    mode: str
    device: str
    threads: int
    max_memory: int
    proven_skip: bool
    low_precision: bool
    look_ahead: int


class CvOptions(FitOptions, total=False):
    """Keywords of cross-validation."""

    seed: int
    predictions: bool
    keep_chosen: bool


_COMMON = """X : array of shape (n_samples, n_features)
        NumPy (any order and strides), pandas, polars, or anything with DLPack. float64 and float32
        on the host are used where they lie; other types are converted once, and arrays on a GPU
        are copied to the host first.
    Y : array of shape (n_samples, n_responses) or (n_samples,)"""

_OPTIONS = """progress : bool, tqdm-like or callable
        True shows a bar (tqdm, if it is installed) or a line; a class or object like ``tqdm.tqdm``
        is updated; a callable gets (fits_done, fits_total, seconds) at most ten times a second and
        ends the call by raising.
    feature_names, response_names : sequence of str, optional
        In place of the column names of X and Y.
    sample_weight : array of shape (n_samples,), optional
        Weights of rows, rescaled to sum to 1; 0 leaves a row out.
    response_weight : array of shape (n_samples, n_responses), optional
        Further weights for each response, times `sample_weight`.
    l1_factor, l2_factor : arrays of shape (n_features,), optional
        u and v of the objective; 0 leaves a feature unpenalised, infinity excludes it.
    fixed_l2 : array of shape (n_features,), optional
        d of the objective, [X]^2: an L2 penalty that does not depend on lambda.
    missing_responses : bool
        A NaN in Y leaves its row out for that response; otherwise it is refused.
    intercept : bool
    standardize : bool
        Penalise each coefficient as if its column had standard deviation 1 in that very problem.
    dropout_rate : float in [0, 1)
        Dropout of the inputs as a penalty (``docs/dropout.md``).
    l1_ratio : float or sequence of float in [0, 1]
        1 is the Lasso, 0 is Ridge.
    n_lambdas : int
        Length of the automatic grid of each response.
    lambda_min_ratio : float, optional
        Last lambda of that grid over its first.
    lambda_grid : array of shape (L,), (1, L) or (n_responses, L), optional, [X][y]
        Descending values in place of the automatic grid.
    tol : float, optional
        Relative duality gap at which a fit has converged.
    max_iterations : int
        For each fit.
    time_limit : float, optional
        Seconds for the whole call; what is finished by then is returned.
    early_stop : float, optional
        A path ends past this share of explained deviance; None never. Cross-validation ignores it.
    warm_start : array of shape (n_features, n_responses), optional, [y]/[X]
        Coefficients to start from.
    engine : "auto", "active-set", "proximal-gradient", "ridge" or "reference"
    mode : "auto", "gram" or "residual"
    device : "auto", "cpu" or "cuda"
    threads : int
        0: one for each processor this process may use. The bits of a result do not depend on it.
    max_memory : int
        Bytes this call may add; 0: 80 % of what is free.
    proven_skip, low_precision : bool
        Ways to save work that never change the answer (``docs/method.md``).
    look_ahead : int
        Most lambdas that are solved before X is read once for all of them."""

_CV_OPTIONS = """seed : int
        Of the fold assignment.
    predictions : bool
        Keep the out-of-fold predictions at the best lambda.
    keep_chosen : bool
        Keep the coefficients of both choices alone."""

_ERRORS = """ValueError, TypeError
        For bad input, naming the argument, the rule and the value.
    MemoryError
        If not even one response fits the memory limit.
    DeviceError
        Only for device "cuda".
    Interrupted
        On Ctrl-C, within a second; a KeyboardInterrupt with what is finished in `result`."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _documented(options: type) -> Callable[[_Function], _Function]:
    """Spells out the keywords of `options` in signature and docstring."""

    def complete(function: _Function) -> _Function:
        function.__doc__ = (
            (function.__doc__ or "")
            .replace("{common}", _COMMON)
            .replace("{options}", _OPTIONS)
            .replace("{cv_options}", _CV_OPTIONS)
            .replace("{errors}", _ERRORS)
        )
        signature = inspect.signature(function)
        defaults = _core.defaults()
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        named += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name])
            for name in inspect.get_annotations(options)
            if name in defaults
        ]
        function.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
        return function

    return complete


class _Call(NamedTuple):
    X: np.ndarray
    Y: np.ndarray
    keywords: dict[str, Any]
    names: tuple[list[str], list[str]]


def _prepare(
    function: str,
    X: Any,
    Y: Any,
    options: dict[str, Any],
    allowed: type,
    feature_names: Sequence[str] | None = None,
    response_names: Sequence[str] | None = None,
) -> _Call:
    for name in options:
        if name not in allowed.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")
    features = as_matrix(X, "X")
    responses = as_matrix(Y, "Y", vector_is_column=True)
    keywords = dict(options)
    for name in ("sample_weight", "l1_factor", "l2_factor", "fixed_l2"):
        if keywords.get(name) is not None:
            keywords[name] = as_vector(keywords[name], name)
    for name in ("response_weight", "warm_start"):
        if keywords.get(name) is not None:
            keywords[name] = as_matrix(keywords[name], name, vector_is_column=True).values
    if keywords.get("lambda_grid") is not None:
        grid = np.asarray(keywords["lambda_grid"], dtype=np.float64)
        keywords["lambda_grid"] = as_matrix(np.atleast_2d(grid), "lambda_grid").values
    names = []
    for what, given, found, size in (
        ("feature_names", feature_names, features.names, features.values.shape[1]),
        ("response_names", response_names, responses.names, responses.values.shape[1]),
    ):
        chosen = [str(name) for name in given] if given is not None else found or []
        if chosen and len(chosen) != size:
            raise ValueError(f"{what} must have {size} names, got {len(chosen)}")
        names.append(chosen)
    return _Call(features.values, responses.values, keywords, (names[0], names[1]))


def _run(fit: Callable[..., _core.Model], call: _Call, progress: Any, *form: str) -> PathResult:
    with callback_for(progress) as callback:
        try:
            model = fit(call.X, call.Y, *form, **call.keywords, callback=callback)
        except KeyboardInterrupt as stop:
            if not hasattr(stop, "model"):
                raise
            stop.model.set_names(*call.names)
            raise Interrupted(wrap(stop.model)) from None
    model.set_names(*call.names)
    return wrap(model)


@_documented(FitOptions)
def fit_path(
    X: Any,
    Y: Any,
    *,
    progress: Any = False,
    feature_names: Sequence[str] | None = None,
    response_names: Sequence[str] | None = None,
    **options: Unpack[FitOptions],
) -> PathResult:
    """Fit a path of lambdas for every response and l1_ratio on all rows.

    The objective is that of ``docs/method.md``; in scikit-learn's words lambda is `alpha`.

    Parameters
    ----------
    {common}
    {options}

    Returns
    -------
    PathResult

    Raises
    ------
    {errors}
    """
    call = _prepare(
        "fit_path", X, Y, cast(dict, options), FitOptions, feature_names, response_names
    )
    return _run(_core.fit_path, call, progress)


@_documented(CvOptions)
def cross_validate(
    X: Any,
    Y: Any,
    *,
    folds: Any = None,
    progress: Any = False,
    feature_names: Sequence[str] | None = None,
    response_names: Sequence[str] | None = None,
    **options: Unpack[CvOptions],
) -> CvResult:
    """Choose a lambda for every response by cross-validation.

    Fits on all rows and, for every fold, without its rows, on the lambda grid of the full data.
    Definitions: ``docs/choosing_lambda.md``.

    Parameters
    ----------
    {common}
    folds : int, int array of shape (n_samples,), splitter, pairs, "loo" or "gcv"
        How many folds to draw; or the fold of each row, from 0, each used; or a scikit-learn
        splitter or an iterable of (train, test) positions whose test sets hold every row once. For
        Ridge also "loo" or "gcv": the closed forms of leave-one-out and generalized
        cross-validation, without folds.
    {options}
    {cv_options}

    Returns
    -------
    CvResult

    Raises
    ------
    {errors}
    """
    call = _prepare(
        "cross_validate", X, Y, cast(dict, options), CvOptions, feature_names, response_names
    )
    if isinstance(folds, str):
        call.keywords.setdefault("l1_ratio", 0.0)
        return cast(CvResult, _run(_core.ridge_closed_form, call, progress, folds))
    call.keywords.update(_folds(folds, X, Y, len(call.X)))
    return cast(CvResult, _run(_core.cross_validate, call, progress))


def _folds(folds: Any, X: Any, Y: Any, n_samples: int) -> dict[str, Any]:
    if folds is None:
        return {}
    if isinstance(folds, (int, np.integer)):
        return {"n_folds": int(folds)}
    return {"fold_id": fold_numbers(folds, X, Y, n_samples)}


class Plan(NamedTuple):
    """What a call would do. ``str(plan)`` is a text for people."""

    bytes: int  #: peak memory the call adds, results included
    limit: int  #: the memory limit in force
    responses_per_tile: int
    n_tiles: int
    n_fits: int
    engine: str
    mode: str
    threads: int
    device: str  #: where it would run
    device_name: str
    device_note: str  #: why not on a device
    seconds: float  #: on the CPU: order of magnitude
    text: str

    def __str__(self) -> str:
        return self.text.rstrip("\n")


@_documented(CvOptions)
def plan(X: Any, Y: Any, *, folds: Any = None, **options: Unpack[CvOptions]) -> Plan:
    """Say what `fit_path` or, with `folds`, `cross_validate` would do, without doing it.

    Parameters
    ----------
    X, Y, **options
        Those of `fit_path` and `cross_validate`.
    folds
        None: `fit_path`; otherwise that of `cross_validate`.

    Returns
    -------
    Plan
    """
    allowed = FitOptions if folds is None else CvOptions
    call = _prepare("plan", X, Y, cast(dict, options), allowed)
    if folds is None:
        return Plan(**_core.plan_path(call.X, call.Y, **call.keywords))
    call.keywords.update(_folds(folds, X, Y, len(call.X)))
    return Plan(**_core.plan_cross_validation(call.X, call.Y, **call.keywords))


def make_folds(n_samples: int, n_folds: int, seed: int | None = None) -> np.ndarray:
    """Draw the folds that `cross_validate` would draw.

    Returns
    -------
    int64 array of shape (n_samples,)
    """
    chosen = _core.defaults()["seed"] if seed is None else seed
    return _core.make_folds(n_samples, n_folds, chosen)


def info() -> dict[str, Any]:
    """Versions, compiler, BLAS, instruction set, and the GPU or why there is none."""
    return json.loads(_core.build_info())

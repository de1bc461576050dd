"""Calls into the library in the terms of scikit-learn's linear models.

The objective stands in docs/method.md; docs/units.md says how alpha becomes lambda. Everything here
works on validated arrays and is shared by the estimators and by `thresher.accel`.
"""

import numbers
import threading
import warnings
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, validate_data

from . import _core

# A sparse X is made dense up to this size; the library sees dense columns only.
DENSE_LIMIT_BYTES = 1 << 30

# Below this many multiply-adds a call stays on one thread: starting one costs tens of microseconds.
# Untuned.
SERIAL_WORK = 500_000

# The exact engines reach 1e-15 at the cost of 1e-4, so a looser tol would save nothing; the
# certificate is still compared with the user's. 1e-16 stands for tol=0, which no sum can reach.
LOOSEST_TOL = 1e-10
TIGHTEST_TOL = 1e-16

FLOAT_TYPES = [np.float64, np.float32]

_BREAKDOWN = _core.STATUS_NAMES.index("numerical breakdown")
_PRECISION_LIMIT = _core.STATUS_NAMES.index("precision limit")


def dense_bytes(X):
    """Bytes that a sparse X takes when dense, at the precision it is solved in."""
    itemsize = 4 if X.dtype == np.float32 else 8
    return X.shape[0] * X.shape[1] * itemsize


def dense(X):
    """X as a dense array; refuses a sparse X above DENSE_LIMIT_BYTES."""
    if not sparse.issparse(X):
        return X
    needed = dense_bytes(X)
    if needed > DENSE_LIMIT_BYTES:
        raise ValueError(
            f"X must take at most {DENSE_LIMIT_BYTES} bytes when dense, got a sparse matrix of "
            f"shape {X.shape} that takes {needed} (thresher works on dense columns)"
        )
    return X.toarray(order="F")


def solvable(array):
    """`array` itself if the library can read it in place, else an aligned copy."""
    whole = all(stride % array.itemsize == 0 for stride in array.strides)
    return array if whole and array.flags.aligned else np.array(array)


def checked_data(estimator, X, y):
    """Validated X (n, p) and y, both in X's precision, X in the order it came in.

    Sets n_features_in_ and feature_names_in_ of `estimator`.
    """
    X, y = validate_data(
        estimator,
        X,
        y,
        accept_sparse=["csc", "csr", "coo"],
        dtype=FLOAT_TYPES,
        multi_output=True,
        y_numeric=True,
    )
    if sparse.issparse(y):
        raise TypeError("y must be dense, got a sparse matrix")
    return solvable(dense(X)), solvable(y.astype(X.dtype, copy=False))


def columns_of(y):
    """y as a matrix (n, R); a view."""
    return y[:, np.newaxis] if y.ndim == 1 else y


def relative_weights(sample_weight, X):
    """Weights in double where only their ratios count; None for one number for all rows."""
    if sample_weight is None or isinstance(sample_weight, numbers.Number):
        return None
    return np.asarray(_check_sample_weight(sample_weight, X, dtype=X.dtype), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an estimator's parameters say about a call.

    `tol` is relative to the null loss P0. `max_iter` counts visits of all features.
    """

    intercept: bool
    tol: float
    max_iter: int | None = None
    device: str = "auto"
    n_jobs: int | None = None

    def threads(self, work):
        """Threads for `work` multiply-adds; 0 leaves the number to the library.

        Without n_jobs it is what pays: one for little work and inside a joblib worker.
        """
        if self.n_jobs is not None:
            return effective_n_jobs(self.n_jobs)
        if work < SERIAL_WORK or getattr(get_active_backend()[0], "nesting_level", 0):
            return 1
        return 0

    def keywords(self, shape, n_paths):
        """Keywords of a library call on X of `shape` with `n_paths` fits."""
        out = {
            "intercept": bool(self.intercept),
            "early_stop": None,
            "tol": min(max(float(self.tol), TIGHTEST_TOL), LOOSEST_TOL),
            "device": self.device,
            "threads": self.threads(shape[0] * shape[1] * n_paths),
        }
        if self.max_iter is not None:
            # A visit may change the whole support, of up to min(n, p) features; the engine counts
            # changes, and in one of them eight features may enter (or more, into a large support).
            out["max_iterations"] = int(self.max_iter) * -(-min(shape) // 8)
        return out


@dataclass(slots=True)
class ChosenFits:
    """One fit per response."""

    coef: np.ndarray  # (R, p)
    intercept: np.ndarray  # (R,)
    dual_gap: np.ndarray  # (R,), in units of the objective
    n_iter: np.ndarray  # (R,)

    def part(self, responses):
        """The fits of some responses."""
        return ChosenFits(*(getattr(self, field.name)[responses] for field in fields(self)))

    @classmethod
    def joined(cls, parts):
        """The fits of several parts, one after the other."""
        return cls(
            *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls))
        )


def null_loss(Y, weights, intercept):
    """P0 = 1/2 weighted mean of (y - mean)^2, in double; without intercept of y^2. Shape (R,)."""
    Y = np.asarray(Y, dtype=np.float64)
    w = np.full(len(Y), 1.0 / len(Y)) if weights is None else weights / weights.sum()
    with np.errstate(over="ignore", invalid="ignore"):
        if intercept:
            Y = Y - w @ Y
        return 0.5 * (w @ (Y * Y))


def coefficients(model, fits):
    """Dense coefficients (len(fits), p) of the flat fit numbers `fits`."""
    indptr, indices, values = model.coef_indptr, model.coef_indices, model.coef_values
    out = np.zeros((len(fits), model.n_features))
    for row, fit in enumerate(fits):
        own = slice(indptr[fit], indptr[fit + 1])
        out[row, indices[own]] = values[own]
    return out


def chosen_fits(model, fits, null_losses):
    """ChosenFits of the flat fit numbers `fits` (R,)."""
    return ChosenFits(
        coefficients(model, fits),
        model.intercept.ravel()[fits],
        model.gap.ravel()[fits] * null_losses,
        model.iterations.ravel()[fits],
    )


def check_ended_well(model, tol, null_losses):
    """Warn as scikit-learn does where a gap is above tol; raise after a numerical breakdown.

    Parameters
    ----------
    tol : float
        Relative to P0.
    null_losses : ndarray of shape (R,)
        P0, to give the gap in units of the objective.
    """
    status, gap = model.status, model.gap
    missed = ~(gap <= tol)
    if not missed.any():
        return
    size = np.abs(model.coef_values)
    underflow = np.any((size > 0) & (size < np.finfo(np.float64).tiny))
    if underflow or np.any(status == _BREAKDOWN):
        raise ValueError(
            "Coordinate descent iterations resulted in non-finite parameter values or in such that "
            "double precision cannot hold. The input data may contain large values and need to be "
            "preprocessed."
        )
    worst = float(np.max(np.where(missed, gap * null_losses[:, np.newaxis, np.newaxis], 0.0)))
    advice = (
        "The duality gap cannot go lower in this arithmetic."
        if np.all(status[missed] == _PRECISION_LIMIT)
        else "You might want to increase the number of iterations."
    )
    warnings.warn(
        f"Objective did not converge. {advice} Duality gap: {worst:.3e}, "
        f"tolerance: {tol * float(np.max(null_losses)):.3e}",
        ConvergenceWarning,
        stacklevel=4,
    )


def fit_at(X, Y, alphas, *, l1_ratio, weights, settings, start=None):
    """One fit per response.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    Y : ndarray of shape (n, R)
    alphas : array of shape (R,) or (1,)
        lambda of each response, in [X][y].
    weights : ndarray of shape (n,) or None
        In double.
    settings : Settings
    start : ndarray of shape (R, p), default=None
        Coefficients to start from.
    """
    null_losses = null_loss(Y, weights, settings.intercept)
    model = _core.fit_path(
        X,
        Y,
        l1_ratio=float(l1_ratio),
        lambda_grid=np.asarray(alphas, dtype=np.float64).reshape(-1, 1),
        sample_weight=weights,
        warm_start=None if start is None else np.asarray(start, dtype=np.float64).T,
        **settings.keywords(X.shape, Y.shape[1]),
    )
    check_ended_well(model, settings.tol, null_losses)
    return chosen_fits(model, np.arange(Y.shape[1]), null_losses)


def over_splits(task, splits, threads):
    """task(split, callback) for each split, on `threads` threads (0: one per processor); in order.

    The task hands the callback to the library and calls it between its own steps: only the main
    thread hears of Ctrl-C, and by it the others are told to stop.
    """
    stopped = threading.Event()

    def callback(*_progress):
        if stopped.is_set():
            raise KeyboardInterrupt

    threads = min(threads or effective_n_jobs(-1), len(splits))
    if threads == 1:
        return [task(split, callback) for split in splits]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(task, split, callback) for split in splits]
        pending = set(futures)
        try:
            # In short waits: a signal does not end a wait if its handler was set to restart calls,
            # as polars sets it.
            while pending:
                done, pending = wait(pending, timeout=0.1, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def set_linear_attributes(estimator, fits, y, dtype):
    """coef_ and intercept_ in scikit-learn's shapes: one response drops its axis."""
    coef = fits.coef.astype(dtype, copy=False)
    estimator.coef_ = coef[0] if len(coef) == 1 else coef
    if not estimator.fit_intercept:
        estimator.intercept_ = 0.0
        return
    intercept = fits.intercept.astype(dtype)
    estimator.intercept_ = intercept[0] if y.ndim == 1 else intercept


def set_certificate(estimator, fits, dtype):
    """dual_gap_ and n_iter_; one response drops its axis."""
    gap = fits.dual_gap.astype(dtype)
    n_iter = [int(count) for count in fits.n_iter]
    single = len(n_iter) == 1
    estimator.dual_gap_ = gap[0] if single else gap
    estimator.n_iter_ = n_iter[0] if single else n_iter


def refuse_positive(estimator):
    """Raise ValueError if `positive=True`: the objective has no sign constraint."""
    if estimator.positive:
        name = type(estimator).__name__
        raise ValueError(
            f"{name}: positive must be False, got True (thresher has no sign constraint; "
            f"use sklearn.linear_model.{name})"
        )


def to_sklearn(estimator, plain_class):
    """A `plain_class` with the parameters it knows and all fitted attributes of `estimator`."""
    defaults = plain_class().get_params(deep=False)
    parameters = {k: v for k, v in estimator.get_params(deep=False).items() if k in defaults}
    # Before scikit-learn 1.7 the length of an automatic grid was a parameter of its own.
    count = parameters.get("alphas")
    if isinstance(count, numbers.Integral) and isinstance(defaults.get("n_alphas"), int):
        parameters |= {"n_alphas": count, "alphas": None}
    plain = plain_class(**parameters)
    for name, value in vars(estimator).items():
        if name.endswith("_") and not name.startswith("_"):
            setattr(plain, name, value.copy() if isinstance(value, np.ndarray) else value)
    return plain

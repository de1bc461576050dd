"""Results of the batch functions."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from . import _core
from ._arrays import as_matrix

if TYPE_CHECKING:
    import pandas


class PathResult:
    """All fits of a call: R responses, A l1_ratios, L lambdas.

    Arrays are read-only views; what was not computed holds NaN. `lambda` is in units of [X][y],
    as in ``docs/units.md``.

    Attributes
    ----------
    n_samples, n_features, n_responses : int
    l1_ratio : array of shape (A,)
    lambdas : array of shape (R, A, L), [X][y]
        Descending along the last axis.
    intercept : array of shape (R, A, L), [y]
    objective : array of shape (R, A, L), [y]^2
    gap : array of shape (R, A, L)
        Duality gap recomputed in double over all features, divided by half the variance of y.
    deviance : array of shape (R, A, L)
        Share of the variance of y that is explained on the training rows.
    n_nonzero, iterations : int64 arrays of shape (R, A, L)
    feature_names, response_names : list of str, or None
    stats : dict
        Seconds, memory, threads, device and the worst gap of the run; empty after `load`.
    metadata : dict of str
        Options, device and versions of the run.
    """

    def __init__(self, model: _core.Model, stats: dict[str, Any] | None = None) -> None:
        self._model = model
        self.stats = dict(model.stats) if stats is None else stats

    n_samples = property(lambda self: self._model.n_samples)
    n_features = property(lambda self: self._model.n_features)
    n_responses = property(lambda self: self._model.n_responses)
    l1_ratio = property(lambda self: self._model.l1_ratio)
    lambdas = property(lambda self: self._model.lambdas)
    intercept = property(lambda self: self._model.intercept)
    objective = property(lambda self: self._model.objective)
    gap = property(lambda self: self._model.gap)
    deviance = property(lambda self: self._model.deviance)
    n_nonzero = property(lambda self: self._model.n_nonzero)
    iterations = property(lambda self: self._model.iterations)
    metadata = property(lambda self: dict(self._model.metadata))
    feature_names = property(lambda self: self._model.feature_names or None)
    response_names = property(lambda self: self._model.response_names or None)

    @property
    def status(self) -> np.ndarray:
        """How each fit ended, as words; shape (R, A, L)."""
        return np.asarray(_core.STATUS_NAMES)[self._model.status]

    @property
    def engine(self) -> np.ndarray:
        """Which engine computed each fit, as words; shape (R, A, L)."""
        return np.asarray(_core.ENGINE_NAMES)[self._model.engine]

    @property
    def converged(self) -> np.ndarray:
        """True where a fit ended well: gap within tol, or at the limit of the arithmetic."""
        return np.asarray(_core.STATUS_GOOD)[self._model.status]

    @property
    def rank_deficient(self) -> np.ndarray:
        """True where the coefficients are not unique; shape (R, A, L)."""
        return self._model.rank_deficient.astype(bool)

    @property
    def interrupted(self) -> bool:
        """True if the run was stopped by the user or by its time limit."""
        return bool(self.stats.get("interrupted", False))

    def choice(self, choice: Any) -> np.ndarray:
        """Positions of one fit per response.

        Parameters
        ----------
        choice : int, pair of int, or int array of shape (R, 2)
            A lambda index (of the first l1_ratio), or (l1_ratio index, lambda index) for all or for
            each response. A result of cross-validation also takes "best" and "1se".

        Returns
        -------
        int64 array of shape (R, 2)
            (l1_ratio index, lambda index)
        """
        positions = np.asarray(choice)
        if positions.dtype.kind not in "iu":
            raise ValueError(f"choice must be a position on the grid, got {choice!r}")
        if positions.ndim == 0:
            positions = np.array([0, positions])
        if positions.shape not in ((2,), (self.n_responses, 2)):
            raise ValueError(
                f"choice must have shape (2,) or ({self.n_responses}, 2), got {positions.shape}"
            )
        shape = self.lambdas.shape[1:]
        if (positions < -np.array(shape)).any() or (positions >= shape).any():
            raise ValueError(f"choice must lie on the grid of {shape[0]} x {shape[1]}")
        positions = np.where(positions < 0, positions + shape, positions)
        return np.ascontiguousarray(
            np.broadcast_to(positions, (self.n_responses, 2)), dtype=np.int64
        )

    def at(self, values: np.ndarray, choice: Any) -> np.ndarray:
        """Entries of an (R, A, L, ...) array at one fit per response; shape (R, ...)."""
        positions = self.choice(choice)
        return values[np.arange(self.n_responses), positions[:, 0], positions[:, 1]]

    @property
    def coef_all(self) -> sparse.csr_array:
        """Coefficients of all fits, without a copy: csr of shape (R * A * L, n_features), [y]/[X].

        Row ``(r * A + a) * L + l`` belongs to ``lambdas[r, a, l]``.
        """
        model = self._model
        return sparse.csr_array(
            (model.coef_values, model.coef_indices, model.coef_indptr),
            shape=(self.lambdas.size, self.n_features),
        )

    def coef(self, choice: Any) -> sparse.csc_array:
        """Coefficients of one fit per response.

        Parameters
        ----------
        choice : see `choice`

        Returns
        -------
        scipy.sparse.csc_array of shape (n_features, R), [y]/[X]
        """
        positions = self.choice(choice)
        if not self.at(self._model.coef_kept, positions).all():
            missing = int((self.at(self._model.coef_kept, positions) == 0).sum())
            raise ValueError(
                f"choice must name fits whose coefficients are there, got {missing} responses "
                "whose fit was not computed or not kept"
            )
        _, n_ratios, n_lambdas = self.lambdas.shape
        rows = (np.arange(self.n_responses) * n_ratios + positions[:, 0]) * n_lambdas + positions[
            :, 1
        ]
        return self.coef_all[rows].T

    def coef_path(self, response: int | str = 0, l1_ratio: int = 0) -> sparse.csc_array:
        """Coefficients of one response along lambda.

        Parameters
        ----------
        response : int or str
            Position or name.
        l1_ratio : int
            Position in `l1_ratio`.

        Returns
        -------
        scipy.sparse.csc_array of shape (n_features, L), [y]/[X]
            Empty columns where nothing was computed or kept.
        """
        if isinstance(response, str):
            response = (self.response_names or []).index(response)
        n_responses, n_ratios, n_lambdas = self.lambdas.shape
        if not (-n_responses <= response < n_responses and -n_ratios <= l1_ratio < n_ratios):
            raise IndexError(f"no path ({response}, {l1_ratio}) among {n_responses} x {n_ratios}")
        first = (response % n_responses * n_ratios + l1_ratio % n_ratios) * n_lambdas
        return self.coef_all[first : first + n_lambdas].T

    def predict(self, X: Any, choice: Any) -> np.ndarray:
        """Fitted values X b + b0 of one fit per response.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        choice : see `choice`

        Returns
        -------
        float64 array of shape (n_rows, R), [y]
        """
        return _core.predict(self._model, as_matrix(X, "X").values, self.choice(choice))

    def _names(self) -> tuple[list[str], list[str]]:
        """Names of features and responses; positions where there are none, as in the command."""
        features = self.feature_names or [f"x{j}" for j in range(self.n_features)]
        responses = self.response_names or [f"y{r}" for r in range(self.n_responses)]
        return features, responses

    def to_frame(self) -> pandas.DataFrame:
        """One row for each fit: response, l1_ratio, lambda and what is known of the fit."""
        pandas = _pandas()
        n_responses, n_ratios, n_lambdas = self.lambdas.shape
        columns = {
            "response": np.repeat(self._names()[1], n_ratios * n_lambdas),
            "l1_ratio": np.tile(np.repeat(self.l1_ratio, n_lambdas), n_responses),
            "lambda": self.lambdas.ravel(),
        }
        for name in ("intercept", "n_nonzero", "deviance", "objective", "gap", "iterations"):
            columns[name] = getattr(self, name).ravel()
        columns["status"] = self.status.ravel()
        return pandas.DataFrame(columns)

    def coef_frame(self, choice: Any) -> pandas.DataFrame:
        """One row for each coefficient that is not 0: response, feature, coefficient.

        Parameters
        ----------
        choice : see `choice`
        """
        pandas = _pandas()
        features, responses = self._names()
        coef = self.coef(choice)
        return pandas.DataFrame(
            {
                "response": np.repeat(responses, np.diff(coef.indptr)),
                "feature": np.asarray(features, dtype=object)[coef.indices],
                "coefficient": coef.data,
            }
        )

    def report(
        self, path: str | os.PathLike[str], *, title: str = "", max_bytes: int = 20_000_000
    ) -> None:
        """Write a page for the browser with tables and charts of every response.

        The page holds all it needs and fetches nothing.

        Parameters
        ----------
        path : str or path-like
            The file to write.
        title : str
        max_bytes : int
            Size to stay within: of many responses fewer coefficient paths and fewer points of the
            curves are kept (the page says how many), but at least 2 kB each.
        """
        from .html_report import write_report

        write_report(self, path, title=title, max_bytes=max_bytes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file (``docs/model_file.md``); an old file stays until it is complete."""
        self._model.save(os.fspath(path))

    def __reduce__(self) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "model"
            self.save(file)
            return _from_bytes, (file.read_bytes(), self.stats)

    def __repr__(self) -> str:
        bad = int((~self.converged & (self.status != "not computed")).sum())
        return (
            f"<{type(self).__name__}: {self.n_samples} samples, {self.n_features} features, "
            f"{self.n_responses} responses, {len(self.l1_ratio)} l1_ratios, "
            f"{self.lambdas.shape[2]} lambdas"
            + (f", {bad} fits did not converge" if bad else "")
            + (", interrupted" if self.interrupted else "")
            + ">"
        )


class CvResult(PathResult):
    """Fits on all rows and what cross-validation says of them.

    Definitions are those of ``docs/choosing_lambda.md``. Errors are mean squared errors, [y]^2.

    Attributes
    ----------
    cv_error, cv_se, train_error : arrays of shape (R, A, L)
        Error on held-out rows, its standard error, error on training rows.
    fold_error : array of shape (R, A, L, K)
    best, one_se : int64 arrays of shape (R, 2)
        (l1_ratio index, lambda index) of the least error, and of the largest lambda within one
        standard error of it.
    """

    n_folds = property(lambda self: self._model.cv_n_folds)
    cv_error = property(lambda self: self._model.cv_error)
    cv_se = property(lambda self: self._model.cv_se)
    train_error = property(lambda self: self._model.cv_train_error)
    fold_error = property(lambda self: self._model.cv_fold_error)
    best = property(lambda self: self._model.cv_best)
    one_se = property(lambda self: self._model.cv_one_se)

    @property
    def boundary(self) -> np.ndarray:
        """True where the best lambda is the end of its grid; shape (R,)."""
        return self._model.cv_boundary.astype(bool)

    @property
    def predictions(self) -> np.ndarray | None:
        """Out-of-fold predictions at the best lambda, (n_samples, R); None if not asked for."""
        values = self._model.cv_predictions
        return None if values is None else values.T

    @property
    def lambda_best(self) -> np.ndarray:
        """The lambda of least error of each response; shape (R,)."""
        return self.at(self.lambdas, "best")

    @property
    def lambda_1se(self) -> np.ndarray:
        """The largest lambda within one standard error of the least error; shape (R,)."""
        return self.at(self.lambdas, "1se")

    @property
    def l1_ratio_best(self) -> np.ndarray:
        """The l1_ratio of least error of each response; shape (R,)."""
        return self.l1_ratio[self.best[:, 0]]

    def choice(self, choice: Any = "best") -> np.ndarray:
        if isinstance(choice, str):
            if choice not in ("best", "1se"):
                raise ValueError(f'choice must be "best", "1se" or positions, got {choice!r}')
            return self.best if choice == "best" else self.one_se
        return super().choice(choice)

    def coef(self, choice: Any = "best") -> sparse.csc_array:
        return super().coef(choice)

    def predict(self, X: Any, choice: Any = "best") -> np.ndarray:
        return super().predict(X, choice)

    def coef_frame(self, choice: Any = "best") -> pandas.DataFrame:
        return super().coef_frame(choice)

    choice.__doc__ = PathResult.choice.__doc__
    coef.__doc__ = PathResult.coef.__doc__
    predict.__doc__ = PathResult.predict.__doc__
    coef_frame.__doc__ = PathResult.coef_frame.__doc__

    def summary(self) -> pandas.DataFrame:
        """One row for each response: both choices, their errors and numbers of features."""
        pandas = _pandas()
        return pandas.DataFrame(
            {
                "response": self._names()[1],
                "l1_ratio": self.l1_ratio_best,
                "lambda_best": self.lambda_best,
                "lambda_1se": self.lambda_1se,
                "cv_error": self.at(self.cv_error, "best"),
                "cv_se": self.at(self.cv_se, "best"),
                "train_error": self.at(self.train_error, "best"),
                "n_nonzero": self.at(self.n_nonzero, "best"),
                "n_nonzero_1se": self.at(self.n_nonzero, "1se"),
                "boundary": self.boundary,
                "gap": self.at(self.gap, "best"),
                "status": self.at(self.status, "best"),
            }
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row for each fit: response, l1_ratio, lambda and what is known of the fit."""
        frame = super().to_frame()
        for name in ("cv_error", "cv_se", "train_error"):
            frame[name] = getattr(self, name).ravel()
        return frame


class Interrupted(KeyboardInterrupt):
    """A batch call was interrupted; what was finished by then is in `result`.

    In a notebook: ``import sys; sys.last_value.result``.
    """

    def __init__(self, result: PathResult) -> None:
        self.result = result
        super().__init__(
            f"interrupted after {result.stats['n_fits']} fits; what is finished is in .result of "
            "this exception (in a notebook: sys.last_value.result)"
        )


def wrap(model: _core.Model, stats: dict[str, Any] | None = None) -> PathResult:
    """The result class that fits the model."""
    return (CvResult if model.has_cv else PathResult)(model, stats)


def load(path: str | os.PathLike[str]) -> PathResult:
    """Read a model file, of `save` or of the command; a `CvResult` if it has cross-validation.

    Parameters
    ----------
    path : str or path-like
    """
    return wrap(_core.load_model(os.fspath(path)), stats={})


def _from_bytes(content: bytes, stats: dict[str, Any]) -> PathResult:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "model"
        file.write_bytes(content)
        return wrap(_core.load_model(str(file)), stats)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("tables need pandas: pip install pandas") from error
    return pandas

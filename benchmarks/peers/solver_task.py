"""What an adapter is given and what it gives back."""

import dataclasses
import importlib
import pathlib

import numpy as np

ADAPTERS = {
    "thresher": "thresher_adapter",
    "glmnet": "glmnet_adapter",
    "scikit-learn": "sklearn_adapter",
    "celer": "celer_adapter",
    "skglm": "skglm_adapter",
    "adelie": "adelie_adapter",
    "glum": "glum_adapter",
    "himalaya": "himalaya_adapter",
}


def adapter(solver):
    return importlib.import_module(f"adapters.{ADAPTERS[solver]}")


@dataclasses.dataclass
class Task:
    """A workload in memory."""

    folder: pathlib.Path
    kind: str
    l1_ratio: float
    X: np.ndarray  # (n, p) float64, Fortran order
    Y: np.ndarray  # (n, R), the responses that this solver is given
    grid: np.ndarray  # (R, L), descending
    fold_id: np.ndarray | None  # (n)
    responses: list  # columns of Y.npy that Y holds
    tol: str  # a number, or "default"
    threads: int = 1
    max_memory: str = ""  # for ours: as --max-memory takes it
    command: str = ""  # thresher's own

    def tolerance(self, default):
        return default if self.tol == "default" else float(self.tol)

    def splits(self):
        """[(training rows, held-out rows)] of each fold."""
        return [
            (np.flatnonzero(self.fold_id != k), np.flatnonzero(self.fold_id == k))
            for k in range(int(self.fold_id.max()) + 1)
        ]


@dataclasses.dataclass
class Solution:
    """What a solver found, on the scale of X and Y as given.

    A path has one fit for every response and lambda, cross-validation one for every response.
    """

    lambdas: np.ndarray  # (R, L) as the solver reports them, in the units of docs/units.md
    intercept: np.ndarray  # (R, L), or (R, 1)
    coef: list  # R arrays or scipy.sparse matrices (p, L), or (p, 1)
    cv_error: np.ndarray | None = None  # (R, L) mean squared held-out error; NaN: not reported
    best: np.ndarray | None = None  # (R) the chosen lambda

    def save(self, path):
        import scipy.sparse

        columns = scipy.sparse.hstack([scipy.sparse.csc_matrix(c) for c in self.coef]).tocsc()
        columns.sort_indices()
        given = {
            "lambdas": self.lambdas,
            "intercept": self.intercept,
            "values": columns.data,
            "indices": columns.indices,
            "indptr": columns.indptr,
            "p": columns.shape[0],
        }
        if self.best is not None:
            given["best"] = self.best
        if self.cv_error is not None:
            given["cv_error"] = self.cv_error
        np.savez(path, **given)


class Shortened(Exception):
    """A solver ended its path before the last lambda that was asked for."""


def require_whole(found, grid, why):
    """A shortened path is no answer; its adapter says so before it stacks responses."""
    if found < len(grid):
        raise Shortened(f"the path ends at lambda {found} of {len(grid)}: {why}")


class Solver:
    """One call to be timed. run() is on the clock, everything else is not."""

    pid = None  # the process whose memory counts, if it is not this one
    seconds = None  # (wall, cpu) of the last run() where the solver has its own clock

    def __init__(self, task):
        self.task = task

    def run(self):
        raise NotImplementedError

    def solution(self):
        raise NotImplementedError

    def counts(self):
        """What the last run says of its work, for floors.py; after solution()."""
        return {}

    def close(self):
        """Removes what the solver left on disk, ends its process."""


class PathLoop(Solver):
    """A path for each response, one after the other. Adapters say how one is fitted."""

    def prepare(self, X):
        """What fit() takes in place of X (n, p); done once for all responses, on the clock."""
        return X

    def fit(self, prepared, y, grid):
        """(intercepts (L), coef (p, L)) of one response."""
        raise NotImplementedError

    def run(self):
        task = self.task
        X = self.prepare(task.X)
        self.fits = [self.fit(X, y, grid) for y, grid in zip(task.Y.T, task.grid)]

    def solution(self):
        intercept, coef = zip(*self.fits)
        return Solution(self.task.grid, np.array(intercept), list(coef))


class FoldLoop(PathLoop):
    """Cross-validation by paths: one for each fold, and one down to the best lambda."""

    def run(self):
        task = self.task
        self.fits, self.error, self.best = [], [], []
        X = self.prepare(task.X)
        splits = [
            (self.prepare(np.asfortranarray(task.X[train])), train, task.X[held], held)
            for train, held in task.splits()
        ]
        for y, grid in zip(task.Y.T, task.grid):
            squares = np.zeros(len(grid))
            for X_train, train, X_held, held in splits:
                intercept, coef = self.fit(X_train, y[train], grid)
                squares += ((y[held, None] - X_held @ coef - intercept) ** 2).sum(axis=0)
            best = int(squares.argmin())
            intercept, coef = self.fit(X, y, grid[: best + 1])
            self.fits.append((intercept[-1:], coef[:, -1:]))
            self.error.append(squares / len(y))
            self.best.append(best)

    def solution(self):
        path = super().solution()
        return dataclasses.replace(path, cv_error=np.array(self.error), best=np.array(self.best))

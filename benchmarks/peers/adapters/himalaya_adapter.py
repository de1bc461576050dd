"""himalaya: RidgeCV (svd) for n >= p, KernelRidgeCV (eigenvalues) for n < p, as its guide says.

alpha is n lambda and stays the same within folds, where ours is n_train lambda: the grids of the
folds differ by the factor (K - 1)/K, the cost does not. The refit is the same problem.
"""

import himalaya
import numpy as np
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from solver_task import Solution, Solver

WARM_UP = True


def versions(command):
    return {"himalaya": himalaya.__version__, "numpy": np.__version__}


class CrossValidation(Solver):
    def run(self):
        task = self.task
        n, p = task.X.shape
        alphas = task.grid[0] * n
        if n >= p:
            self.model = RidgeCV(alphas=alphas, fit_intercept=True, cv=Folds(task))
        else:
            self.model = KernelRidgeCV(
                alphas=alphas, kernel="linear", fit_intercept=True, cv=Folds(task)
            )
        self.model.fit(task.X, task.Y)
        self.coef = self.model.coef_ if n >= p else self.model.get_primal_coef()  # (p, R)

    def solution(self):
        task = self.task
        n = task.X.shape[0]
        best = np.abs(task.grid[0][None, :] * n / self.model.best_alphas_[:, None] - 1).argmin(
            axis=1
        )
        coef = np.asarray(self.coef, dtype=np.float64)
        return Solution(
            task.grid,
            np.asarray(self.model.intercept_, dtype=np.float64)[:, None],
            [c[:, None] for c in coef.T],
            None,
            best,
        )


class Folds:
    """The given folds as a scikit-learn splitter."""

    def __init__(self, task):
        self.splits = task.splits()

    def get_n_splits(self, X=None, y=None, groups=None):
        return len(self.splits)

    def split(self, X=None, y=None, groups=None):
        return iter(self.splits)


def make(task):
    return CrossValidation(task)

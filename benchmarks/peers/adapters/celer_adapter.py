"""celer: celer_path with the settings of its LassoCV (prune, max_iter 100); Lasso for one lambda.

celer_path has no intercept: X and y are centred on the clock, as the estimators do. `default` is
the estimators' tol 1e-4. LassoCV of celer 0.7.4 does not construct under scikit-learn 1.9 (it
passes the removed n_alphas), so cross-validation is its loop: a path for each fold, and a last one
down to the best lambda.
"""

import celer
import numpy as np
from celer import ElasticNet, Lasso, celer_path
from solver_task import FoldLoop, PathLoop, Solution, Solver

WARM_UP = True


def versions(command):
    return {"celer": celer.__version__, "numpy": np.__version__}


def stopping(task):
    return {"tol": task.tolerance(1e-4), "max_iter": 100}


class Path(PathLoop):
    def prepare(self, X):
        x_mean = X.mean(axis=0)
        return X - x_mean, x_mean

    def fit(self, prepared, y, grid):
        centred, x_mean = prepared
        y_mean = y.mean()
        _, coef, _ = celer_path(
            centred,
            y - y_mean,
            "lasso",
            alphas=grid,
            prune=True,
            l1_ratio=self.task.l1_ratio,
            **stopping(self.task),
        )
        return y_mean - x_mean @ coef, coef


class OneLambda(Solver):
    def run(self):
        task = self.task
        if task.l1_ratio == 1:
            model = Lasso(alpha=task.grid[0, 0], **stopping(task))
        else:
            model = ElasticNet(alpha=task.grid[0, 0], l1_ratio=task.l1_ratio, **stopping(task))
        self.model = model.fit(task.X, task.Y[:, 0])

    def solution(self):
        return Solution(
            np.array([[self.model.alpha]]),
            np.array([[self.model.intercept_]]),
            [self.model.coef_.reshape(-1, 1)],
        )


class CrossValidation(FoldLoop, Path):
    pass


def make(task):
    if task.kind == "cv":
        return CrossValidation(task)
    return OneLambda(task) if task.grid.shape == (1, 1) else Path(task)

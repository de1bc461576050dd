"""celer: celer_path with the settings of its LassoCV (prune, max_iter 100), LassoCV, Lasso.

celer_path has no intercept: X and y are centred on the clock, as the estimators do. `default` is
the estimators' tol 1e-4.
"""

import celer
import numpy as np
from adapters.sklearn_adapter import chosen_solution
from celer import ElasticNet, ElasticNetCV, Lasso, LassoCV, celer_path
from solver_task import Solution, Solver

WARM_UP = True


def versions(command):
    return {"celer": celer.__version__, "numpy": np.__version__}


def stopping(task):
    return {"tol": task.tolerance(1e-4), "max_iter": 100}


class Path(Solver):
    def run(self):
        task = self.task
        self.fits = []
        x_mean = task.X.mean(axis=0)
        X = task.X - x_mean
        for y, grid in zip(task.Y.T, task.grid):
            y_mean = y.mean()
            alphas, coef, _ = celer_path(
                X,
                y - y_mean,
                "lasso",
                alphas=grid,
                prune=True,
                l1_ratio=task.l1_ratio,
                **stopping(task),
            )
            self.fits.append((alphas, y_mean - x_mean @ coef, coef))

    def solution(self):
        alphas, intercept, coef = zip(*self.fits)
        return Solution(np.array(alphas), np.array(intercept), list(coef))


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


class CrossValidation(Solver):
    def run(self):
        task = self.task
        self.models = []
        splits = task.splits()
        for y, grid in zip(task.Y.T, task.grid):
            if task.l1_ratio == 1:
                model = LassoCV(alphas=grid, cv=splits, **stopping(task))
            else:
                model = ElasticNetCV(
                    l1_ratio=task.l1_ratio, alphas=grid, cv=splits, **stopping(task)
                )
            self.models.append(model.fit(task.X, y))

    def solution(self):
        return chosen_solution(self.task, self.models)


def make(task):
    if task.kind == "cv":
        return CrossValidation(task)
    return OneLambda(task) if task.grid.shape == (1, 1) else Path(task)

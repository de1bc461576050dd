"""glum: GeneralizedLinearRegressor(alpha_search=True) on the grid, and its CV class.

It forms the p x p Hessian: it is meant for n much larger than p.
"""

import glum
import numpy as np
from solver_task import Solution, Solver

WARM_UP = True


def versions(command):
    return {"glum": glum.__version__, "numpy": np.__version__}


def stopping(task):
    if task.tol == "default":
        return {}
    return {"gradient_tol": float(task.tol), "max_iter": 10_000}


class Path(Solver):
    def run(self):
        task = self.task
        self.models = [
            glum.GeneralizedLinearRegressor(
                l1_ratio=task.l1_ratio, alpha_search=True, alphas=grid, **stopping(task)
            ).fit(task.X, y)
            for y, grid in zip(task.Y.T, task.grid)
        ]

    def solution(self):
        return Solution(
            np.array([m._alphas for m in self.models]),
            np.array([m.intercept_path_ for m in self.models]),
            [np.asarray(m.coef_path_).T for m in self.models],
        )


class CrossValidation(Solver):
    def run(self):
        task = self.task
        self.models = [
            glum.GeneralizedLinearRegressorCV(
                l1_ratio=task.l1_ratio, alphas=grid, cv=task.splits(), **stopping(task)
            ).fit(task.X, y)
            for y, grid in zip(task.Y.T, task.grid)
        ]

    def solution(self):
        task = self.task
        best = [
            int(np.abs(grid / m.alpha_ - 1).argmin()) for grid, m in zip(task.grid, self.models)
        ]
        return Solution(
            task.grid,
            np.array([[m.intercept_] for m in self.models]),
            [m.coef_[:, None] for m in self.models],
            None,
            np.array(best),
        )


def make(task):
    return CrossValidation(task) if task.kind == "cv" else Path(task)

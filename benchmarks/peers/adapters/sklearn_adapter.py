"""scikit-learn: enet_path (Gram matrix by its own rule, gap-safe screening), LassoCV, RidgeCV.

enet_path has no intercept: X and y are centred on the clock, as Lasso.fit does. `default` also
leaves max_iter at 1000; tighter tolerances get 1e6. One lambda goes through ElasticNet. Ridge with
cross-validation is RidgeCV with its closed-form leave-one-out (tol `default`), one alpha for each
response; `--tol cv` is GridSearchCV over Ridge on the given folds, which has one alpha for all.
alpha of Ridge is n lambda.
"""

import numpy as np
import sklearn
import threadpoolctl
from sklearn.linear_model import ElasticNet, ElasticNetCV, LassoCV, Ridge, RidgeCV, enet_path
from sklearn.model_selection import GridSearchCV
from solver_task import Solution, Solver

WARM_UP = True


def versions(command):
    blas = sorted(  # the order of loaded libraries varies, and a row is looked up by its versions
        f"{m['internal_api']} {m['version']}, kernels for {m['architecture']}"
        for m in threadpoolctl.threadpool_info()
        if m["user_api"] == "blas"
    )
    return {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "blas": "; ".join(blas)}


def stopping(task):
    tol = task.tolerance(1e-4)
    return {"tol": tol, "max_iter": 1000 if task.tol == "default" else 1_000_000}


class Path(Solver):
    def run(self):
        task = self.task
        self.fits = []
        x_mean = task.X.mean(axis=0)
        X = task.X - x_mean
        for y, grid in zip(task.Y.T, task.grid):
            y_mean = y.mean()
            alphas, coef, _ = enet_path(
                X, y - y_mean, l1_ratio=task.l1_ratio, alphas=grid, copy_X=False, **stopping(task)
            )
            self.fits.append((alphas, y_mean - x_mean @ coef, coef))

    def solution(self):
        alphas, intercept, coef = zip(*self.fits)
        return Solution(np.array(alphas), np.array(intercept), list(coef))


class OneLambda(Solver):
    def run(self):
        task = self.task
        self.model = ElasticNet(alpha=task.grid[0, 0], l1_ratio=task.l1_ratio, **stopping(task))
        self.model.fit(task.X, task.Y[:, 0])

    def solution(self):
        return Solution(
            np.array([[self.model.alpha]]),
            np.array([[self.model.intercept_]]),
            [self.model.coef_[:, None]],
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


def chosen_solution(task, models):
    """Of fitted LassoCV-like estimators, one for each response."""
    lambdas = np.array([m.alphas_ for m in models])
    # mse_path_ has one column for each fold; folds weigh by their rows.
    share = np.bincount(task.fold_id) / len(task.fold_id)
    error = np.array([m.mse_path_ @ share for m in models])
    best = np.array([int(np.flatnonzero(m.alphas_ == m.alpha_)[0]) for m in models])
    return Solution(
        lambdas,
        np.array([[m.intercept_] for m in models]),
        [m.coef_[:, None] for m in models],
        error,
        best,
    )


class LeaveOneOut(Solver):
    def run(self):
        task = self.task
        alphas = task.grid[0] * len(task.X)
        self.model = RidgeCV(alphas=alphas, alpha_per_target=True).fit(task.X, task.Y)

    def solution(self):
        model, n = self.model, len(self.task.X)
        best = np.abs(self.task.grid[0][None, :] * n / model.alpha_[:, None] - 1).argmin(axis=1)
        return Solution(
            self.task.grid, model.intercept_[:, None], [c[:, None] for c in model.coef_], None, best
        )


class RidgeGrid(Solver):
    def run(self):
        task = self.task
        search = GridSearchCV(
            Ridge(),
            {"alpha": task.grid[0] * len(task.X)},
            cv=task.splits(),
            scoring="neg_mean_squared_error",
        )
        self.search = search.fit(task.X, task.Y)

    def solution(self):
        model = self.search.best_estimator_
        best = np.full(self.task.Y.shape[1], self.search.best_index_)
        return Solution(
            self.task.grid, model.intercept_[:, None], [c[:, None] for c in model.coef_], None, best
        )


def make(task):
    if task.kind == "ridge-cv":
        return RidgeGrid(task) if task.tol == "cv" else LeaveOneOut(task)
    if task.kind == "cv":
        return CrossValidation(task)
    return OneLambda(task) if task.grid.shape == (1, 1) else Path(task)

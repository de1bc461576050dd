"""adelie: grpnet on matrix.dense, early exit off, everything else its default.

Tolerances tighter than the default get max_iters 1e8: its 1e5 ends such a path without an error.
Its cv_grpnet draws its own folds and takes no grid, so cross-validation repeats its loop: grpnet
with weight 0 on the held-out rows, then one path down to the best lambda.
"""

import adelie
import numpy as np
from solver_task import Solution, Solver, require_whole

WARM_UP = True


def versions(command):
    return {"adelie": adelie.__version__, "numpy": np.__version__}


class Path(Solver):
    def fit(self, X, glm, grid):
        task = self.task
        limit = {} if task.tol == "default" else {"max_iters": int(1e8)}
        state = adelie.grpnet(
            X,
            glm,
            alpha=task.l1_ratio,
            lmda_path=grid,
            early_exit=False,
            tol=task.tolerance(1e-7),
            n_threads=task.threads,
            progress_bar=False,
            **limit,
        )
        require_whole(len(state.lmdas), grid, state.error)
        return state

    def dense(self):
        return adelie.matrix.dense(self.task.X, method="naive", n_threads=self.task.threads)

    def run(self):
        task = self.task
        X = self.dense()
        self.fits = [
            self.fit(X, adelie.glm.gaussian(y), grid) for y, grid in zip(task.Y.T.copy(), task.grid)
        ]

    def solution(self):
        return Solution(
            np.array([s.lmdas for s in self.fits]),
            np.array([s.intercepts for s in self.fits]),
            [s.betas.T for s in self.fits],
        )


class CrossValidation(Path):
    def run(self):
        task = self.task
        X = self.dense()
        n = len(task.X)
        self.fits, self.error, self.best = [], [], []
        splits = [
            (np.where(task.fold_id == k, 0.0, 1.0), task.X[held], held)
            for k, (_, held) in enumerate(task.splits())
        ]
        for y, grid in zip(task.Y.T.copy(), task.grid):
            squares = np.zeros(len(grid))
            for weights, X_held, held in splits:
                state = self.fit(X, adelie.glm.gaussian(y, weights=weights), grid)
                fitted = X_held @ state.betas.T + state.intercepts
                squares += ((y[held, None] - fitted) ** 2).sum(axis=0)
            best = int(squares.argmin())
            self.fits.append(self.fit(X, adelie.glm.gaussian(y), grid[: best + 1]))
            self.error.append(squares / n)
            self.best.append(best)

    def solution(self):
        return Solution(
            self.task.grid,
            np.array([s.intercepts[-1:] for s in self.fits]),
            [s.betas.T[:, -1:] for s in self.fits],
            np.array(self.error),
            np.array(self.best),
        )


def make(task):
    return CrossValidation(task) if task.kind == "cv" else Path(task)

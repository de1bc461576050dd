"""glmnet (R): glmnet() and cv.glmnet(), standardize off, early stop off, intercept on.

Its clock is inside R, around the call alone. Tolerances tighter than the default get maxit 1e8.
With l1_ratio < 1 lambda and alpha are converted because glmnet divides the L2 part by sd(y)
(docs/units.md). One lambda: as its manual asks, not called with a single lambda but with a path
of ten down to it.
"""

import numpy as np
import scipy.sparse
from adapters import r_solver
from solver_task import Solution, require_whole

WARM_UP = False  # r_peers.R warms itself up


def versions(command):
    return r_solver.package_versions("glmnet")


class Glmnet(r_solver.RSolver):
    def __init__(self, task):
        super().__init__(task, "glmnet")
        sd = task.Y.std(axis=0)
        # docs/units.md, "one way back": our lambda and l1_ratio to theirs.
        self.factor = task.l1_ratio + (1 - task.l1_ratio) * sd  # (R)
        self.alpha = task.l1_ratio / self.factor
        asked = task.grid
        if asked.shape[1] == 1:
            centred = task.Y - task.Y.mean(axis=0)
            top = np.abs(np.load(task.folder / "X.npy").T @ centred).max(axis=0) / len(centred)
            asked = np.array(
                [np.geomspace(t / task.l1_ratio, g[0], 10) for t, g in zip(top, asked)]
            )
        self.asked = asked
        self.save("grid", asked * self.factor[:, None])
        self.save("alpha", self.alpha)

    def run(self):
        tight = self.task.tol != "default"
        self.said = self.timed(
            "cv" if self.task.kind != "path" else "path",
            self.scratch / "grid.npy",
            self.scratch / "alpha.npy",
            self.task.tol,
            "1e8" if tight else "default",
        )

    def solution(self):
        task = self.task
        self.ask("write", self.scratch)
        for found in self.load("lengths"):
            require_whole(int(found), self.asked[0], self.said["warnings"])
        lambdas = self.load("lambdas").reshape(task.Y.shape[1], -1) / self.factor[:, None]
        indptr = self.load("indptr").astype(np.int64)
        columns = scipy.sparse.csc_matrix(
            (self.load("values"), self.load("indices").astype(np.int64), indptr),
            shape=(int(self.load("p")[0]), len(indptr) - 1),
        )
        intercept = self.load("intercept").reshape(task.Y.shape[1], -1)
        fits = intercept.shape[1]
        coef = [columns[:, r * fits : (r + 1) * fits] for r in range(len(intercept))]
        if task.kind == "path":
            if task.grid.shape[1] == 1:
                lambdas, intercept, coef = (
                    lambdas[:, -1:],
                    intercept[:, -1:],
                    [c[:, -1:] for c in coef],
                )
            return Solution(lambdas, intercept, coef)
        error = self.load("cv_error").reshape(task.Y.shape[1], -1)
        return Solution(lambdas, intercept, coef, error, self.load("best").astype(np.int64))


def make(task):
    return Glmnet(task)

"""Thresher as a solver of https://github.com/benchopt/benchmark_lasso: copy it into its solvers/.

The package is in no registry: `pip install` a checkout of Thresher into benchopt's environment.
"""

import numpy as np
from benchopt import BaseSolver
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

import thresher


class Solver(BaseSolver):
    """Path-free single fit; each tolerance is a bound on the relative duality gap."""

    name = "Thresher"
    sampling_strategy = "tolerance"
    requirements = ["numpy", "scipy", "scikit-learn"]
    parameters = {"device": ["cpu"], "threads": [0]}
    references = ["docs/method.md of Thresher: active sets, with a gap recomputed in double"]

    def skip(self, X, y, lmbd, fit_intercept):
        if sparse.issparse(X) or isinstance(X, LinearOperator):
            return True, f"{self.name} needs a dense X"
        return False, None

    def set_objective(self, X, y, lmbd, fit_intercept):
        self.X, self.y = X, y
        self.fit_intercept = fit_intercept
        # benchmark_lasso: 1/2 RSS + lmbd |b|_1; ours divides the loss by the number of rows.
        self.lambda_grid = [lmbd / X.shape[0]]

    def run(self, tol):
        # benchopt starts at an infinite tolerance; a gap of 1 is reached by no features at all.
        result = thresher.fit_path(
            self.X,
            self.y,
            lambda_grid=self.lambda_grid,
            intercept=self.fit_intercept,
            tol=min(tol, 1.0),
            device=self.device,
            threads=self.threads,
        )
        coef = result.coef(0).toarray().ravel()
        intercept = result.intercept[0, 0] if self.fit_intercept else np.empty(0)
        self.beta = np.concatenate([coef, intercept])

    def get_result(self):
        return {"beta": self.beta}

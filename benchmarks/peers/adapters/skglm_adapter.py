"""skglm: AndersonCD.path with intercept and its defaults (what its Lasso and ElasticNet run).

It has no estimator that cross-validates a path: the folds are a loop over AndersonCD.path, and a
last path down to the best lambda. Compilation by numba happens in the warm-up.
"""

import numba
import numpy as np
import skglm
from skglm.datafits import Quadratic
from skglm.penalties import L1, L1_plus_L2
from skglm.solvers import AndersonCD
from skglm.utils.jit_compilation import compiled_clone
from solver_task import FoldLoop, PathLoop

WARM_UP = True


def versions(command):
    return {"skglm": skglm.__version__, "numba": numba.__version__, "numpy": np.__version__}


class Path(PathLoop):
    def __init__(self, task):
        super().__init__(task)
        plain = L1(1.0) if task.l1_ratio == 1 else L1_plus_L2(1.0, task.l1_ratio)
        self.penalty = compiled_clone(plain)
        self.datafit = compiled_clone(Quadratic())
        limit = {} if task.tol == "default" else {"max_iter": 1000}
        self.solver = AndersonCD(tol=task.tolerance(1e-4), fit_intercept=True, **limit)

    def fit(self, prepared, y, grid):
        _, coef, _ = self.solver.path(prepared, y, self.datafit, self.penalty, alphas=grid)
        return coef[-1], coef[:-1]


class CrossValidation(FoldLoop, Path):
    pass


def make(task):
    return CrossValidation(task) if task.kind == "cv" else Path(task)

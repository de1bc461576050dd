"""The solver file for benchopt keeps the contract of benchmark_lasso's objective."""

import importlib.util
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from scipy import sparse

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "benchmarks/benchopt/thresher_solver.py"
HAS_BENCHOPT = importlib.util.find_spec("benchopt") is not None

OBJECTIVE = """
import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    name = "Lasso Regression"
    parameters = {"fit_intercept": [True, False], "reg": [0.1]}
    min_benchopt_version = "1.6"

    def set_data(self, X, y):
        self.X, self.y = X, y
        self.lmbd = self.reg * abs(X.T @ (y - y.mean() * self.fit_intercept)).max()

    def get_one_result(self):
        return {"beta": np.zeros(self.X.shape[1] + self.fit_intercept)}

    def evaluate_result(self, beta):
        coef = beta[: self.X.shape[1]]
        residual = self.y - self.X @ coef - (beta[-1] if self.fit_intercept else 0)
        return {"value": residual @ residual / 2 + self.lmbd * abs(coef).sum()}

    def get_objective(self):
        return {"X": self.X, "y": self.y, "lmbd": self.lmbd, "fit_intercept": self.fit_intercept}
"""
DATASET = """
import numpy as np
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "Simulated"

    def get_data(self):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((50, 100))
        return {"X": X, "y": X[:, :3].sum(axis=1) + rng.standard_normal(50) + 2}
"""


@pytest.fixture
def solver(monkeypatch):
    """An instance as benchopt makes it: parameters become attributes."""
    stand_in = types.ModuleType("benchopt")
    stand_in.BaseSolver = object
    monkeypatch.setitem(sys.modules, "benchopt", stand_in)
    spec = importlib.util.spec_from_file_location("thresher_solver", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    instance = module.Solver()
    for name, values in module.Solver.parameters.items():
        setattr(instance, name, values[0])
    return instance


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_gap_of_the_benchmark_falls_to_zero(solver, data, fit_intercept):
    X, y = data[0], data[1][:, 0] + 3
    centered = y - y.mean() * fit_intercept
    lmbd = 0.1 * abs(X.T @ centered).max()
    given = {"X": X, "y": y, "lmbd": lmbd, "fit_intercept": fit_intercept}
    assert solver.skip(**given) == (False, None)
    solver.set_objective(**given)
    gaps = []
    for tol in (1e38, 1e-2, 1e-10):
        solver.run(tol)
        beta = solver.get_result()["beta"]
        assert beta.shape == (X.shape[1] + fit_intercept,)
        coef = beta[: X.shape[1]]
        residual = y - X @ coef - (beta[-1] if fit_intercept else 0)
        primal = residual @ residual / 2 + lmbd * abs(coef).sum()
        dual = residual * min(1, lmbd / abs(X.T @ residual).max())
        gaps.append(primal - (centered @ centered - (centered - dual) @ (centered - dual)) / 2)
        assert gaps[-1] <= max(tol, 1e-12) * (centered @ centered) / 2 * (1 + 1e-9)
    assert gaps[-1] >= -1e-9


def test_sparse_data_is_skipped_with_a_reason(solver):
    skip, reason = solver.skip(sparse.csc_array(np.eye(3)), np.ones(3), 1.0, False)
    assert skip
    assert "dense" in reason


@pytest.mark.skipif(not HAS_BENCHOPT, reason="benchopt is not installed")
def test_benchopt_runs_it(tmp_path):
    for folder, name, text in (
        (".", "objective.py", OBJECTIVE),
        ("datasets", "simulated.py", DATASET),
        ("solvers", "thresher.py", FILE.read_text()),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "benchopt", "run", ".", "-n", "20", "--no-plot", "--no-html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "outputs").glob("*.parquet")), done.stdout + done.stderr
    assert "Thresher" in done.stdout
    assert "error" not in done.stdout.lower(), done.stdout

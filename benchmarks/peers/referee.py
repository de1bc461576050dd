"""The referee: how good is a solution, from data, lambdas, coefficients and intercepts alone.

Float64 NumPy; it shares no code and no formula with any solver. For a fit (b0, b) with
r = y - b0 - X b, q = r minus its mean and g = X' q / n, every s >= 0 (s |g_j| <= a for all j if
e = 0) gives a lower bound of the objective P,

    D(s) = s q'y_c / n - s^2 |q|^2 / (2 n) - sum_j max(s |g_j| - a, 0)^2 / (2 e),

with a = lambda l1_ratio and e = lambda (1 - l1_ratio); the gap is P - max D, divided by the null
loss |y_c|^2 / (2 n). Here P and D are computed apart and subtracted, so that a gap has an error of
some 1e-16 of the null loss.

    referee.py WORKLOAD-FOLDER SOLUTION.npz [--responses 0,7] [--reference REFERENCE.npz]
    referee.py WORKLOAD-FOLDER SOLUTION.npz --make-reference REFERENCE.npz
    referee.py --self-test

A reference is a path whose every gap is at most 1e-12 by the judgement above, wherever it comes
from; of cross-validation it is the held-out errors of the first responses. For the Lasso these are
taken from such paths on the training rows, in WORKLOAD-FOLDER/fold-K/solution.npz, for ridge they
are computed here.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

FEW = 2  # responses whose cross-validation the referee repeats
REFERENCE_GAP = 1e-12  # a reference must be at least this good; rounding costs some 1e-13


class Refused(Exception):
    """The solution is not an answer to what was asked."""


def best_bound(qy, qq, g, a, e):
    """max over s of D(s), all for one fit; qy = q'y_c / n, qq = |q|^2 / n, g (p)."""
    if qq == 0:
        return 0.0
    size = np.abs(g)
    if e == 0:
        largest = size.max(initial=0.0)
        s = max(qy / qq, 0.0)
        if largest > 0:
            s = min(s, a / largest)
        return s * qy - s * s * qq / 2

    # D is concave: bisection on its derivative, over features that can take part.
    top = max(qy / qq, 0.0)
    size = size[top * size > a]

    def slope(s):
        return qy - s * qq - (np.maximum(s * size - a, 0) * size).sum() / e

    low, high = 0.0, top
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low * qy - low * low * qq / 2 - (np.maximum(low * size - a, 0) ** 2).sum() / (2 * e)


def judge_fits(X, y, lambdas, l1_ratio, intercept, coef):
    """(gaps, objectives) relative to the null loss.

    X (n, p), y (n), lambdas (L), intercept (L), coef: function of a slice to a dense (p, .) block.
    """
    n = X.shape[0]
    centred = y - y.mean()
    null_loss = (centred @ centred) / (2 * n)
    gaps, objectives = np.empty(len(lambdas)), np.empty(len(lambdas))
    for first in range(0, len(lambdas), 20):
        block = slice(first, min(first + 20, len(lambdas)))
        B = coef(block)
        used = np.flatnonzero(B.any(axis=1))
        residual = y[:, None] - intercept[block] - X[:, used] @ B[used]
        q = residual - residual.mean(axis=0)
        G = X.T @ q / n
        for k in range(B.shape[1]):
            lam = lambdas[first + k]
            a, e = lam * l1_ratio, lam * (1 - l1_ratio)
            b = B[used, k]
            primal = (
                residual[:, k] @ residual[:, k] / (2 * n) + a * np.abs(b).sum() + e * (b @ b) / 2
            )
            dual = best_bound(q[:, k] @ centred / n, q[:, k] @ q[:, k] / n, G[:, k], a, e)
            gaps[first + k] = (primal - dual) / null_loss
            objectives[first + k] = primal / null_loss
    return gaps, objectives


class Fits:
    """The fits of a solution file, checked against what was asked."""

    def __init__(self, solution, grid, p, kind):
        n_responses, n_lambdas = grid.shape
        self.per_response = n_lambdas if kind == "path" else 1
        fits = n_responses * self.per_response
        self.intercept = self.finite(solution, "intercept")
        self.values = self.finite(solution, "values")
        lambdas = self.finite(solution, "lambdas")
        self.indices, self.indptr = solution["indices"], solution["indptr"]
        if int(solution["p"]) != p:
            raise Refused(f"{int(solution['p'])} features, asked: {p}")
        if self.intercept.shape != (n_responses, self.per_response):
            raise Refused(
                f"intercepts of shape {self.intercept.shape}, asked: "
                f"{(n_responses, self.per_response)}"
            )
        if len(self.indptr) != fits + 1 or self.indptr[-1] != len(self.values):
            raise Refused(f"{len(self.indptr) - 1} fits, asked: {fits}")
        if len(self.indices) and (self.indices.min() < 0 or self.indices.max() >= p):
            raise Refused("a feature that does not exist")
        if lambdas.shape != grid.shape:
            raise Refused(f"lambdas of shape {lambdas.shape}, asked: {grid.shape}")
        if np.abs(lambdas / grid - 1).max() > 1e-9:
            raise Refused("other lambdas than asked")
        self.best = None
        if kind != "path":
            self.best = solution["best"]
            if (
                self.best.shape != (n_responses,)
                or not ((0 <= self.best) & (self.best < n_lambdas)).all()
            ):
                raise Refused("no choice of lambda for every response")
        self.p = p

    @staticmethod
    def finite(solution, name):
        values = solution[name]
        if not np.isfinite(values).all():
            raise Refused(f"{name} that are not finite")
        return values

    def dense(self, response, block):
        first = response * self.per_response
        columns = range(first + block.start, first + block.stop)
        result = np.zeros((self.p, len(columns)))
        for k, f in enumerate(columns):
            own = slice(self.indptr[f], self.indptr[f + 1])
            result[self.indices[own], k] = self.values[own]
        return result

    def support(self, response, k):
        f = response * self.per_response + k
        own = slice(self.indptr[f], self.indptr[f + 1])
        return set(self.indices[own][self.values[own] != 0].tolist())


def judge(X, Y, grid, l1_ratio, kind, solution):
    """gap and objective of every fit, (R, L) or (R, 1), and the checked fits."""
    fits = Fits(solution, grid, X.shape[1], kind)
    gaps, objectives = [], []
    for r in range(Y.shape[1]):
        lambdas = grid[r] if fits.best is None else grid[r, fits.best[r] : fits.best[r] + 1]
        gap, objective = judge_fits(
            X,
            Y[:, r],
            lambdas,
            l1_ratio,
            fits.intercept[r],
            lambda block, r=r: fits.dense(r, block),
        )
        gaps.append(gap)
        objectives.append(objective)
    return np.array(gaps), np.array(objectives), fits


def load(folder):
    """(workload, X, Y, grid)"""
    described = json.loads((folder / "workload.json").read_text())
    return (described, *(np.load(folder / f"{name}.npy") for name in ("X", "Y", "grid")))


def verdict(folder, solution_path, responses=None, reference_path=None):
    """The entry of the table."""
    described, X, Y, grid = load(folder)
    if responses:
        Y, grid = Y[:, responses], grid[responses]
    with np.load(solution_path) as solution:
        gaps, objectives, fits = judge(
            X, Y, grid, described["l1_ratio"], described["kind"], solution
        )
        error = solution["cv_error"] if "cv_error" in solution else None
    result = {"gap": float(gaps.max()), "most_nonzero": int(np.diff(fits.indptr).max(initial=0))}
    if reference_path is None:
        return result
    with np.load(reference_path) as reference:
        if described["kind"] == "path":
            compare_path(
                result,
                objectives,
                fits,
                Fits(reference, grid, X.shape[1], "path"),
                reference["objective"],
            )
        else:
            compare_choice(result, fits, error, reference["cv_error"], responses)
    return result


def compare_path(result, objectives, fits, best, best_objective):
    """True suboptimality, and features too many and too few, at the worst lambda."""
    result["suboptimality"] = float((objectives - best_objective).max())
    false, missing = [], []
    for r in range(len(objectives)):
        for k in range(fits.per_response):
            mine, true = fits.support(r, k), best.support(r, k)
            false.append(len(mine - true))
            missing.append(len(true - mine))
    result["false_features"], result["missing_features"] = max(false), max(missing)


def compare_choice(result, fits, error, known, responses):
    """known (few, L): held-out errors of the first responses."""
    mine = [k for k, r in enumerate(responses or range(len(fits.best))) if r < len(known)]
    known = known[[(responses or range(len(fits.best)))[k] for k in mine]]
    if error is not None:
        result["cv_error_difference"] = float(np.nanmax(np.abs(error[mine] / known - 1)))
    # How much worse than the best is the lambda that was chosen?
    chosen = np.take_along_axis(known, fits.best[mine][:, None], axis=1)[:, 0]
    result["cv_regret"] = float((chosen / known.min(axis=1) - 1).max())


def make_reference(folder, solution_path, reference_path):
    """Writes the reference; returns its gap, None where it is a closed form."""
    described, X, Y, grid = load(folder)
    if described["kind"] == "path":
        with np.load(solution_path) as solution:
            gaps, objectives, _ = judge(X, Y, grid, described["l1_ratio"], "path", solution)
            require_reference(gaps)
            np.savez(reference_path, objective=objectives, **solution)
        return float(gaps.max())

    fold_id = np.load(folder / "fold_id.npy")
    if described["kind"] == "ridge-cv":
        folds = ridge_fits(X, Y[:, :FEW], grid[0], fold_id)
        worst = None
    else:
        folds, worst = [], 0.0
        for k in range(described["folds"]):
            _, X_fold, Y_fold, grid_fold = load(folder / f"fold-{k}")
            with np.load(folder / f"fold-{k}" / "solution.npz") as solution:
                gaps, _, fits = judge(
                    X_fold, Y_fold, grid_fold, described["l1_ratio"], "path", solution
                )
            require_reference(gaps)
            worst = max(worst, float(gaps.max()))
            whole = slice(0, fits.per_response)
            folds.append((fits.intercept, [fits.dense(r, whole) for r in range(len(grid_fold))]))
    few = len(folds[0][0])
    errors = [
        held_out_errors(X, Y[:, r], fold_id, [(b0[r], coef[r]) for b0, coef in folds])
        for r in range(few)
    ]
    np.savez(reference_path, cv_error=np.array(errors))
    return worst


def require_reference(gaps):
    if gaps.max() > REFERENCE_GAP:
        raise Refused(f"a reference with gap {gaps.max():.1e}")


def held_out_errors(X, y, fold_id, fits):
    """(L) mean squared held-out error; fits: one (intercept (L), coef (p, L)) for each fold."""
    squares = 0.0
    for k, (intercept, coef) in enumerate(fits):
        held = fold_id == k
        fitted = X[held] @ coef + intercept
        squares = squares + ((y[held, None] - fitted) ** 2).sum(axis=0)
    return squares / len(y)


def ridge_fits(X, Y, lambdas, fold_id):
    """For each fold [(intercept (R, L), coef (R, p, L))] by one eigendecomposition each."""
    result = []
    for k in range(int(fold_id.max()) + 1):
        train = fold_id != k
        A, B = X[train], Y[train]
        x_mean, y_mean = A.mean(axis=0), B.mean(axis=0)
        A, B = A - x_mean, B - y_mean
        n = len(A)
        wide = n < A.shape[1]
        values, vectors = np.linalg.eigh((A @ A.T if wide else A.T @ A) / n)
        rotated = vectors.T @ (B if wide else A.T @ B / n)  # (m, R)
        coef = []
        for lam in lambdas:
            solved = vectors @ (rotated / (np.maximum(values, 0) + lam)[:, None])
            coef.append(A.T @ solved / n if wide else solved)
        coef = np.array(coef).transpose(2, 1, 0)  # (R, p, L)
        result.append((y_mean[:, None] - np.einsum("p,rpl->rl", x_mean, coef), coef))
    return result


def self_test():
    """Right answers pass, planted wrong ones are refused or show their gap."""
    random = np.random.default_rng(3)
    n, p = 80, 30
    X = random.standard_normal((n, p)) + 5
    Y = (X[:, :3] @ [1.0, -2.0, 0.5] + random.standard_normal(n))[:, None]
    top = np.abs(X.T @ (Y[:, 0] - Y.mean())).max() / n

    def solve(lam, l1_ratio, rows=slice(None)):
        """Proximal gradient to rounding; another method than any formula above."""
        A, y = X[rows] - X[rows].mean(axis=0), Y[rows, 0] - Y[rows].mean()
        b = np.zeros(p)
        step = len(y) / np.linalg.eigvalsh(A.T @ A)[-1]
        for _ in range(20_000):
            b = b + step * (A.T @ (y - A @ b) / len(y))
            b = np.sign(b) * np.maximum(np.abs(b) - step * lam * l1_ratio, 0)
            b = b / (1 + step * lam * (1 - l1_ratio))
        return b

    def packed(coef, lambdas, intercept=None):
        coef = np.array(coef).T  # (p, L)
        if intercept is None:
            intercept = Y.mean() - X.mean(axis=0) @ coef
        rows = [np.flatnonzero(c) for c in coef.T]
        return {
            "lambdas": np.array([lambdas]),
            "intercept": np.array([intercept]),
            "indices": np.concatenate(rows),
            "p": p,
            "values": np.concatenate([c[k] for c, k in zip(coef.T, rows)]),
            "indptr": np.concatenate([[0], np.cumsum([len(k) for k in rows])]),
        }

    def expect(condition, what):
        if not condition:
            raise SystemExit(f"referee: self-test failed: {what}")

    def refused(solution, grid, kind="path"):
        try:
            judge(X, Y, grid, 1.0, kind, solution)
        except Refused:
            return True
        return False

    for l1_ratio in (1.0, 0.5, 0.0):
        lambdas = top * np.array([0.5, 0.1])
        grid = lambdas[None]
        right = [solve(lam, l1_ratio) for lam in lambdas]
        gaps, objectives, _ = judge(X, Y, grid, l1_ratio, "path", packed(right, lambdas))
        expect(np.abs(gaps).max() < 1e-12, f"optimum has gap {gaps.max():.1e}")
        for size in (1e-2, 1e-4):
            wrong = [b + size * (np.arange(p) == 1) for b in right]
            planted, worse, _ = judge(X, Y, grid, l1_ratio, "path", packed(wrong, lambdas))
            loss = worse - objectives
            expect(
                (loss > 0).all() and (planted >= loss - 1e-15).all(),
                "a gap below the true suboptimality",
            )
        shifted = packed(right, lambdas, Y.mean() - X.mean(axis=0) @ np.array(right).T + 0.1)
        gaps, _, _ = judge(X, Y, grid, l1_ratio, "path", shifted)
        expect((gaps > 1e-4).all(), "a wrong intercept unseen")
        gaps, _, _ = judge(
            X, Y, 1.1 * grid, l1_ratio, "path", {**packed(right, lambdas), "lambdas": 1.1 * grid}
        )
        expect((gaps > 1e-6).all(), "the fits of other lambdas unseen")

    expect(refused(packed(right, 1.01 * lambdas), grid), "other lambdas accepted")
    expect(refused(packed(right[:1], lambdas[:1]), grid), "a missing fit accepted")
    expect(refused({**packed(right, lambdas), "p": p + 1}, grid), "another p accepted")
    broken = packed(right, lambdas)
    broken["values"] = np.where(np.arange(len(broken["values"])) == 0, np.nan, broken["values"])
    expect(refused(broken, grid), "NaN accepted")
    outside = packed(right, lambdas)
    outside["indices"] = outside["indices"] + p
    expect(refused(outside, grid), "a feature that does not exist accepted")
    expect(
        refused(
            {**packed(right[:1], lambdas[:1]), "lambdas": grid, "best": np.array([2])}, grid, "cv"
        ),
        "a choice outside the grid accepted",
    )

    # Closed-form folds against the iteration.
    fold_id = np.arange(n) % 2
    (_, coef), _ = ridge_fits(X, Y, [0.3 * top], fold_id)
    difference = np.abs(coef[0, :, 0] - solve(0.3 * top, 0.0, fold_id == 1)).max()
    expect(difference < 1e-10, f"ridge folds differ by {difference:.1e}")
    print("referee: self-test passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("solution", nargs="?", type=pathlib.Path)
    parser.add_argument("--responses", default="")
    parser.add_argument("--reference", type=pathlib.Path)
    parser.add_argument("--make-reference", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return 0
    responses = [int(r) for r in options.responses.split(",")] if options.responses else None
    try:
        if options.make_reference:
            gap = make_reference(options.folder, options.solution, options.make_reference)
            print(json.dumps({"gap": gap}))
            return 0
        print(json.dumps(verdict(options.folder, options.solution, responses, options.reference)))
    except Refused as refusal:
        print(json.dumps({"refused": str(refusal)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Same data, same alphas: our objective is never above scikit-learn's; LassoCV chooses the same."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold

import thresher

DATA = Path(__file__).resolve().parents[1] / "data"
SETS = sorted(path.parent.name for path in DATA.glob("*/meta.json"))

# Multiply-adds that scikit-learn may spend on one fit of a data set. Where it stops unconverged its
# objective is higher and the comparison easier; the random problems below converge.
SKLEARN_WORK = 3e9


def objective(X, y, weights, model, alpha, l1_ratio):
    residual = y - X @ model.coef_ - model.intercept_
    penalty = l1_ratio * np.abs(model.coef_).sum() + (1 - l1_ratio) / 2 * (model.coef_**2).sum()
    return 0.5 * np.average(residual**2, weights=weights) + alpha * penalty


def alpha_max(X, y, weights, l1_ratio, fit_intercept):
    w = np.ones(len(y)) if weights is None else weights
    centred = y - np.average(y, weights=w) if fit_intercept else y
    return np.abs(X.T @ (w * centred)).max() / (w.sum() * l1_ratio)


def excess(X, y, fraction, l1_ratio, *, weights=None, fit_intercept=True, max_iter=10**5):
    """Our objective minus scikit-learn's as a share of the null loss, and whether theirs ended."""
    alpha = fraction * alpha_max(X, y, weights, l1_ratio, fit_intercept)
    same = {"alpha": alpha, "l1_ratio": l1_ratio, "fit_intercept": fit_intercept}
    ours = thresher.ElasticNet(tol=1e-12, **same).fit(X, y, sample_weight=weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        theirs = sklearn.linear_model.ElasticNet(tol=1e-10, max_iter=max_iter, **same)
        theirs.fit(X, y, sample_weight=weights)
    centre = np.average(y, weights=weights) if fit_intercept else 0.0
    null = 0.5 * np.average((y - centre) ** 2, weights=weights)
    here = objective(X, y, weights, ours, alpha, l1_ratio)
    there = objective(X, y, weights, theirs, alpha, l1_ratio)
    return (here - there) / null, not caught


@pytest.mark.parametrize("block", range(10))
def test_two_hundred_random_problems(block):
    ended = 0
    for seed in range(20 * block, 20 * block + 20):
        rng = np.random.default_rng(seed)
        n, p = int(rng.integers(5, 80)), int(rng.integers(1, 120))
        X = rng.normal(size=(n, p)) * 10.0 ** rng.uniform(-2, 2, size=p)
        X += rng.choice([0.0, 0.9, 3.0]) * X[:, rng.integers(p, size=1)] + rng.normal()
        y = X @ (rng.normal(size=p) * (rng.random(p) < 0.2)) + rng.normal(size=n)
        difference, converged = excess(
            X,
            y,
            10.0 ** rng.uniform(-2.5, -0.1),
            rng.choice([1.0, 0.9, 0.5, 0.1]),
            weights=rng.choice([0.0, 1.0, 2.5], size=n, p=[0.1, 0.6, 0.3]) + 1e-3
            if rng.random() < 0.4
            else None,
            fit_intercept=rng.random() < 0.7,
            max_iter=20_000,
        )
        assert difference <= 1e-10, f"seed {seed}"
        ended += converged
    assert ended >= 12  # else scikit-learn's side would say little


def load(name):
    folder = DATA / name
    meta = json.loads((folder / "meta.json").read_text())
    Y = np.load(folder / "Y.npy").astype(float)
    if (folder / "X.npy").exists():
        return np.load(folder / "X.npy").astype(float), Y
    values, columns, indptr = (
        np.load(folder / f"X_csr_{part}.npy") for part in ("data", "indices", "indptr")
    )
    X = np.zeros((meta["n"], meta["p"]))
    X[np.repeat(np.arange(meta["n"]), np.diff(indptr)), columns] = values
    return X, Y


@pytest.mark.parametrize("name", SETS)
def test_data_sets(name):
    X, Y = load(name)
    weights = np.load(DATA / name / "weights.npy").astype(float)
    X = np.asfortranarray(X)
    max_iter = int(max(50, SKLEARN_WORK / X.size / 10))
    for r in range(min(Y.shape[1], 3)):
        for fraction in (0.5, 0.1, 0.01):
            for l1_ratio, w in ((1.0, None), (0.5, weights)):
                difference, _ = excess(X, Y[:, r], fraction, l1_ratio, weights=w, max_iter=max_iter)
                assert difference <= 1e-10, (r, fraction, l1_ratio)


def test_there_are_seven_data_sets():
    assert len(SETS) == 7


def same_choice(X, y, cv):
    tight = {"cv": cv, "alphas": 50, "eps": 1e-2}
    ours = thresher.LassoCV(tol=1e-12, **tight).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        theirs = sklearn.linear_model.LassoCV(tol=1e-9, max_iter=10**6, **tight).fit(X, y)
    assert ours.alpha_ == pytest.approx(theirs.alpha_, rel=1e-12)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-4)


def test_lasso_cv_chooses_the_same_alpha():
    for seed in range(25):
        rng = np.random.default_rng(seed)
        n, p = int(rng.integers(30, 100)), int(rng.integers(5, 80))
        X = rng.normal(size=(n, p))
        y = X[:, :4] @ rng.normal(size=min(4, p)) + 2.0 * rng.normal(size=n)
        same_choice(X, y, KFold(5, shuffle=True, random_state=seed))


@pytest.mark.parametrize("name", ["diabetes", "golub"])
def test_lasso_cv_chooses_the_same_alpha_on_real_data(name):
    X, Y = load(name)
    for r in range(min(Y.shape[1], 2)):
        same_choice(X, Y[:, r], KFold(5, shuffle=True, random_state=0))

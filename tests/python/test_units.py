"""Converted penalties are the same objective, and give the same fits elsewhere."""

import numpy as np
import pytest
import sklearn.linear_model

import thresher
from thresher import units


def glmnet_objective(y, X, coef, lambdas, alpha):
    """The gaussian objective as glmnet solves it: y divided by sd(y), and lambda, too."""
    sd = y.std()
    y, coef = (y - y.mean()) / sd, coef / sd
    residual = y - (X - X.mean(axis=0)) @ coef
    penalty = alpha * abs(coef).sum() + (1 - alpha) / 2 * coef @ coef
    return sd**2 * (residual @ residual / (2 * len(y)) + lambdas / sd * penalty)


def our_objective(y, X, coef, lambdas, l1_ratio):
    residual = y - y.mean() - (X - X.mean(axis=0)) @ coef
    penalty = l1_ratio * abs(coef).sum() + (1 - l1_ratio) / 2 * coef @ coef
    return residual @ residual / (2 * len(y)) + lambdas * penalty


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_glmnet_objective_is_ours(data, alpha):
    X, y = data[0], 7 * data[1][:, 0]
    coef = np.random.default_rng(2).standard_normal(X.shape[1])
    ours = units.from_glmnet(0.4, alpha=alpha, sd_y=units.sd(y))
    assert our_objective(y, X, coef, *ours) == pytest.approx(
        glmnet_objective(y, X, coef, 0.4, alpha), rel=1e-13
    )
    back = units.to_glmnet(ours.lambdas, l1_ratio=ours.l1_ratio, sd_y=units.sd(y))
    np.testing.assert_allclose(back, (0.4, alpha), rtol=1e-14)


def test_a_converted_fit_has_the_least_glmnet_objective(data):
    X, y = data[0], 7 * data[1][:, 0]
    ours = units.from_glmnet(0.8, alpha=0.5, sd_y=units.sd(y))
    fit = thresher.fit_path(
        X, y, lambda_grid=[ours.lambdas], l1_ratio=float(ours.l1_ratio), tol=1e-12
    )
    coef = fit.coef(0).toarray().ravel()
    least = glmnet_objective(y, X, coef, 0.8, 0.5)
    rng = np.random.default_rng(3)
    for size in (1e-3, 1e-2):
        for _ in range(20):
            other = coef + size * rng.standard_normal(len(coef)) * (coef != 0)
            assert glmnet_objective(y, X, other, 0.8, 0.5) > least


def test_sklearn(data):
    X, Y = data
    penalty = units.from_sklearn(0.3, l1_ratio=0.7)
    fit = thresher.fit_path(X, Y, lambda_grid=[penalty.lambdas], l1_ratio=0.7, tol=1e-12)
    theirs = sklearn.linear_model.ElasticNet(
        alpha=units.to_sklearn(penalty.lambdas), l1_ratio=0.7, tol=1e-10, max_iter=100000
    ).fit(X, Y)
    np.testing.assert_allclose(fit.coef(0).toarray().T, theirs.coef_, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_sklearn_and_himalaya_ridge(data, weighted):
    X, Y = data
    weight = np.random.default_rng(4).uniform(0.5, 3, len(X)) if weighted else None
    total = weight.sum() if weighted else len(X)
    penalty = units.from_sklearn_ridge(5.0, total_weight=total)
    fit = thresher.fit_path(
        X,
        Y,
        lambda_grid=[penalty.lambdas],
        l1_ratio=penalty.l1_ratio,
        sample_weight=weight,
        tol=1e-12,
    )
    theirs = sklearn.linear_model.Ridge(alpha=5.0).fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(fit.coef(0).toarray().T, theirs.coef_, atol=1e-7)
    assert units.to_sklearn_ridge(penalty.lambdas, total_weight=total) == pytest.approx(5.0)
    if not weighted:
        # himalaya minimises RSS + alpha |b|^2, as Ridge does.
        assert units.from_himalaya_ridge(5.0, n_samples=len(X)) == penalty
        assert units.to_himalaya_ridge(penalty.lambdas, n_samples=len(X)) == pytest.approx(5.0)


def test_arrays_broadcast_and_sd_is_that_of_glmnet(data):
    Y = data[1]
    np.testing.assert_allclose(units.sd(Y), Y.std(axis=0))
    np.testing.assert_allclose(units.sd(Y, intercept=False), np.sqrt((Y**2).mean(axis=0)))
    twice = np.where(np.arange(60) < 30, 2.0, 1.0)
    repeated = np.concatenate([Y, Y[:30]])
    np.testing.assert_allclose(units.sd(Y, sample_weight=twice), repeated.std(axis=0))
    grid = np.array([[1.0], [0.5]])
    assert units.from_glmnet(grid, alpha=0.5, sd_y=units.sd(Y)).lambdas.shape == (2, 3)
    assert units.from_glmnet(0.5) == (0.5, 1.0)


def test_an_l2_part_needs_sd_y():
    with pytest.raises(ValueError, match="sd_y"):
        units.from_glmnet(1.0, alpha=0.5)

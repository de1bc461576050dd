"""ElasticNet, Lasso and their paths: answers, certificates, types, shapes, refusals."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.linear_model
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import thresher


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 90)) + 2.0
    Y = X[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(60, 4))
    return X, Y


def objective(X, y, model, weights=None):
    """The objective of the class docstring, from its definition."""
    residual = y - X @ model.coef_ - model.intercept_
    l1, l2 = np.abs(model.coef_).sum(), (model.coef_**2).sum()
    ratio = model.l1_ratio
    penalty = model.alpha * (ratio * l1 + (1 - ratio) / 2 * l2)
    return 0.5 * np.average(residual**2, weights=weights) + penalty


def assert_optimal(X, y, model, weights=None):
    """The subgradient conditions, recomputed: |g_j| <= a on zeros, g_j = a sign + e b elsewhere."""
    w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    residual = y - X @ model.coef_ - model.intercept_
    gradient = X.T @ (w / w.sum() * residual)
    a = model.alpha * model.l1_ratio
    gradient = gradient - model.alpha * (1 - model.l1_ratio) * model.coef_
    used = model.coef_ != 0
    slack = 1e-9 * max(a, np.abs(gradient).max())
    assert np.all(np.abs(gradient[~used]) <= a + slack)
    np.testing.assert_allclose(gradient[used], a * np.sign(model.coef_[used]), atol=slack)
    if model.fit_intercept:
        assert abs(np.average(residual, weights=w)) < 1e-9 * np.abs(y).max()


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5, 0.05])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_elastic_net_is_optimal(data, l1_ratio, fit_intercept, weighted):
    X, Y = data
    weights = np.random.default_rng(1).integers(0, 4, size=len(X)) if weighted else None
    model = thresher.ElasticNet(alpha=0.2, l1_ratio=l1_ratio, fit_intercept=fit_intercept)
    model.fit(X, Y[:, 0], sample_weight=weights)
    assert np.count_nonzero(model.coef_) > 0
    assert_optimal(X, Y[:, 0], model, weights)


def test_several_responses_are_fitted_one_by_one(data):
    X, Y = data
    together = thresher.Lasso(alpha=0.1).fit(X, Y)
    assert together.coef_.shape == (4, 90)
    assert together.intercept_.shape == together.dual_gap_.shape == (4,)
    for r in range(4):
        alone = thresher.Lasso(alpha=0.1).fit(X, Y[:, r])
        np.testing.assert_array_equal(alone.coef_, together.coef_[r])
        assert alone.intercept_ == together.intercept_[r]
        assert alone.n_iter_ == together.n_iter_[r]
        assert alone.dual_gap_ == pytest.approx(together.dual_gap_[r], rel=1e-12)


def test_dual_gap_bounds_the_distance_to_the_optimum(data):
    X, Y = data
    best = objective(X, Y[:, 0], thresher.Lasso(alpha=0.1, tol=1e-14).fit(X, Y[:, 0]))
    for max_iter in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = thresher.Lasso(alpha=0.1, max_iter=max_iter).fit(X, Y[:, 0])
        assert objective(X, Y[:, 0], model) - best <= model.dual_gap_ + 1e-13 * best
    assert model.dual_gap_ > 0


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_dual_gap_is_the_best_over_the_scaled_residual(data, fit_intercept, weighted):
    X, Y = data
    y = Y[:, 0]
    w = np.random.default_rng(2).uniform(0.1, 3.0, size=len(y)) if weighted else np.ones(len(y))
    w /= w.sum()
    alpha = 0.002  # one iteration is not enough
    model = thresher.Lasso(alpha=alpha, max_iter=1, fit_intercept=fit_intercept)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y, sample_weight=w)
    if fit_intercept:
        X, y = X - w @ X, y - w @ y
    residual = y - X @ model.coef_
    primal = 0.5 * w @ residual**2 + alpha * np.abs(model.coef_).sum()
    feasible = min(1.0, alpha / np.abs(X.T @ (w * residual)).max())
    scales = np.linspace(0.0, feasible, 20_001)[:, np.newaxis]
    duals = 0.5 * (w @ y**2) - 0.5 * (y - scales * residual) ** 2 @ w
    assert model.dual_gap_ == pytest.approx(primal - duals.max(), rel=1e-6)


def test_warns_where_tol_was_missed(data):
    X, Y = data
    with pytest.warns(ConvergenceWarning, match="increase the number of iterations"):
        thresher.Lasso(alpha=1e-3, max_iter=1).fit(X, Y[:, 0])
    with pytest.warns(ConvergenceWarning, match="cannot go lower"):
        thresher.Lasso(alpha=0.1, tol=0.0).fit(X, Y[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thresher.Lasso(alpha=0.1, tol=1e-10).fit(X, Y[:, 0])


@pytest.mark.parametrize("order", ["C", "F"])
def test_float32_stays_float32(data, order):
    X, Y = data
    X32, Y32 = np.asarray(X, np.float32, order=order), Y.astype(np.float32)
    model = thresher.ElasticNet(alpha=0.1).fit(X32, Y32)
    for array in (model.coef_, model.intercept_, model.dual_gap_, model.predict(X32)):
        assert array.dtype == np.float32
    np.testing.assert_allclose(
        model.coef_, thresher.ElasticNet(alpha=0.1).fit(X, Y).coef_, atol=1e-5
    )


def test_layout_changes_nothing_and_input_is_untouched(data):
    X, Y = data
    want = thresher.Lasso(alpha=0.1).fit(X, Y).coef_
    padded = np.zeros((120, 200))
    padded[::2, 20:110] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    packed = np.zeros(60, dtype=[("skip", "i1"), ("row", "f8", (90,))])
    packed["row"] = X
    for given in (
        np.asfortranarray(X),
        padded[::2, 20:110],
        X[::-1].copy()[::-1],
        read_only,
        packed["row"],
        X.astype(">f8"),
    ):
        before = given.copy()
        np.testing.assert_array_equal(thresher.Lasso(alpha=0.1).fit(given, Y).coef_, want)
        np.testing.assert_array_equal(given, before)


def test_sparse_equals_dense_and_a_large_one_is_refused(data):
    X, Y = data
    X = np.where(np.abs(X) > 2.0, X, 0.0)
    want = thresher.Lasso(alpha=0.1).fit(X, Y[:, 0])
    for form in (sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix):
        model = thresher.Lasso(alpha=0.1).fit(form(X), Y[:, 0])
        np.testing.assert_array_equal(model.coef_, want.coef_)
        np.testing.assert_allclose(model.predict(form(X)), want.predict(X), rtol=1e-12)
    huge = sparse.csr_array((3, 1 << 28))
    with pytest.raises(ValueError, match="X must take at most 1073741824 bytes when dense, got"):
        thresher.Lasso().fit(huge, [0.0, 1.0, 2.0])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_feature_names(data, frame):
    X, Y = data
    names = [f"gene{j}" for j in range(X.shape[1])]
    model = thresher.Lasso(alpha=0.1).fit(frame(dict(zip(names, X.T, strict=True))), Y[:, 0])
    assert list(model.feature_names_in_) == names
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


def test_positive_is_refused_and_bad_parameters_too(data):
    X, Y = data
    for estimator in (
        thresher.Lasso(positive=True),
        thresher.ElasticNet(positive=True),
        thresher.Ridge(positive=True),
        thresher.LassoCV(positive=True),
        thresher.ElasticNetCV(positive=True),
    ):
        with pytest.raises(ValueError, match="positive must be False, got True"):
            estimator.fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="positive must be False"):
        thresher.lasso_path(X, Y, positive=True)
    for bad in ({"alpha": -1.0}, {"device": "tpu"}, {"tol": -1.0}, {"n_jobs": 0.5}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            thresher.Lasso(**bad).fit(X, Y)
    with pytest.raises(ValueError, match="sample_weight"):
        thresher.Lasso().fit(X, Y, sample_weight=-np.ones(len(X)))
    for broken in (np.nan, np.inf):
        X = X.copy()
        X[3, 4] = broken
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            thresher.Lasso().fit(X, Y)


def test_warm_start_takes_fewer_iterations(data):
    X, Y = data
    model = thresher.Lasso(alpha=0.01, warm_start=True).fit(X, Y)
    cold = list(model.n_iter_)
    model.set_params(alpha=0.0101).fit(X, Y)
    assert all(warm < start for warm, start in zip(model.n_iter_, cold, strict=True))
    np.testing.assert_allclose(
        model.coef_, thresher.Lasso(alpha=0.0101).fit(X, Y).coef_, atol=1e-10
    )


@pytest.mark.parametrize(
    "estimator",
    [
        thresher.Lasso(alpha=0.1),
        thresher.ElasticNet(alpha=0.1, l1_ratio=0.7),
        thresher.Ridge(alpha=2.0),
        thresher.LassoCV(cv=3, alphas=7),
        thresher.ElasticNetCV(cv=3, alphas=7),
        thresher.RidgeCV(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_pickle_clone_and_to_sklearn(data, estimator):
    X, Y = data
    model = clone(estimator).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_params() == model.get_params()
    plain = model.to_sklearn()
    assert type(plain) is getattr(sklearn.linear_model, type(model).__name__)
    assert type(plain).__module__.startswith("sklearn.")
    np.testing.assert_array_equal(plain.predict(X), model.predict(X))
    assert plain.get_params().items() <= model.get_params().items()
    assert isinstance(model, type(plain))


def test_threads_change_no_bit(data):
    X, Y = data
    want = thresher.Lasso(alpha=0.1, n_jobs=1).fit(X, Y).coef_
    for n_jobs in (2, 3, -1, None):
        np.testing.assert_array_equal(
            thresher.Lasso(alpha=0.1, n_jobs=n_jobs).fit(X, Y).coef_, want
        )


def test_device_is_refused_by_name_where_there_is_none(data):
    X, Y = data
    want = thresher.Lasso(alpha=0.1, device="cpu").fit(X, Y).coef_
    try:
        model = thresher.Lasso(alpha=0.1, device="cuda").fit(X, Y)
    except thresher.DeviceError as error:
        assert "cuda" in str(error)
    else:
        np.testing.assert_allclose(model.coef_, want, atol=1e-10)


def test_path_equals_single_fits(data):
    X, Y = data
    alphas, coefs, gaps, iterations = thresher.enet_path(
        X, Y, l1_ratio=0.7, alphas=20, return_n_iter=True
    )
    assert alphas.shape == gaps.shape == (4, 20)
    assert coefs.shape == (4, 90, 20)
    assert np.shape(iterations) == (4, 20)
    assert not coefs[:, :, 0].any()
    for r in range(4):
        model = thresher.ElasticNet(alpha=alphas[r, 11], l1_ratio=0.7, fit_intercept=False)
        model.fit(X, Y[:, r])
        np.testing.assert_allclose(coefs[r, :, 11], model.coef_, atol=1e-10)
    given, coefs, gaps = thresher.lasso_path(X, Y[:, 1], alphas=[0.1, 0.4, 0.2])
    assert given.tolist() == [0.4, 0.2, 0.1]
    assert coefs.shape == (90, 3)
    assert gaps.shape == (3,)
    want = sklearn.linear_model.lasso_path(
        X, Y[:, 1], alphas=[0.4, 0.2, 0.1], tol=1e-12, max_iter=10**5
    )[1]
    np.testing.assert_allclose(coefs, want, atol=1e-7)


def test_alpha_zero_is_least_squares():
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    with pytest.warns(UserWarning, match="With alpha=0"):
        model = thresher.Lasso(alpha=0.0).fit(X, y)
    want = sklearn.linear_model.LinearRegression().fit(X, y)
    np.testing.assert_allclose(model.coef_, want.coef_, atol=1e-12)

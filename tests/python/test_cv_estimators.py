"""LassoCV, ElasticNetCV, Ridge and RidgeCV: scikit-learn's conventions, several responses."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import sklearn.linear_model
from sklearn import config_context
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)

import thresher
from thresher.elastic_net_cv import fold_numbers

TIGHT = {"tol": 1e-11, "max_iter": 100_000}


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 25)) + 1.0
    Y = X[:, :4] @ rng.normal(size=(4, 3)) + 2.0 * rng.normal(size=(60, 3))
    weights = rng.uniform(0.2, 3.0, size=60)
    return X, Y, weights


SPLITTERS = [
    None,
    3,
    KFold(4, shuffle=True, random_state=0),
    ShuffleSplit(5, test_size=0.3, random_state=0),
    RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    TimeSeriesSplit(4),
    [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(30))],
]


@pytest.mark.parametrize("cv", SPLITTERS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_lasso_cv_is_scikit_learns(data, cv, weighted):
    X, Y, weights = data
    weights = weights if weighted else None
    ours = thresher.LassoCV(cv=cv, alphas=30).fit(X, Y, sample_weight=weights)
    assert ours.alpha_.shape == ours.dual_gap_.shape == (3,)
    assert ours.alphas_.shape == (3, 30)
    for r in range(3):
        theirs = sklearn.linear_model.LassoCV(cv=cv, alphas=30, **TIGHT)
        theirs.fit(X, Y[:, r], sample_weight=weights)
        np.testing.assert_allclose(ours.alphas_[r], theirs.alphas_, rtol=1e-12)
        np.testing.assert_allclose(ours.mse_path_[r], theirs.mse_path_, rtol=1e-6)
        assert ours.alpha_[r] == pytest.approx(theirs.alpha_, rel=1e-12)
        np.testing.assert_allclose(ours.coef_[r], theirs.coef_, atol=1e-6)
        assert ours.intercept_[r] == pytest.approx(theirs.intercept_, abs=1e-6)


@pytest.mark.parametrize("alphas", [20, [0.5, 0.01, 0.1, 0.02]], ids=["automatic", "given"])
@pytest.mark.parametrize("cv", [4, ShuffleSplit(4, random_state=1)], ids=["folds", "splits"])
def test_elastic_net_cv_is_scikit_learns(data, alphas, cv):
    X, Y, _ = data
    ratios = [0.2, 0.9, 1.0]
    ours = thresher.ElasticNetCV(l1_ratio=ratios, cv=cv, alphas=alphas).fit(X, Y)
    for r in range(3):
        theirs = sklearn.linear_model.ElasticNetCV(l1_ratio=ratios, cv=cv, alphas=alphas, **TIGHT)
        theirs.fit(X, Y[:, r])
        alone = thresher.ElasticNetCV(l1_ratio=ratios, cv=cv, alphas=alphas).fit(X, Y[:, r])
        for name in ("alphas_", "mse_path_", "alpha_", "l1_ratio_", "coef_", "intercept_"):
            want = getattr(theirs, name)
            assert np.shape(getattr(alone, name)) == np.shape(want), name
            np.testing.assert_allclose(getattr(alone, name), want, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(ours.mse_path_[r], alone.mse_path_, rtol=1e-11)
        assert ours.l1_ratio_[r] == alone.l1_ratio_
        np.testing.assert_allclose(ours.coef_[r], alone.coef_, atol=1e-12)


def test_choice_at_unequal_folds_is_the_plain_mean(data):
    # The library weighs folds by size and keeps its own choice: ours must be recomputed.
    X, Y, _ = data
    Y = np.concatenate([Y] * 5, axis=1) + np.random.default_rng(6).normal(size=(60, 15))
    parts = np.split(np.arange(60), [2, 5, 9])
    splits = [(np.setdiff1d(np.arange(60), part), part) for part in parts]
    model = thresher.LassoCV(cv=splits, alphas=40).fit(X, Y)
    best = model.mse_path_.mean(axis=2).argmin(axis=1)
    weighted = (model.mse_path_ * [2, 3, 4, 51]).sum(axis=2).argmin(axis=1)
    assert np.any(best != weighted)
    for r in range(15):
        assert model.alpha_[r] == model.alphas_[r, best[r]]
        refit = thresher.Lasso(alpha=model.alpha_[r]).fit(X, Y[:, r])
        np.testing.assert_allclose(model.coef_[r], refit.coef_, atol=1e-12)


def test_fold_numbers_only_of_a_partition():
    rows = np.arange(6)
    parts = [(rows[2:], rows[:2]), (np.r_[0, 1, 4, 5], rows[2:4]), (rows[:4], rows[4:])]
    assert fold_numbers(parts, 6).tolist() == [0, 0, 1, 1, 2, 2]
    masks = [(rows >= 3, rows < 3), (rows < 3, rows >= 3)]
    assert fold_numbers(masks, 6).tolist() == [0, 0, 0, 1, 1, 1]
    assert fold_numbers(parts[:2], 6) is None  # rows never held out
    assert fold_numbers([parts[0], (rows[1:], rows[:1]), *parts[1:]], 6) is None  # overlap
    assert fold_numbers([(rows[3:], rows[:2]), *parts[1:]], 6) is None  # a row left out of training
    assert fold_numbers([(np.r_[2, rows[2:]], rows[:2]), *parts[1:]], 6) is None  # a row twice


def test_column_response_and_scikit_learns_refusals(data):
    X, Y, _ = data
    column = thresher.LassoCV(alphas=5).fit(X, Y[:, :1])
    assert column.alpha_ == thresher.LassoCV(alphas=5).fit(X, Y[:, 0]).alpha_
    with pytest.raises(ValueError, match="not supported for l1_ratio=0"):
        thresher.ElasticNetCV(l1_ratio=0).fit(X, Y)
    with pytest.raises(ValueError, match=r"alphas\[1\] == -1"):
        thresher.LassoCV(alphas=(1, -1)).fit(X, Y)
    with pytest.raises(ValueError, match="is only supported if enable_metadata_routing=True"):
        thresher.LassoCV().fit(X, Y, groups=np.zeros(60))


def test_groups_are_routed_to_the_splitter(data):
    X, Y, weights = data
    groups = np.repeat(np.arange(6), 10)
    with config_context(enable_metadata_routing=True):
        splitter = GroupKFold(3).set_split_request(groups=True)
        routed = thresher.LassoCV(cv=splitter, alphas=10).set_fit_request(sample_weight=True)
        routed.fit(X, Y, groups=groups, sample_weight=weights)
        ridge = thresher.RidgeCV(cv=splitter).fit(X, Y, groups=groups)
    splits = list(GroupKFold(3).split(X, Y, groups=groups))
    given = thresher.LassoCV(cv=splits, alphas=10).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(routed.mse_path_, given.mse_path_)
    assert ridge.best_score_ == thresher.RidgeCV(cv=splits).fit(X, Y).best_score_


def test_float32_cv(data):
    X, Y, _ = data
    model = thresher.LassoCV(alphas=10).fit(X.astype(np.float32), Y.astype(np.float32))
    assert model.coef_.dtype == model.intercept_.dtype == np.float32
    np.testing.assert_allclose(
        model.alpha_, thresher.LassoCV(alphas=10).fit(X, Y).alpha_, rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(40, 8), (20, 50)], ids=["tall", "wide"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_ridge_satisfies_its_normal_equations(shape, weighted, fit_intercept):
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=shape) + 1.0, rng.normal(size=(shape[0], 2))
    weights = rng.uniform(size=shape[0]) if weighted else None
    w = np.ones(shape[0]) if weights is None else weights
    model = thresher.Ridge(alpha=[0.3, 5.0], fit_intercept=fit_intercept)
    model.fit(X, Y, sample_weight=weights)
    residual = Y - model.predict(X)
    gradient = X.T @ (w[:, np.newaxis] * residual) - model.coef_.T * [0.3, 5.0]
    np.testing.assert_allclose(gradient, 0.0, atol=1e-11)
    if fit_intercept:
        np.testing.assert_allclose(w @ residual, 0.0, atol=1e-11)
    assert np.all(model.dual_gap_ < 1e-20)


def test_ridge_certificate_is_in_units_of_its_sum(data):
    X, Y, weights = data
    ridge = thresher.Ridge(alpha=2.0).fit(X, Y, sample_weight=weights)
    total = weights.sum()
    same = thresher.ElasticNet(alpha=2.0 / total, l1_ratio=0.0).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(ridge.coef_, same.coef_)
    np.testing.assert_allclose(ridge.dual_gap_, 2.0 * total * same.dual_gap_, rtol=1e-12)
    assert np.all(ridge.dual_gap_ > 0)


def test_ridge_refuses_what_scikit_learn_refuses(data):
    X, Y, _ = data
    with pytest.raises(ValueError, match="penalties do not correspond: 2 != 3"):
        thresher.Ridge(alpha=[1.0, 2.0]).fit(X, Y)
    for incompatible in ("store_cv_results", "alpha_per_target"):
        with pytest.raises(ValueError, match=f"cv!=None and {incompatible}=True"):
            thresher.RidgeCV(cv=3, **{incompatible: True}).fit(X, Y)
    with pytest.raises(ValueError, match=r"alphas\[0\] == 0.0, must be > 0.0"):
        thresher.RidgeCV(alphas=(0.0, 1.0)).fit(X, Y)


RIDGE_CV = [
    {},
    {"alpha_per_target": True},
    {"scoring": "r2"},
    {"scoring": "r2", "alpha_per_target": True},
    {"scoring": "neg_mean_absolute_error", "store_cv_results": True},
    {"store_cv_results": True},
    {"cv": 4},
    {"cv": 4, "scoring": "neg_mean_squared_error"},
    {"cv": ShuffleSplit(5, random_state=0)},
    {"cv": LeaveOneOut(), "scoring": "neg_mean_squared_error"},
]


@pytest.mark.parametrize("parameters", RIDGE_CV, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one", [False, True], ids=["several", "one"])
@pytest.mark.parametrize("n_features", [25, 200], ids=["tall", "wide"])
def test_ridge_cv_is_scikit_learns(parameters, weighted, one, n_features):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(60, n_features))
    Y = X[:, :5] @ rng.normal(size=(5, 3)) + [1.0, 3.0, 9.0] * rng.normal(size=(60, 3))
    weights = rng.uniform(0.2, 3.0, size=60) if weighted else None
    if one and parameters == {"scoring": "r2", "alpha_per_target": True}:
        pytest.skip("scikit-learn 1.9 takes two indices of a vector here")
    Y = Y[:, 0] if one else Y
    alphas = [3.0, 0.1, 300.0, 30.0, 1.0]  # in no order
    ours = thresher.RidgeCV(alphas=alphas, **parameters).fit(X, Y, sample_weight=weights)
    theirs = sklearn.linear_model.RidgeCV(alphas=alphas, **parameters)
    theirs.fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    names = ["best_score_", "coef_", "intercept_"]
    names += ["cv_results_"] if "store_cv_results" in parameters else []
    for name in names:
        assert np.shape(getattr(ours, name)) == np.shape(getattr(theirs, name)), name
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-9)


def test_ridge_cv_leaves_out_rows_without_weight():
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(30, 6)), rng.normal(size=30)
    weights = np.ones(30)
    weights[::7] = 0.0
    model = thresher.RidgeCV(alphas=[0.5], scoring="r2", store_cv_results=True)
    model.fit(X, y, sample_weight=weights)
    full = thresher.Ridge(alpha=0.5).fit(X, y, sample_weight=weights)
    out = weights == 0.0
    np.testing.assert_allclose(model.cv_results_[out, 0], full.predict(X[out]))


def test_n_by_1_response_of_the_drop_in_warns_as_scikit_learn_does(data):
    from thresher.elastic_net_cv import fit_elastic_net_cv

    X, Y, _ = data
    with pytest.warns(DataConversionWarning):
        fit_elastic_net_cv(
            sklearn.linear_model.LassoCV(alphas=3), X, Y[:, :1], None, {}, [1.0], several=False
        )


def test_interrupt_stops_all_splits():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2000))
    Y = X[:, :1] + rng.normal(size=(300, 400))
    model = thresher.LassoCV(cv=ShuffleSplit(4, random_state=0), n_jobs=2)
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(1.0, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    waited = time.monotonic() - pressed[0]
    assert waited < 5.0  # all splits take 20 s

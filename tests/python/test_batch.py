"""fit_path, cross_validate, plan: certificates recomputed here, folds, options, errors."""

import inspect

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

import thresher
from thresher import _core


def objective_and_gap(X, y, coef, intercept, lam, l1_ratio):
    """The objective and a duality gap relative to half the variance of y, from their formulas.

    P(b) - D(theta) for theta = s q, q the centred residual; see docs/method.md.
    """
    n = len(y)
    residual = y - intercept - X @ coef
    objective = residual @ residual / (2 * n) + lam * (
        l1_ratio * np.abs(coef).sum() + (1 - l1_ratio) / 2 * coef @ coef
    )
    q = residual - residual.mean()
    g = X.T @ q / n
    a, e = lam * l1_ratio, lam * (1 - l1_ratio)
    if e == 0:
        s = min(1.0, a / np.abs(g).max())
        penalty = 0.0
    else:
        s = 1.0
        penalty = (np.maximum(np.abs(g) - a, 0) ** 2 / (2 * e)).sum()
    yc = y - y.mean()
    dual = s * (q @ yc) / n - s * s * (q @ q) / (2 * n) - penalty
    return objective, (objective - dual) / (yc @ yc / (2 * n))


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5, 0.0])
def test_certificates_hold_when_recomputed(data, l1_ratio):
    X, Y = data
    result = thresher.fit_path(X, Y, l1_ratio=l1_ratio, n_lambdas=30, early_stop=None)

    assert result.converged.all()
    for r in range(3):
        for k in (0, 10, 29):
            coef = result.coef(k)[:, [r]].toarray().ravel()
            objective, gap = objective_and_gap(
                X, Y[:, r], coef, result.intercept[r, 0, k], result.lambdas[r, 0, k], l1_ratio
            )
            assert objective == pytest.approx(result.objective[r, 0, k], rel=1e-10)
            assert -1e-12 < gap <= 1e-7


def test_errors_of_cross_validation_are_those_of_fits_without_the_fold(data):
    X, Y = data
    folds = np.arange(60) % 3
    grid = np.array([0.5, 0.2])
    result = thresher.cross_validate(X, Y, folds=folds, lambda_grid=grid, predictions=True)

    for k in range(3):
        train, test = folds != k, folds == k
        fit = thresher.fit_path(X[train], Y[train], lambda_grid=grid)
        for choice in (0, 1):
            error = ((Y[test] - fit.predict(X[test], choice)) ** 2).mean(axis=0)
            np.testing.assert_allclose(result.fold_error[:, 0, choice, k], error, rtol=1e-6)
        out_of_fold = fit.predict(X[test], result.best)
        np.testing.assert_allclose(result.predictions[test], out_of_fold, rtol=1e-6)
    np.testing.assert_allclose(result.cv_error, result.fold_error.mean(axis=-1))


def test_folds_in_every_form(data):
    X, Y = data
    numbers = np.repeat(np.arange(4), 15)
    expected = thresher.cross_validate(X, Y, folds=numbers)
    pairs = [(np.flatnonzero(numbers != k), np.flatnonzero(numbers == k)) for k in range(4)]
    masks = [(numbers != k, numbers == k) for k in range(4)]
    for folds in (KFold(4), pairs, masks, iter(pairs), numbers.tolist(), numbers.astype(np.int8)):
        result = thresher.cross_validate(X, Y, folds=folds)
        np.testing.assert_array_equal(result.fold_error, expected.fold_error)

    drawn = thresher.cross_validate(X, Y, folds=5, seed=7)
    same = thresher.cross_validate(X, Y, folds=thresher.make_folds(60, 5, seed=7))
    np.testing.assert_array_equal(drawn.fold_error, same.fold_error)
    default = thresher.cross_validate(X, Y)
    assert default.n_folds == _core.defaults()["n_folds"]


@pytest.mark.parametrize(
    ("folds", "error", "message"),
    [
        (1, ValueError, "n_folds must lie between 2"),
        (np.zeros(60, dtype=int), ValueError, "fold_id must name at least 2 folds"),
        (np.arange(60) % 3 + 1, ValueError, "fold_id must start at 0"),
        (np.arange(59) % 3, ValueError, "fold_id must have one entry per row"),
        (np.arange(60) % 3 + 0.0, TypeError, "folds must be integers"),
        (ShuffleSplit(3, random_state=0), ValueError, "folds must hold out every row once"),
        ([(np.arange(30), np.arange(30, 60))], ValueError, "30 rows never held out"),
        (GroupKFold(3), ValueError, "groups"),
        ("leave", ValueError, "form must be loo or gcv"),
    ],
)
def test_unusable_folds_are_refused(data, folds, error, message):
    with pytest.raises(error, match=message):
        thresher.cross_validate(*data, folds=folds)


def test_closed_forms_of_ridge(data):
    X, Y = data
    grid = np.array([3.0, 0.3])
    loo = thresher.cross_validate(X, Y, folds="loo", lambda_grid=grid)
    assert loo.n_folds == 0
    # e_i is the error at row i of the fit without it at lambda n/(n-1); see docs/method.md.
    errors = []
    for i in range(60):
        keep = np.arange(60) != i
        fit = thresher.fit_path(X[keep], Y[keep], l1_ratio=0, lambda_grid=grid * 60 / 59, tol=1e-12)
        errors.append([(Y[i] - fit.predict(X[[i]], k)[0]) ** 2 for k in (0, 1)])
    np.testing.assert_allclose(loo.cv_error[:, 0, :], np.mean(errors, axis=0).T, rtol=1e-6)
    gcv = thresher.cross_validate(X, Y, folds="gcv", lambda_grid=grid)
    np.testing.assert_array_equal(gcv.best, gcv.one_se)


def test_weights_of_zero_leave_rows_out(data):
    X, Y = data
    weight = np.ones(60)
    weight[40:] = 0
    weighted = thresher.fit_path(X, Y, sample_weight=weight, n_lambdas=10)
    short = thresher.fit_path(X[:40], Y[:40], n_lambdas=10)
    np.testing.assert_allclose(weighted.lambdas, short.lambdas, rtol=1e-9)
    np.testing.assert_allclose(weighted.coef(9).toarray(), short.coef(9).toarray(), atol=1e-6)
    by_response = np.repeat(weight[:, None], 3, axis=1)
    again = thresher.fit_path(X, Y, response_weight=by_response, n_lambdas=10)
    np.testing.assert_allclose(again.lambdas, short.lambdas, rtol=1e-9)


def test_factors_exclude_and_free_features(data):
    X, Y = data
    factor = np.ones(200)
    factor[0], factor[1] = np.inf, 0
    coef = thresher.fit_path(X, Y, l1_factor=factor).coef(0).toarray()
    assert (coef[0] == 0).all()
    assert (coef[1] != 0).all()


def test_grid_per_response_and_warm_start(data):
    X, Y = data
    first = thresher.fit_path(X, Y, n_lambdas=10)
    again = thresher.fit_path(X, Y, lambda_grid=first.lambdas[:, 0, 9:])
    np.testing.assert_array_equal(again.lambdas[:, 0, 0], first.lambdas[:, 0, 9])
    start = first.coef(9).toarray()
    warm = thresher.fit_path(
        X, Y, lambda_grid=first.lambdas[:, 0, 9:], warm_start=start, engine="proximal-gradient"
    )
    cold = thresher.fit_path(X, Y, lambda_grid=first.lambdas[:, 0, 9:], engine="proximal-gradient")
    assert warm.iterations.sum() < cold.iterations.sum()


def test_results_do_not_depend_on_threads(data):
    one = thresher.cross_validate(*data, threads=1)
    three = thresher.cross_validate(*data, threads=3)
    np.testing.assert_array_equal(one.cv_error, three.cv_error)
    assert (one.coef_all != three.coef_all).nnz == 0


def test_time_limit_returns_what_is_there(data):
    X, Y = data
    Y = np.tile(Y, 400) + np.random.default_rng(0).standard_normal((60, 1200))
    result = thresher.cross_validate(X, Y, time_limit=0.2, threads=1)
    assert result.interrupted
    assert (result.status == "not computed").any()


def test_one_iteration_does_not_converge_and_says_so(data):
    result = thresher.fit_path(*data, max_iterations=1, engine="proximal-gradient")
    assert (result.status == "iteration limit").any()
    assert "did not converge" in repr(result)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 1.0}, TypeError, "unexpected keyword argument 'alpha'"),
        ({"n_folds": 3}, TypeError, "unexpected keyword argument 'n_folds'"),
        ({"predictions": True}, TypeError, "unexpected keyword argument 'predictions'"),
        ({"l1_ratio": 2.0}, ValueError, r"l1_ratio must lie in \[0, 1\], got 2"),
        ({"l1_ratio": []}, ValueError, "l1_ratio must have at least one value"),
        ({"tol": 0.0}, ValueError, "tol must be > 0"),
        ({"tol": "small"}, TypeError, "tol must be a number or None"),
        ({"n_lambdas": 2.5}, TypeError, "n_lambdas must be an integer"),
        ({"max_memory": -1}, TypeError, "max_memory must be an integer >= 0"),
        ({"engine": "lars"}, ValueError, "engine must be one of auto, active-set"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight must have size 60, got 3"),
        ({"sample_weight": -np.ones(60)}, ValueError, "sample_weight"),
        ({"sample_weight": np.ones((60, 1))}, ValueError, "sample_weight must have 1 dimension"),
        ({"lambda_grid": [0.1, 0.2]}, ValueError, "the grid descends"),
        ({"lambda_grid": []}, ValueError, "lambda_grid must not be empty"),
        ({"max_memory": 10}, MemoryError, "max_memory must hold one response"),
        ({"device": "cuda"}, thresher.DeviceError, "device must be cuda, got none"),
    ],
)
def test_unusable_options_are_refused(data, options, error, message, monkeypatch):
    monkeypatch.setenv("THRESHER_CUDA_LIBRARY", "/nonexistent/libthresher_cuda.so")
    with pytest.raises(error, match=message):
        thresher.fit_path(*data, **options)


def test_plan_says_what_the_call_would_do(data):
    plan = thresher.plan(*data, folds=5, n_lambdas=20)
    result = thresher.cross_validate(*data, folds=5, n_lambdas=20, lambda_min_ratio=0.01)
    assert plan.n_fits == 3 * 20 * 6
    assert plan.bytes == result.stats["planned_bytes"]
    assert "fits" in str(plan)
    assert thresher.plan(*data).n_fits == 300


def test_signatures_show_the_defaults_of_the_library():
    defaults = _core.defaults()
    for function in (thresher.fit_path, thresher.cross_validate, thresher.plan):
        parameters = inspect.signature(function).parameters
        for name, parameter in parameters.items():
            if name in defaults:
                assert parameter.default == defaults[name]
    known = set(defaults) - {"callback", "n_folds", "fold_id"}
    assert known <= set(inspect.signature(thresher.cross_validate).parameters)
    for name in known:
        assert name in thresher.cross_validate.__doc__


def test_info_names_version_and_device():
    info = thresher.info()
    assert info["version"] == info["headers_version"] == thresher.__version__
    assert info["device"] in ("cpu", "cuda")

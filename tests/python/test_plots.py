"""What the displays draw is what the result says; matplotlib itself only with a display."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LassoCV as SklearnLassoCV

import thresher
from thresher import plots

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 200))
    Y = 2 * X[:, :3] + rng.standard_normal((60, 3))
    return X, Y, thresher.cross_validate(X, Y, l1_ratio=[0.5, 1.0], predictions=True)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def rendered(display):
    """Layout and drawing run without a warning, and text lies on the canvas."""
    display.figure_.canvas.draw()
    return display


def test_cv_curve_draws_the_errors_of_the_best_l1_ratio(result):
    _, _, cv = result
    display = rendered(plots.CvCurveDisplay.from_result(cv, response=1))
    a = cv.best[1, 0]
    known = np.isfinite(cv.cv_error[1, a])
    np.testing.assert_array_equal(display.line_.get_xdata(), cv.lambdas[1, a][known])
    np.testing.assert_array_equal(display.line_.get_ydata(), cv.cv_error[1, a][known])
    count = cv.at(cv.n_nonzero, "best")[1]
    assert f"best: λ {cv.lambda_best[1]:.3g}, {count} features" in texts(display.ax_)
    left, right = display.ax_.get_xlim()
    assert left > right


@pytest.mark.parametrize(
    ("make", "several"),
    [
        (SklearnLassoCV, False),
        (thresher.LassoCV, False),
        (thresher.LassoCV, True),
        (thresher.ElasticNetCV, False),
        (thresher.ElasticNetCV, True),
    ],
)
def test_cv_curve_of_an_estimator(result, make, several):
    X, Y, _ = result
    options = {"l1_ratio": [0.5, 1.0]} if make is thresher.ElasticNetCV else {}
    estimator = make(cv=5, **options).fit(X, Y if several else Y[:, 2])
    display = rendered(plots.CvCurveDisplay.from_estimator(estimator, response=2 * several))
    alpha = np.atleast_1d(estimator.alpha_)[2 * several]
    assert display.best.lambda_ == alpha
    at = int(np.argmin(display.error))
    assert display.lambdas[at] == alpha
    assert display.one_se.lambda_ >= alpha


def test_coef_path_names_the_largest_at_the_best_lambda(result):
    _, _, cv = result
    display = rendered(plots.CoefPathDisplay.from_result(cv, response=2, n_named=3))
    coef = abs(cv.coef("best")[:, [2]].toarray().ravel())
    largest = [f"x{j}" for j in np.argsort(-coef)[:3]]
    assert [display.names[k] for k in display.named] == largest
    assert set(largest) <= set(texts(display.ax_))
    at = int(np.flatnonzero(display.lambdas == cv.lambda_best[2])[0])
    assert display.coef[display.names.index("x2"), at] == cv.coef("best")[2, 2]


def test_names_of_lines_do_not_overlap():
    places = plots._spread(np.array([0.0, 0.01, 0.02, 0.9]), 0.1)
    assert np.all(np.diff(places) >= 0.1 - 1e-12)
    np.testing.assert_allclose(places[:3].mean(), 0.01)
    assert places[3] == 0.9


def test_feature_count(result):
    _, _, cv = result
    display = rendered(plots.FeatureCountDisplay.from_result(cv, response=0, l1_ratio=1))
    known = np.isfinite(cv.gap[0, 1])
    np.testing.assert_array_equal(display.line_.get_ydata(), cv.n_nonzero[0, 1][known])


def test_ranges_of_under_and_overfitting():
    lambdas = np.array([16.0, 8.0, 4.0, 2.0, 1.0])
    ranges = plots.fit_ranges(lambdas, np.array([5, 3.0, 1, 1.4, 2]), np.full(5, 0.5))
    assert ranges == {"underfitting": (16.0, 4.0), "overfitting": (2.0, 1.0)}
    assert plots.fit_ranges(lambdas, np.full(5, 1.0), np.full(5, 0.5)) == {}


def test_train_validation_shades_what_is_worse_than_one_standard_error(result):
    _, _, cv = result
    display = rendered(plots.TrainValidationDisplay.from_result(cv, response=0))
    larger, smaller = display.shades_["underfitting"]
    assert larger == display.lambdas[0]
    assert smaller == cv.lambda_1se[0]
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), display.cv_error)
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), display.train_error)


def test_residuals_are_those_of_held_out_rows(result):
    X, Y, cv = result
    display = rendered(plots.ResidualDisplay.from_result(cv, X, Y, response=1))
    np.testing.assert_allclose(display.residual, Y[:, 1] - cv.predictions[:, 1])
    assert "not seen" in display.ax_.get_xlabel()
    fitted = plots.ResidualDisplay.from_result(cv, X, Y, response=1, choice="1se")
    np.testing.assert_allclose(fitted.predicted, cv.predict(X, "1se")[:, 1])
    model = thresher.Lasso(alpha=0.1).fit(X, Y)
    display = plots.ResidualDisplay.from_estimator(model, X, Y, response=2)
    np.testing.assert_allclose(display.residual, Y[:, 2] - model.predict(X)[:, 2])


def test_convergence_shows_every_fit_and_the_tolerance(result):
    X, Y, cv = result
    display = rendered(plots.ConvergenceDisplay.from_result(cv, l1_ratio=0))
    assert len(display.lines_) == 3
    assert display.tol == float(cv.metadata["tol"])
    assert all(converged.all() for converged in display.converged)
    hurried = thresher.fit_path(X, Y, max_iterations=1, lambda_min_ratio=1e-3)
    bad = int((~hurried.converged & np.isfinite(hurried.gap)).sum())
    assert bad > 0
    display = rendered(plots.ConvergenceDisplay.from_result(hurried))
    assert any(f"{bad} did not converge" in text for text in texts(display.ax_))


def test_edges(result):
    X, Y, cv = result
    with pytest.raises(TypeError, match="cross_validate"):
        plots.CvCurveDisplay.from_result(thresher.fit_path(X, Y))
    with pytest.raises(ValueError, match="keep_chosen"):
        plots.CoefPathDisplay.from_result(thresher.cross_validate(X, Y, keep_chosen=True))
    with pytest.raises(ValueError, match="response"):
        plots.CvCurveDisplay.from_result(cv, response="nobody")
    with pytest.raises(TypeError, match="mse_path_"):
        plots.CvCurveDisplay.from_estimator(thresher.Lasso())
    with pytest.raises(ValueError, match="lambda above 0"):
        plots.ConvergenceDisplay.from_result(thresher.fit_path(X[:, :9], Y, lambda_grid=[0.0]))
    stopped = thresher.cross_validate(X, Y, time_limit=1e-9)
    for display in (plots.CvCurveDisplay, plots.ConvergenceDisplay):
        with pytest.raises(ValueError, match="no fit"):
            display.from_result(stopped)
    single = thresher.fit_path(X, Y, lambda_grid=[0.5])
    for display in (
        plots.CoefPathDisplay,
        plots.FeatureCountDisplay,
        plots.ConvergenceDisplay,
    ):
        rendered(display.from_result(single, response=1))
    # Nothing to find, nothing varies.
    flat = thresher.cross_validate(X, np.zeros(60), folds=3, lambda_grid=[1.0, 0.5])
    for display in (
        plots.CoefPathDisplay,
        plots.FeatureCountDisplay,
        plots.CvCurveDisplay,
        plots.TrainValidationDisplay,
        plots.ConvergenceDisplay,
    ):
        rendered(display.from_result(flat))
    rendered(plots.ResidualDisplay.from_predictions(np.zeros(4), np.zeros(4)))
    _, ax = matplotlib.pyplot.subplots()
    assert plots.CvCurveDisplay.from_result(cv, ax=ax).ax_ is ax


def test_null_variance_is_the_variance_of_the_response(result):
    _, Y, cv = result
    np.testing.assert_allclose(plots.null_variance(cv), Y.var(axis=0), rtol=1e-12)


def test_matplotlib_is_imported_late():
    code = "import sys, thresher.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

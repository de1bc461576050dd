"""Ridge and RidgeCV, with scikit-learn's parameters and attributes.

scikit-learn's Ridge minimises a sum over rows, so its alpha is S lambda with S the sum of the
weights as given (docs/units.md).
"""

import warnings
from dataclasses import replace
from functools import partial
from inspect import signature
from numbers import Real
from typing import ClassVar

import numpy as np
import sklearn.linear_model
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.model_selection import check_cv
from sklearn.utils import check_scalar
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import _routing_enabled, process_routing
from sklearn.utils.validation import _check_method_params, _check_sample_weight

from . import _core
from .certified_fit import (
    Settings,
    check_ended_well,
    checked_data,
    chosen_fits,
    coefficients,
    columns_of,
    fit_at,
    null_loss,
    over_splits,
    refuse_positive,
    set_linear_attributes,
    to_sklearn,
)
from .elastic_net import OWN_CONSTRAINTS

# Ridge is solved in closed form; a gap above this share of the null loss is worth a warning.
RIDGE_TOL = 1e-7


def absolute_weights(sample_weight, X):
    """Weights in double and their sum, which scales alpha; (None, n) without weights."""
    if sample_weight is None:
        return None, float(len(X))
    weights = np.asarray(_check_sample_weight(sample_weight, X, dtype=X.dtype), dtype=np.float64)
    return weights, float(weights.sum())


def fit_ridge(estimator, X, y, sample_weight, device="auto", n_jobs=None):
    """Fit a Ridge, ours or scikit-learn's; returns its certificate in units of the objective."""
    X, y = checked_data(estimator, X, y)
    Y = columns_of(y)
    alphas = np.ravel(np.asarray(estimator.alpha, dtype=np.float64))
    if len(alphas) not in (1, Y.shape[1]):
        raise ValueError(
            "Number of targets and number of penalties do not correspond: "
            f"{len(alphas)} != {Y.shape[1]}"
        )
    weights, total = absolute_weights(sample_weight, X)
    fits = fit_at(
        X,
        Y,
        alphas / total,
        l1_ratio=0.0,
        weights=weights,
        settings=Settings(estimator.fit_intercept, RIDGE_TOL, None, device, n_jobs),
    )
    set_linear_attributes(estimator, fits, y, X.dtype)
    fits.dual_gap *= 2.0 * total
    return fits


def leave_one_out_errors(X, Y, weights, alphas, intercept):
    """y_i minus the prediction for row i of the fit without row i, at fixed alpha.

    With A = diag(sqrt w) (X - mean) = U diag(s) V' and h_i = w_i / sum w + sum_j U_ij^2 s_j^2 /
    (s_j^2 + alpha), the error is that of the full fit over 1 - h_i.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    Y : ndarray of shape (n, R)
    weights : ndarray of shape (n,)
        A row without weight is in no fit.
    alphas : ndarray of shape (L,)

    Returns
    -------
    ndarray of shape (n, R, L), in double
    """
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    if intercept:
        X = X - np.average(X, axis=0, weights=weights)
        Y = Y - np.average(Y, axis=0, weights=weights)
    counts = weights > 0
    root = np.sqrt(weights[counts])[:, np.newaxis]
    A, B = root * X[counts], root * Y[counts]
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    kept = s > s.max(initial=0.0) * max(A.shape) * np.finfo(float).eps
    U, s, Vt = U[:, kept], s[kept], Vt[kept]
    UtB = U.T @ B
    share = root[:, 0] ** 2 / weights.sum() if intercept else np.zeros(len(A))
    # Where U and the intercept span all rows nothing is left over; a difference would be rounding.
    spans = len(s) == len(A) - bool(intercept)
    free = np.zeros(len(A)) if spans else 1.0 - share - np.sum(U * U, axis=1)
    rest = np.zeros_like(B) if spans else B - U @ UtB
    errors = np.empty((*Y.shape, len(alphas)))
    for k, alpha in enumerate(alphas):
        damping = alpha / (s * s + alpha)
        residual = rest + U @ (damping[:, np.newaxis] * UtB)
        left = free + (U * U) @ damping
        errors[counts, :, k] = residual / root / left[:, np.newaxis]
        if not counts.all():
            coef = Vt.T @ ((s / (s * s + alpha))[:, np.newaxis] * UtB)
            errors[~counts, :, k] = Y[~counts] - X[~counts] @ coef
    return errors


class _GivenPredictions(RegressorMixin, BaseEstimator):
    """Lets a scorer see predictions that exist already."""

    def predict(self, predictions):
        return predictions


def checked_alphas(alphas, *, zero_allowed):
    """The grid of a RidgeCV as an array (L,), refused as scikit-learn refuses it."""
    check = partial(
        check_scalar,
        target_type=Real,
        min_val=0.0,
        include_boundaries="left" if zero_allowed else "neither",
    )
    if np.ndim(alphas) == 1:
        for index, alpha in enumerate(alphas):
            check(alpha, "alphas" if len(alphas) == 1 else f"alphas[{index}]")
    return np.atleast_1d(np.asarray(alphas, dtype=np.float64))


def fit_ridge_cv(estimator, X, y, sample_weight, params, device="auto", n_jobs=None):
    """Fit a RidgeCV, ours or scikit-learn's; parameters as in `RidgeCV.fit`."""
    _raise_for_params(params, estimator, "fit")
    cv = estimator.cv
    alphas = checked_alphas(estimator.alphas, zero_allowed=cv is not None)
    if cv is not None:
        for name in ("store_cv_results", "alpha_per_target"):
            if getattr(estimator, name):
                raise ValueError(f"cv!=None and {name}=True are incompatible")
    scorer = estimator._get_scorer()
    if sample_weight is not None:
        params = {**params, "sample_weight": sample_weight}
    routed = process_routing(estimator, "fit", **params) if _routing_enabled() else None
    X, y = checked_data(estimator, X, y)
    weights, total = absolute_weights(sample_weight, X)
    settings = Settings(estimator.fit_intercept, RIDGE_TOL, None, device, n_jobs)
    if cv is None:
        score_params = {} if weights is None else {"sample_weight": weights}
        if routed is not None:
            score_params = routed.scorer.score
        chosen, scores, fits = choose_by_leave_one_out(
            estimator, X, y, weights, alphas, scorer, score_params, settings
        )
    else:
        chosen, scores = choose_by_splits(
            estimator, X, y, weights, alphas, scorer, routed, settings
        )
        fits = None
    estimator.alpha_, estimator.best_score_ = alphas[chosen], scores
    if cv is None and np.ndim(chosen) == 0:
        estimator.alpha_ = float(estimator.alpha_)
    if fits is None:
        fits = fit_at(
            X,
            columns_of(y),
            np.atleast_1d(estimator.alpha_) / total,
            l1_ratio=0.0,
            weights=weights,
            settings=settings,
        )
    set_linear_attributes(estimator, fits, y, X.dtype)
    fits.dual_gap *= 2.0 * total
    return fits


def choose_by_leave_one_out(estimator, X, y, weights, alphas, scorer, score_params, settings):
    """Index of the best alpha, one per response with alpha_per_target; its score; fits or None.

    Sets cv_results_ if asked for.
    """
    Y = columns_of(y)
    n, n_responses = Y.shape
    per_response = estimator.alpha_per_target and n_responses > 1
    fits = None
    if estimator.scoring is None and not estimator.store_cv_results:
        scores, fits = closed_form_scores(X, Y, weights, alphas, per_response, settings)
    else:
        full = np.ones(n) if weights is None else weights
        errors = leave_one_out_errors(X, Y, full, alphas, settings.intercept)
        if estimator.scoring is None:
            results = full[:, np.newaxis, np.newaxis] * errors**2
            scores = -results.mean(axis=0)
            scores = scores if per_response else scores.mean(axis=0, keepdims=True)
        else:
            results = Y[:, :, np.newaxis] - errors
            seen = [slice(r, r + 1) for r in range(n_responses)] if per_response else [slice(None)]
            scores = np.array(
                [
                    [
                        scorer(
                            _GivenPredictions(),
                            results[:, columns, k] if y.ndim > 1 else results[:, 0, k],
                            Y[:, columns] if y.ndim > 1 else y,
                            **score_params,
                        )
                        for k in range(len(alphas))
                    ]
                    for columns in seen
                ]
            )
        if estimator.store_cv_results:
            results = results[:, 0] if y.ndim == 1 else results
            estimator.cv_results_ = results.astype(X.dtype, copy=False)
    # The first of equals; NaN where a row alone decides its fitted value.
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = np.argmax(scores, axis=1)
    best_scores = scores[np.arange(len(best)), best]
    if fits is not None:
        fits = fits(best)
    if per_response:
        return best, best_scores, fits
    return best[0], best_scores[0], fits


def closed_form_scores(X, Y, weights, alphas, per_response, settings):
    """Minus the mean of w_i e_i^2 over rows, and a way to the fits of the chosen alphas.

    Returns
    -------
    scores : ndarray of shape (R, L) or, not per_response, (1, L)
    fits : callable
        Of the indices chosen (R,) or (1,): ChosenFits, or None if they have to be computed.
    """
    n, n_responses = Y.shape
    total = float(n) if weights is None else float(weights.sum())
    descending = np.argsort(-alphas, kind="stable")
    model = _core.ridge_closed_form(
        X,
        Y,
        "loo",
        lambda_grid=alphas[descending] / total,
        sample_weight=weights,
        **settings.keywords(X.shape, n_responses * len(alphas)),
    )
    null_losses = null_loss(Y, weights, settings.intercept)
    check_ended_well(model, settings.tol, null_losses)
    errors = np.empty((n_responses, len(alphas)))
    errors[:, descending] = model.cv_error[:, 0]
    scores = -errors * (total / n)
    position = np.argsort(descending)

    def fits(best):
        places = np.arange(n_responses) * len(alphas) + position[best]
        if not model.coef_kept.ravel()[places].all():
            return None
        return chosen_fits(model, places, null_losses)

    return scores if per_response else scores.mean(axis=0, keepdims=True), fits


def weights_for_scorer(scorer, weights):
    """Keywords of the scorer: the weights if there are any and it takes them, as GridSearchCV."""
    if weights is None:
        return {}
    accepts = getattr(scorer, "_accept_sample_weight", None)
    if accepts() if accepts else "sample_weight" in signature(scorer).parameters:
        return {"sample_weight": weights}
    warnings.warn(
        f"The scoring {scorer} does not support sample_weight, which may lead to statistically "
        "incorrect results when fitting with sample_weight.",
        stacklevel=5,
    )
    return {}


def choose_by_splits(estimator, X, y, weights, alphas, scorer, routed, settings):
    """Index of the alpha with the best plain mean of the scorer over the splits, and that mean."""
    if routed is not None:
        split_params, score_params = routed.splitter.split, routed.scorer.score
    else:
        split_params, score_params = {}, weights_for_scorer(scorer, weights)
    splits = list(check_cv(estimator.cv).split(X, y, **split_params))
    Y = columns_of(y)
    descending = np.argsort(-alphas, kind="stable")
    inner = replace(settings, n_jobs=1)

    def scores_of(split, callback):
        train, test = split
        w_train = None if weights is None else weights[train]
        total = float(len(train) if weights is None else w_train.sum())
        X_train, Y_train = X[train], Y[train]
        model = _core.fit_path(
            X_train,
            Y_train,
            l1_ratio=0.0,
            lambda_grid=alphas[descending] / total,
            sample_weight=w_train,
            callback=callback,
            **inner.keywords(X_train.shape, Y.shape[1] * len(alphas)),
        )
        check_ended_well(model, inner.tol, null_loss(Y_train, w_train, inner.intercept))
        here = _check_method_params(X, params=score_params, indices=test)
        X_test, y_test = X[test], y[test]
        out = np.empty(len(alphas))
        for place, k in enumerate(descending):
            callback()
            fits = np.arange(Y.shape[1]) * len(alphas) + place
            predictor = Ridge(alpha=alphas[k], fit_intercept=inner.intercept)
            predictor.n_features_in_ = X.shape[1]
            coef = coefficients(model, fits).astype(X.dtype, copy=False)
            intercept = model.intercept.ravel()[fits].astype(X.dtype)
            predictor.coef_ = coef if y.ndim > 1 else coef[0]
            predictor.intercept_ = intercept if y.ndim > 1 else intercept[0]
            out[k] = scorer(predictor, X_test, y_test, **here)
        return out

    work = X.shape[0] * X.shape[1] * Y.shape[1] * len(alphas) * len(splits)
    scores = np.mean(over_splits(scores_of, splits, settings.threads(work)), axis=0)
    best = np.argmax(np.where(np.isnan(scores), -np.inf, scores))
    return best, scores[best]


class Ridge(sklearn.linear_model.Ridge):
    """Linear regression with an L2 penalty and a certificate.

    Minimises, for each response y and weights w as given (1 by default)::

        sum_i w_i (y_i - intercept - x_i coef)^2 + alpha * ||coef||_2^2

    Parameters
    ----------
    alpha : float or array-like of shape (n_responses,), default=1.0
        Strength of the penalty, >= 0. At 0 the least-squares solution of smallest norm.
    fit_intercept : bool, default=True
        Whether there is an (unpenalised) intercept.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to solve; "auto" takes a GPU if there is one and the work is large enough.
    n_jobs : int, default=None
        Threads; None takes as many as pay, -1 all processors.
    positive : bool, default=False
        Only False: the objective has no sign constraint.
    solver, copy_X, max_iter, tol, random_state
        Accepted for compatibility. All solvers of scikit-learn name the same answer; here it comes
        from an eigendecomposition, refined until certified.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_responses, n_features)
        Coefficients, in X's precision.
    intercept_ : float or ndarray of shape (n_responses,)
        Intercept; 0.0 without one.
    dual_gap_ : float or ndarray of shape (n_responses,)
        Upper bound of the distance to the optimum in units of the objective, recomputed in double.
    n_iter_ : int or ndarray of shape (n_responses,)
        Solves: 1, and one more for each refinement.
    solver_ : str
        "eigen".
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has string column names.

    See Also
    --------
    RidgeCV : Chooses alpha by cross-validation.

    Examples
    --------
    >>> from thresher import Ridge
    >>> model = Ridge(alpha=1.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    >>> model.coef_.round(3).tolist()
    [0.667]
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.linear_model.Ridge._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        **OWN_CONSTRAINTS,
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        copy_X=True,
        max_iter=None,
        tol=1e-4,
        solver="auto",
        positive=False,
        random_state=None,
        device="auto",
        n_jobs=None,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.positive = positive
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, in any order; never written to, copied only if sparse (up to 1 GiB when dense) or
            of another type than float64 and float32.
        y : array-like of shape (n_samples,) or (n_samples, n_responses)
            Responses; cast to the type of X.
        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights >= 0 of the rows of the sum.

        Returns
        -------
        self
        """
        refuse_positive(self)
        fits = fit_ridge(self, X, y, sample_weight, self.device, self.n_jobs)
        set_solver_attributes(self, fits)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        tags.input_tags.sparse = True
        return tags

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.Ridge)


def set_solver_attributes(estimator, fits):
    """dual_gap_, n_iter_ and solver_ of a Ridge of ours."""
    single = len(fits.n_iter) == 1
    estimator.dual_gap_ = fits.dual_gap[0] if single else fits.dual_gap
    estimator.n_iter_ = int(fits.n_iter[0]) if single else np.array(fits.n_iter)
    estimator.solver_ = "eigen"


class RidgeCV(sklearn.linear_model.RidgeCV):
    """Ridge regression that chooses alpha, by leave-one-out in closed form unless `cv` is given.

    Parameters
    ----------
    alphas : float or array-like of shape (n_alphas,), default=(0.1, 1.0, 10.0)
        Values to try, as in `Ridge`; > 0 for leave-one-out.
    fit_intercept : bool, default=True
        Whether there is an (unpenalised) intercept.
    scoring : str, callable or None, default=None
        A scorer of scikit-learn. None: minus the mean squared error of leave-one-out, or R^2 if
        `cv` is given.
    cv : int, splitter or iterable, default=None
        None: leave-one-out in closed form. Else the splits; their scores are averaged plainly.
    store_cv_results : bool, default=False
        Keep `cv_results_`; only with leave-one-out.
    alpha_per_target : bool, default=False
        One alpha for each response instead of one for all; only with leave-one-out.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to solve; "auto" takes a GPU if there is one and the work is large enough.
    n_jobs : int, default=None
        Threads; None takes as many as pay, -1 all processors.
    gcv_mode : {"auto", "svd", "eigen"}, default=None
        Accepted for compatibility; the library decides.

    Attributes
    ----------
    alpha_ : float or, with `alpha_per_target`, ndarray of shape (n_responses,)
        The chosen alpha.
    best_score_ : float or, with `alpha_per_target`, ndarray of shape (n_responses,)
        Its score.
    cv_results_ : ndarray of shape (n_samples, n_alphas) or (n_samples, n_responses, n_alphas)
        Weighted squared errors or, with `scoring`, predictions of the rows left out; only if
        `store_cv_results`.
    coef_ : ndarray of shape (n_features,) or (n_responses, n_features)
        Coefficients at `alpha_`, in X's precision.
    intercept_ : float or ndarray of shape (n_responses,)
        Intercept; 0.0 without one.
    dual_gap_ : float or ndarray of shape (n_responses,)
        Certificate of the final fit, as in `Ridge`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has string column names.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from thresher import RidgeCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> RidgeCV(alphas=[1e-3, 1e-2, 1e-1, 1]).fit(X, y).alpha_
    0.01
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.linear_model.RidgeCV._parameter_constraints,
        **OWN_CONSTRAINTS,
    }
    # scikit-learn 1.6 still has the old name of store_cv_results.
    _parameter_constraints.pop("store_cv_values", None)

    def __init__(
        self,
        alphas=(0.1, 1.0, 10.0),
        *,
        fit_intercept=True,
        scoring=None,
        cv=None,
        gcv_mode=None,
        store_cv_results=False,
        alpha_per_target=False,
        device="auto",
        n_jobs=None,
    ):
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scoring = scoring
        self.cv = cv
        self.gcv_mode = gcv_mode
        self.store_cv_results = store_cv_results
        self.alpha_per_target = alpha_per_target
        self.device = device
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose alpha and fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, as in `Ridge.fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_responses)
            Responses.
        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights >= 0; they also weigh the errors of leave-one-out.
        **params : dict
            Parameters for the splitter and the scorer, with metadata routing.

        Returns
        -------
        self
        """
        fits = fit_ridge_cv(self, X, y, sample_weight, params, self.device, self.n_jobs)
        self.dual_gap_ = fits.dual_gap[0] if len(fits.dual_gap) == 1 else fits.dual_gap
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.RidgeCV)

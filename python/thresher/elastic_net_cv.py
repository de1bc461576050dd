"""ElasticNetCV and LassoCV, with scikit-learn's parameters and attributes.

Folds are averaged plainly, the grid comes from all rows and is never extended, as in scikit-learn.
Responses are independent: each has its own grid, alpha_ and l1_ratio_.
"""

import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import sklearn.linear_model
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_scalar, column_or_1d
from sklearn.utils._metadata_requests import _raise_for_params
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import _routing_enabled, process_routing

from . import _core
from .certified_fit import (
    ChosenFits,
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
    relative_weights,
    set_certificate,
    set_linear_attributes,
    to_sklearn,
)
from .elastic_net import OWN_CONSTRAINTS, alpha_grids, enet_path, lasso_path


def fold_numbers(splits, n_samples):
    """Fold of each row (n,) if the test sets part the rows and each trains on the rest, else None.

    Parameters
    ----------
    splits : list of (train, test)
        Index arrays or boolean masks.
    """
    fold_id = np.full(n_samples, -1, dtype=np.int64)
    for fold, (train, test) in enumerate(splits):
        held_out = np.zeros(n_samples, dtype=np.int64)
        np.add.at(held_out, as_indices(test), 1)
        trained = np.zeros(n_samples, dtype=np.int64)
        np.add.at(trained, as_indices(train), 1)
        whole = np.all(trained + held_out == 1) and held_out.any() and trained.any()
        if not whole or np.any(fold_id[held_out == 1] >= 0):
            return None
        fold_id[held_out == 1] = fold
    return fold_id if len(splits) > 1 and np.all(fold_id >= 0) else None


def as_indices(rows):
    """Row numbers of an index array or a boolean mask."""
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def grids_for(alphas, X, Y, weights, l1_ratios, intercept, eps):
    """Grids of alpha, descending.

    Returns
    -------
    ndarray of shape (1 or R, 1 or A, L); 1: the same for all
    """
    if isinstance(alphas, Integral):
        grids = [
            alpha_grids(
                X,
                Y,
                l1_ratio=ratio,
                intercept=intercept,
                eps=eps,
                n_alphas=alphas,
                weights=weights,
            )
            for ratio in l1_ratios
        ]
        return np.stack(grids, axis=1)
    check = partial(check_scalar, target_type=Real, min_val=0.0, include_boundaries="left")
    for index, alpha in enumerate(alphas):
        check(alpha, f"alphas[{index}]")
    return np.sort(np.asarray(alphas, dtype=np.float64))[np.newaxis, np.newaxis, ::-1]


def requested_alphas(estimator):
    """The grid, or its length; before scikit-learn 1.9 the length could be `n_alphas`."""
    alphas = estimator.alphas
    if alphas is None or isinstance(alphas, str):
        n_alphas = getattr(estimator, "n_alphas", None)
        return n_alphas if isinstance(n_alphas, Integral) else 100
    return alphas


def squared_error_of_splits(X, Y, weights, splits, grid, l1_ratios, settings):
    """Weighted mean squared test error of each split: (R, A, L, K).

    Parameters
    ----------
    grid : ndarray of shape (1 or R, L)
    l1_ratios : list of A floats
    """
    n_responses, n_ratios, n_alphas = Y.shape[1], len(l1_ratios), grid.shape[1]
    inner = replace(settings, n_jobs=1)

    def errors_of(split, callback):
        train, test = split
        w_train = None if weights is None else weights[train]
        X_train, Y_train, X_test = X[train], Y[train], X[test]
        model = _core.fit_path(
            X_train,
            Y_train,
            l1_ratio=l1_ratios,
            lambda_grid=grid,
            sample_weight=w_train,
            callback=callback,
            **inner.keywords(X_train.shape, n_responses * n_ratios * n_alphas),
        )
        check_ended_well(model, inner.tol, null_loss(Y_train, w_train, inner.intercept))
        w_test = None if weights is None else weights[test]
        out = np.empty((n_responses, n_ratios, n_alphas))
        for r in range(n_responses):
            callback()
            fits = np.arange(n_ratios * n_alphas) + r * n_ratios * n_alphas
            predicted = X_test @ coefficients(model, fits).T + model.intercept[r].ravel()
            squares = (Y[test, r, np.newaxis] - predicted) ** 2
            out[r] = np.average(squares, axis=0, weights=w_test).reshape(n_ratios, n_alphas)
        return out

    work = X.shape[0] * X.shape[1] * n_responses * n_ratios * n_alphas * len(splits)
    return np.stack(over_splits(errors_of, splits, settings.threads(work)), axis=-1)


def squared_error_of_folds(X, Y, weights, fold_id, grid, l1_ratios, settings):
    """The same for folds that part the rows, with the fits on all rows: (R, A, L, K), model."""
    n_fits = Y.shape[1] * len(l1_ratios) * grid.shape[1] * (fold_id.max() + 2)
    model = _core.cross_validate(
        X,
        Y,
        fold_id=fold_id,
        l1_ratio=l1_ratios,
        lambda_grid=grid,
        sample_weight=weights,
        keep_chosen=True,
        **settings.keywords(X.shape, int(n_fits)),
    )
    null_losses = null_loss(Y, weights, settings.intercept)
    check_ended_well(model, settings.tol, null_losses)
    stats = model.stats
    if stats["n_not_converged"] > 0:
        warnings.warn(
            f"Objective did not converge in {stats['n_not_converged']} of {stats['n_fits']} fits, "
            "folds included. You might want to increase the number of iterations.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return model.cv_fold_error, model


def fit_elastic_net_cv(
    estimator, X, y, sample_weight, params, l1_ratios, device="auto", several=True
):
    """Fit a LassoCV or ElasticNetCV, ours or scikit-learn's.

    Parameters as in `ElasticNetCV.fit`; l1_ratios is a list, and with `several` False a column y is
    flattened with scikit-learn's warning. Returns the index of the chosen l1_ratio, (R,) or one.
    """
    _raise_for_params(params, estimator, "fit")
    X, y = checked_data(estimator, X, y)
    if y.ndim > 1 and y.shape[1] == 1:
        y = column_or_1d(y, warn=not several)
    Y = columns_of(y)
    n_responses = Y.shape[1]
    weights = relative_weights(sample_weight, X)
    settings = Settings(
        estimator.fit_intercept, estimator.tol, estimator.max_iter, device, estimator.n_jobs
    )
    alphas = requested_alphas(estimator)
    grids = grids_for(alphas, X, Y, weights, l1_ratios, settings.intercept, estimator.eps)
    cv = check_cv(estimator.cv)
    split_params = {}
    if _routing_enabled():
        routed = process_routing(estimator, "fit", sample_weight=sample_weight, **params)
        split_params = routed.splitter.split
    splits = list(cv.split(X, y, **split_params))
    fold_id = fold_numbers(splits, len(X))

    # A grid that differs between l1_ratios takes a call for each of them.
    if grids.shape[1] == 1:
        calls = [(l1_ratios, grids[:, 0])]
    else:
        calls = [([ratio], grids[:, a]) for a, ratio in enumerate(l1_ratios)]
    errors, models = [], []
    for ratios, grid in calls:
        if fold_id is None:
            errors.append(squared_error_of_splits(X, Y, weights, splits, grid, ratios, settings))
        else:
            error, model = squared_error_of_folds(X, Y, weights, fold_id, grid, ratios, settings)
            errors.append(error)
            models += [(model, own) for own in range(len(ratios))]
    fold_error = np.concatenate(errors, axis=1)
    mean_error = fold_error.mean(axis=3)
    n_alphas = mean_error.shape[2]
    best_ratio, best_alpha = np.divmod(mean_error.reshape(n_responses, -1).argmin(axis=1), n_alphas)
    every_grid = np.broadcast_to(grids, mean_error.shape)
    alpha = every_grid[np.arange(n_responses), best_ratio, best_alpha]
    fits = fits_at_choice(X, Y, weights, l1_ratios, models, best_ratio, best_alpha, alpha, settings)

    set_linear_attributes(estimator, fits, y, X.dtype)
    set_certificate(estimator, fits, X.dtype)
    if not isinstance(alphas, Integral):
        estimator.alphas_ = grids[0, 0]
    else:
        shown = grids[:, 0] if len(l1_ratios) == 1 else grids
        estimator.alphas_ = shown[0] if y.ndim == 1 else shown
    if y.ndim == 1:
        estimator.mse_path_ = np.squeeze(fold_error[0])
        estimator.alpha_ = alpha[0]
        return best_ratio[0]
    estimator.mse_path_ = fold_error[:, 0] if len(l1_ratios) == 1 else fold_error
    estimator.alpha_ = alpha
    return best_ratio


def fits_at_choice(X, Y, weights, l1_ratios, models, best_ratio, best_alpha, alpha, settings):
    """The fit of each response on all rows at its chosen (l1_ratio, alpha).

    Taken from cross-validation where it was kept, else computed.

    Parameters
    ----------
    models : list of (Model, int)
        Of each l1_ratio, if there are any: the model with its fits and its number in there.
    best_ratio, best_alpha : ndarray of shape (R,)
        Indices into l1_ratios and the grid.
    alpha : ndarray of shape (R,)
    """
    n_responses = Y.shape[1]
    null_losses = null_loss(Y, weights, settings.intercept)
    found = [None] * n_responses
    for r in range(n_responses):
        if models:
            model, own = models[best_ratio[r]]
            fit = (r, own, best_alpha[r])
            if model.coef_kept[fit]:
                flat = np.ravel_multi_index(fit, model.coef_kept.shape)
                found[r] = chosen_fits(model, [flat], null_losses[r : r + 1])
                found[r].n_iter = model.iterations[r, own, : best_alpha[r] + 1].sum(keepdims=True)
    for a, ratio in enumerate(l1_ratios):
        absent = [r for r in range(n_responses) if found[r] is None and best_ratio[r] == a]
        if absent:
            fits = fit_at(
                X, Y[:, absent], alpha[absent], l1_ratio=ratio, weights=weights, settings=settings
            )
            for k, r in enumerate(absent):
                found[r] = fits.part(slice(k, k + 1))
    return ChosenFits.joined(found)


_CV_CONSTRAINTS = {
    **{
        name: constraint
        for name, constraint in sklearn.linear_model.LassoCV._parameter_constraints.items()
        if name != "n_alphas"
    },
    "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
    **OWN_CONSTRAINTS,
}


class _SeveralResponses:
    """Tags of a cross-validated estimator that takes any number of responses."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags


class ElasticNetCV(_SeveralResponses, sklearn.linear_model.ElasticNetCV):
    """Elastic net that chooses alpha and l1_ratio for each response by cross-validation.

    The objective is that of `ElasticNet`. The error of a fold is its weighted mean squared error;
    folds are averaged plainly.

    Parameters
    ----------
    l1_ratio : float or list of float, default=0.5
        Share of the L1 penalty, from 0 to 1; of several, the best is chosen.
    eps : float, default=1e-3
        Smallest over largest alpha of an automatic grid.
    alphas : int or array-like of shape (n_alphas,), default=100
        Length of an automatic grid, which starts where all coefficients are zero, or the grid.
    fit_intercept : bool, default=True
        Whether there is an (unpenalised) intercept.
    max_iter : int, default=1000
        Visits of all features for one fit, after which a `ConvergenceWarning` is given.
    tol : float, default=1e-4
        Largest duality gap, as a share of the objective without features. The solver usually ends
        far below.
    cv : int, splitter or iterable, default=None
        None: 5 folds in the order of the rows.
    n_jobs : int, default=None
        Threads; None takes as many as pay, -1 all processors.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to solve; "auto" takes a GPU if there is one and the work is large enough.
    positive : bool, default=False
        Only False: the objective has no sign constraint.
    precompute, copy_X, verbose, random_state, selection
        Accepted for compatibility: the library decides, X is never written to, and nothing is
        random.

    Attributes
    ----------
    alpha_ : float or ndarray of shape (n_responses,)
        The chosen alpha of each response.
    l1_ratio_ : float or ndarray of shape (n_responses,)
        The chosen l1_ratio of each response.
    coef_ : ndarray of shape (n_features,) or (n_responses, n_features)
        Coefficients on all rows at the choice, in X's precision.
    intercept_ : float or ndarray of shape (n_responses,)
        Intercept; 0.0 without one.
    mse_path_ : ndarray of shape ([n_responses,] [n_l1_ratio,] n_alphas, n_folds)
        Mean squared error of each fold. An axis in brackets is there if there are several.
    alphas_ : ndarray of shape ([n_responses,] [n_l1_ratio,] n_alphas) or (n_alphas,)
        The grids, descending; one for all if it was given.
    dual_gap_ : float or ndarray of shape (n_responses,)
        Certificate of the final fit in units of the objective, recomputed in double.
    n_iter_ : int or list of int
        Changes of the support, or Newton steps, on the way from zero to the final fit.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has string column names.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from thresher import ElasticNetCV
    >>> X, Y = make_regression(n_features=2, n_targets=3, noise=1.0, random_state=0)
    >>> model = ElasticNetCV(l1_ratio=[0.5, 1.0], cv=5).fit(X, Y)
    >>> model.l1_ratio_.tolist(), model.alpha_.shape, model.mse_path_.shape
    ([1.0, 1.0, 1.0], (3,), (3, 2, 100, 5))
    """

    _parameter_constraints: ClassVar[dict] = {
        **_CV_CONSTRAINTS,
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
    }

    path = staticmethod(enet_path)

    def __init__(
        self,
        *,
        l1_ratio=0.5,
        eps=1e-3,
        alphas=100,
        fit_intercept=True,
        precompute="auto",
        max_iter=1000,
        tol=1e-4,
        cv=None,
        copy_X=True,
        verbose=0,
        n_jobs=None,
        positive=False,
        random_state=None,
        selection="cyclic",
        device="auto",
    ):
        self.l1_ratio = l1_ratio
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.copy_X = copy_X
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose alpha and l1_ratio, and fit the model on all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, as in `ElasticNet.fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_responses)
            Responses; cast to the type of X.
        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights >= 0, for the fits and for the errors within a fold.
        **params : dict
            Parameters for the splitter, with metadata routing.

        Returns
        -------
        self
        """
        refuse_positive(self)
        ratios = np.atleast_1d(self.l1_ratio).astype(float).tolist()
        best = fit_elastic_net_cv(self, X, y, sample_weight, params, ratios, self.device)
        self.l1_ratio_ = np.asarray(ratios)[best]
        return self

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.ElasticNetCV)


class LassoCV(_SeveralResponses, sklearn.linear_model.LassoCV):
    """Lasso that chooses alpha for each response by cross-validation.

    Parameters and attributes are those of `ElasticNetCV`, without `l1_ratio` and `l1_ratio_`.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from thresher import LassoCV
    >>> X, y = make_regression(noise=4, random_state=0)
    >>> model = LassoCV(cv=5).fit(X, y)
    >>> round(model.score(X, y), 4)
    0.9994
    """

    _parameter_constraints: ClassVar[dict] = _CV_CONSTRAINTS

    path = staticmethod(lasso_path)

    def __init__(
        self,
        *,
        eps=1e-3,
        alphas=100,
        fit_intercept=True,
        precompute="auto",
        max_iter=1000,
        tol=1e-4,
        copy_X=True,
        cv=None,
        verbose=False,
        n_jobs=None,
        positive=False,
        random_state=None,
        selection="cyclic",
        device="auto",
    ):
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.copy_X = copy_X
        self.cv = cv
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose alpha and fit the model on all rows; parameters as in `ElasticNetCV.fit`."""
        refuse_positive(self)
        fit_elastic_net_cv(self, X, y, sample_weight, params, [1.0], self.device)
        return self

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.LassoCV)

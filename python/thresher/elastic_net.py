"""ElasticNet, Lasso and their paths, with scikit-learn's parameters and attributes."""

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import sklearn.linear_model
from sklearn.base import _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_params,
)

from . import _core
from .certified_fit import (
    FLOAT_TYPES,
    Settings,
    check_ended_well,
    checked_data,
    coefficients,
    columns_of,
    dense,
    fit_at,
    null_loss,
    refuse_positive,
    relative_weights,
    set_certificate,
    set_linear_attributes,
    solvable,
    to_sklearn,
)

# Parameters that scikit-learn does not have.
OWN_CONSTRAINTS: dict[str, list] = {
    "device": [StrOptions({"auto", "cpu", "cuda"})],
    "n_jobs": [Integral, None],
}

# alpha below which scikit-learn takes a response for constant.
SMALLEST_ALPHA = np.finfo(np.float64).resolution


def fit_elastic_net(estimator, X, y, sample_weight, check_input, device="auto", n_jobs=None):
    """Fit an ElasticNet or Lasso, ours or scikit-learn's; parameters as in `ElasticNet.fit`."""
    if estimator.alpha == 0:
        warnings.warn(
            "With alpha=0, this algorithm does not converge well. You are advised to use the "
            "LinearRegression estimator",
            stacklevel=3,
        )
    if check_input:
        X, y = checked_data(estimator, X, y)
    else:
        X, y = dense(X), np.asarray(y, dtype=X.dtype)
    warm = estimator.warm_start and hasattr(estimator, "coef_")
    fits = fit_at(
        X,
        columns_of(y),
        [estimator.alpha],
        l1_ratio=estimator.l1_ratio,
        weights=relative_weights(sample_weight, X),
        settings=Settings(
            intercept=estimator.fit_intercept,
            tol=estimator.tol,
            max_iter=estimator.max_iter,
            device=device,
            n_jobs=n_jobs,
        ),
        start=np.atleast_2d(estimator.coef_) if warm else None,
    )
    set_linear_attributes(estimator, fits, y, X.dtype)
    set_certificate(estimator, fits, X.dtype)
    return estimator


def alpha_grids(X, Y, *, l1_ratio, intercept, eps, n_alphas, weights=None):
    """scikit-learn's automatic grid of each response, from all rows.

    alpha_max = max_j |sum_i w_i x_ij (y_i - mean)| / (l1_ratio sum w), then `n_alphas` values
    equally spaced in log down to eps alpha_max.

    Returns
    -------
    ndarray of shape (R, n_alphas), descending
    """
    if l1_ratio == 0:
        raise ValueError(
            "Automatic alpha grid generation is not supported for l1_ratio=0. Please supply a grid "
            "by providing your estimator with the appropriate `alphas=` argument."
        )
    if intercept:
        Y = Y - np.average(Y, axis=0, weights=weights)
    total = len(X) if weights is None else weights.sum()
    if weights is not None:
        Y = Y * weights[:, np.newaxis]
    products = X.T @ Y.astype(X.dtype, copy=False)
    if intercept:
        # What rounding left of the sum of Y times the column means.
        products = products - np.outer(np.average(X, axis=0, weights=weights), Y.sum(axis=0))
    alpha_max = np.abs(products).max(axis=0).astype(np.float64) / (total * l1_ratio)
    grids = np.full((Y.shape[1], n_alphas), SMALLEST_ALPHA)
    for grid, top in zip(grids, alpha_max, strict=True):
        if top > SMALLEST_ALPHA:
            grid[:] = np.geomspace(top, top * eps, num=n_alphas)
    return grids


def elastic_net_path(
    X, y, *, l1_ratio, eps, alphas, coef_init, check_input, settings, return_n_iter
):
    """The work of `enet_path` and `lasso_path` on checked parameters."""
    if check_input:
        X = check_array(X, accept_sparse=["csc", "csr", "coo"], dtype=FLOAT_TYPES)
        y = check_array(y, dtype=X.dtype.type, ensure_2d=False, input_name="y")
    X, y = solvable(dense(X)), solvable(y)
    Y = columns_of(y)
    if isinstance(alphas, Integral):
        grids = alpha_grids(X, Y, l1_ratio=l1_ratio, intercept=False, eps=eps, n_alphas=alphas)
    else:
        grids = np.sort(np.asarray(alphas, dtype=np.float64))[np.newaxis, ::-1]
    n_responses, n_alphas = Y.shape[1], grids.shape[1]
    model = _core.fit_path(
        X,
        Y,
        l1_ratio=float(l1_ratio),
        lambda_grid=grids,
        warm_start=None if coef_init is None else np.atleast_2d(coef_init).astype(float).T,
        **settings.keywords(X.shape, n_responses * n_alphas),
    )
    null_losses = null_loss(Y, None, intercept=False)
    check_ended_well(model, settings.tol, null_losses)
    coefs = coefficients(model, np.arange(n_responses * n_alphas)).astype(X.dtype, copy=False)
    coefs = coefs.reshape(n_responses, n_alphas, -1).swapaxes(1, 2)
    dual_gaps = model.gap[:, 0] * null_losses[:, np.newaxis]
    n_iters = model.iterations[:, 0].tolist()
    alphas = grids if len(grids) > 1 else grids[0]
    if y.ndim == 1:
        coefs, dual_gaps, n_iters = coefs[0], dual_gaps[0], n_iters[0]
    out = (alphas, coefs, dual_gaps)
    return (*out, n_iters) if return_n_iter else out


_PATH_CONSTRAINTS = {
    "X": ["array-like", "sparse matrix"],
    "y": ["array-like"],
    "eps": [Interval(Real, 0, None, closed="neither")],
    "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
    "precompute": [StrOptions({"auto"}), "boolean", "array-like"],
    "Xy": ["array-like", None],
    "copy_X": ["boolean"],
    "coef_init": ["array-like", None],
    "verbose": ["verbose"],
    "return_n_iter": ["boolean"],
    "positive": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    **OWN_CONSTRAINTS,
}


@validate_params(
    {**_PATH_CONSTRAINTS, "l1_ratio": [Interval(Real, 0, 1, closed="both")]},
    prefer_skip_nested_validation=True,
)
def enet_path(
    X,
    y,
    *,
    l1_ratio=0.5,
    eps=1e-3,
    alphas=100,
    precompute="auto",
    Xy=None,
    copy_X=True,
    coef_init=None,
    verbose=False,
    return_n_iter=False,
    positive=False,
    check_input=True,
    tol=1e-4,
    max_iter=1000,
    device="auto",
    n_jobs=None,
):
    """Elastic net coefficients along a path of alphas, without an intercept.

    The objective is that of `ElasticNet`. Each response has a path of its own (scikit-learn's
    function couples the responses of a two-dimensional `y` by an L21 penalty instead).

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data, in any order; never copied unless sparse, never written to.
    y : array-like of shape (n_samples,) or (n_samples, n_responses)
        Responses.
    l1_ratio : float, default=0.5
        Share of the L1 penalty, from 0 to 1.
    eps : float, default=1e-3
        Smallest over largest alpha of an automatic grid.
    alphas : int or array-like of shape (n_alphas,), default=100
        Length of an automatic grid, which starts where all coefficients are zero, or the grid.
    coef_init : array-like of shape (n_features,) or (n_responses, n_features), default=None
        Coefficients to start from.
    return_n_iter : bool, default=False
        Return the number of iterations, too.
    check_input : bool, default=True
        False: `X` and `y` are arrays of one floating type already.
    tol : float, default=1e-4
        Largest duality gap, as a share of the objective at zero.
    max_iter : int, default=1000
        Visits of all features.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to solve.
    n_jobs : int, default=None
        Threads; None takes as many as pay.
    positive : bool, default=False
        Only False: the objective has no sign constraint.
    precompute, Xy, copy_X, verbose
        Accepted for compatibility; the library decides.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,) or (n_responses, n_alphas)
        Descending; a row per response where `y` has several and the grid is automatic.
    coefs : ndarray of shape (n_features, n_alphas) or (n_responses, n_features, n_alphas)
        Coefficients.
    dual_gaps : ndarray of shape (n_alphas,) or (n_responses, n_alphas)
        Certified distance to the optimum, in units of the objective.
    n_iters : list of int, or one per response
        Only if `return_n_iter`.

    Examples
    --------
    >>> from thresher import enet_path
    >>> X, y = [[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]], [1.0, 2.0, 3.0]
    >>> alphas, coefs, _ = enet_path(X, y, alphas=3)
    >>> coefs.shape
    (2, 3)
    """
    if positive:
        raise ValueError("positive must be False, got True (thresher has no sign constraint)")
    return elastic_net_path(
        X,
        y,
        l1_ratio=l1_ratio,
        eps=eps,
        alphas=alphas,
        coef_init=coef_init,
        check_input=check_input,
        settings=Settings(False, tol, max_iter, device, n_jobs),
        return_n_iter=return_n_iter,
    )


@validate_params(_PATH_CONSTRAINTS, prefer_skip_nested_validation=True)
def lasso_path(
    X,
    y,
    *,
    eps=1e-3,
    alphas=100,
    precompute="auto",
    Xy=None,
    copy_X=True,
    coef_init=None,
    verbose=False,
    return_n_iter=False,
    positive=False,
    check_input=True,
    tol=1e-4,
    max_iter=1000,
    device="auto",
    n_jobs=None,
):
    """Lasso coefficients along a path of alphas: `enet_path` at `l1_ratio=1`.

    Parameters and returns are those of `enet_path`.

    Examples
    --------
    >>> from thresher import lasso_path
    >>> _, coefs, _ = lasso_path([[1.0], [2.0], [3.1]], [1.0, 2.0, 3.1], alphas=[5.0, 1.0])
    >>> coefs.round(3).tolist()
    [[0.0, 0.795]]
    """
    return enet_path(
        X,
        y,
        l1_ratio=1.0,
        eps=eps,
        alphas=alphas,
        coef_init=coef_init,
        return_n_iter=return_n_iter,
        positive=positive,
        check_input=check_input,
        tol=tol,
        max_iter=max_iter,
        device=device,
        n_jobs=n_jobs,
    )


class ElasticNet(sklearn.linear_model.ElasticNet):
    """Linear regression with L1 and L2 penalties and a certificate.

    Minimises, for each response y, weights w summing to 1 (1/n each by default)::

        1/2 sum_i w_i (y_i - intercept - x_i coef)^2
        + alpha * l1_ratio * ||coef||_1 + alpha * (1 - l1_ratio) / 2 * ||coef||_2^2

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    l1_ratio : float, default=0.5
        Share of the L1 penalty, from 0 to 1.
    fit_intercept : bool, default=True
        Whether there is an (unpenalised) intercept.
    max_iter : int, default=1000
        Visits of all features, after which a `ConvergenceWarning` is given.
    tol : float, default=1e-4
        Largest duality gap, as a share of the objective without features. The solver usually ends
        far below.
    warm_start : bool, default=False
        Start from the coefficients of the previous `fit`.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to solve; "auto" takes a GPU if there is one and the work is large enough.
    n_jobs : int, default=None
        Threads; None takes as many as pay, -1 all processors.
    positive : bool, default=False
        Only False: the objective has no sign constraint.
    precompute, copy_X, random_state, selection
        Accepted for compatibility: the library decides, X is never written to, and nothing is
        random.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_responses, n_features)
        Coefficients, in X's precision.
    intercept_ : float or ndarray of shape (n_responses,)
        Intercept; 0.0 without one.
    dual_gap_ : float or ndarray of shape (n_responses,)
        Upper bound of the distance to the optimum in units of the objective, recomputed in double
        from X, y and the coefficients.
    n_iter_ : int or list of int
        Changes of the support, or Newton steps, that the solver made.
    sparse_coef_ : sparse array of shape (1, n_features) or (n_responses, n_features)
        `coef_`, sparse.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X has string column names.

    See Also
    --------
    ElasticNetCV : Chooses alpha and l1_ratio by cross-validation.

    Examples
    --------
    >>> from thresher import ElasticNet
    >>> model = ElasticNet(alpha=0.1).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0.0, 1.0, 2.0])
    >>> model.coef_.round(3).tolist()
    [0.86, 0.0]
    >>> bool(model.dual_gap_ < 1e-12)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **sklearn.linear_model.ElasticNet._parameter_constraints,
        **OWN_CONSTRAINTS,
    }

    path = staticmethod(enet_path)

    def __init__(
        self,
        alpha=1.0,
        *,
        l1_ratio=0.5,
        fit_intercept=True,
        precompute=False,
        max_iter=1000,
        copy_X=True,
        tol=1e-4,
        warm_start=False,
        positive=False,
        random_state=None,
        selection="cyclic",
        device="auto",
        n_jobs=None,
    ):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.copy_X = copy_X
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.device = device
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, check_input=True):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, in any order; never written to, copied only if sparse (up to 1 GiB when dense) or
            of another type than float64 and float32.
        y : array-like of shape (n_samples,) or (n_samples, n_responses)
            Responses; cast to the type of X.
        sample_weight : float or array-like of shape (n_samples,), default=None
            Weights >= 0; only their ratios count.
        check_input : bool, default=True
            False: `X` and `y` are arrays of one floating type already.

        Returns
        -------
        self
        """
        refuse_positive(self)
        return fit_elastic_net(self, X, y, sample_weight, check_input, self.device, self.n_jobs)

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.ElasticNet)


class Lasso(ElasticNet, sklearn.linear_model.Lasso):
    """Linear regression with an L1 penalty and a certificate: `ElasticNet` at `l1_ratio=1`.

    Minimises, for each response y, weights w summing to 1 (1/n each by default)::

        1/2 sum_i w_i (y_i - intercept - x_i coef)^2 + alpha * ||coef||_1

    Parameters and attributes are those of `ElasticNet`, without `l1_ratio`.

    See Also
    --------
    LassoCV : Chooses alpha by cross-validation.

    Examples
    --------
    >>> from thresher import Lasso
    >>> model = Lasso(alpha=0.1).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0.0, 1.0, 2.0])
    >>> model.coef_.round(3).tolist()
    [0.85, 0.0]
    """

    _parameter_constraints: ClassVar[dict] = {
        name: constraint
        for name, constraint in ElasticNet._parameter_constraints.items()
        if name != "l1_ratio"
    }

    l1_ratio = 1.0
    path = staticmethod(lasso_path)

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        precompute=False,
        copy_X=True,
        max_iter=1000,
        tol=1e-4,
        warm_start=False,
        positive=False,
        random_state=None,
        selection="cyclic",
        device="auto",
        n_jobs=None,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.device = device
        self.n_jobs = n_jobs

    def to_sklearn(self):
        """The same fitted model as an estimator of scikit-learn, without thresher inside."""
        return to_sklearn(self, sklearn.linear_model.Lasso)

"""Converters between lambda and the penalties of other packages; derivations in ``docs/units.md``.

All of them take numbers or arrays, which broadcast. `lambdas` and `l1_ratio` are those of the batch
functions: ``1/(2n) RSS + lambda (l1_ratio |b|_1 + (1 - l1_ratio)/2 |b|_2^2)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Glmnet",
    "Penalty",
    "from_glmnet",
    "from_himalaya_ridge",
    "from_sklearn",
    "from_sklearn_ridge",
    "sd",
    "to_glmnet",
    "to_himalaya_ridge",
    "to_sklearn",
    "to_sklearn_ridge",
]


class Penalty(NamedTuple):
    """A penalty in the units of the batch functions."""

    lambdas: Any  #: [X][y]
    l1_ratio: Any


class Glmnet(NamedTuple):
    """A penalty in the units of glmnet's gaussian family."""

    lambdas: Any
    alpha: Any


def sd(y: Any, *, sample_weight: Any = None, intercept: bool = True) -> Any:
    """The sd(y) by which glmnet divides: weighted, and by n rather than n - 1.

    Parameters
    ----------
    y : array of shape (n_samples,) or (n_samples, n_responses)
    sample_weight : array of shape (n_samples,), optional
    intercept : bool
        False: the root mean square of y, which glmnet takes then.

    Returns
    -------
    float, or array of shape (n_responses,), [y]
    """
    y = np.asarray(y, dtype=np.float64)
    center = np.average(y, axis=0, weights=sample_weight) if intercept else 0.0
    return np.sqrt(np.average((y - center) ** 2, axis=0, weights=sample_weight))


def from_glmnet(lambdas: Any, *, alpha: Any = 1.0, sd_y: Any = None) -> Penalty:
    """The penalty of a glmnet fit.

    Parameters
    ----------
    lambdas : number or array
        glmnet's `lambda`.
    alpha : number or array in [0, 1]
        glmnet's `alpha`.
    sd_y : number or array
        `sd` of the response; needed unless alpha is 1.
    """
    lambdas, alpha = _numbers(lambdas), _numbers(alpha)
    share = alpha + (1.0 - alpha) / _scale(sd_y, alpha)
    return Penalty(lambdas * share, alpha / share)


def to_glmnet(lambdas: Any, *, l1_ratio: Any = 1.0, sd_y: Any = None) -> Glmnet:
    """The glmnet penalty of a fit of ours; parameters as in `from_glmnet`."""
    lambdas, l1_ratio = _numbers(lambdas), _numbers(l1_ratio)
    share = l1_ratio + (1.0 - l1_ratio) * _scale(sd_y, l1_ratio)
    return Glmnet(lambdas * share, l1_ratio / share)


def from_sklearn(alpha: Any, *, l1_ratio: Any = 1.0) -> Penalty:
    """The penalty of ``Lasso(alpha)`` or ``ElasticNet(alpha, l1_ratio)``: the same numbers.

    skglm and celer use these units, too.
    """
    return Penalty(_numbers(alpha), _numbers(l1_ratio))


def to_sklearn(lambdas: Any) -> Any:
    """`alpha` of scikit-learn's Lasso or ElasticNet; `l1_ratio` stays as it is."""
    return _numbers(lambdas)


def from_sklearn_ridge(alpha: Any, *, total_weight: Any) -> Penalty:
    """The penalty of scikit-learn's ``Ridge(alpha)``.

    Parameters
    ----------
    alpha : number or array
    total_weight : number
        n_samples, or the sum of `sample_weight` as it is given to Ridge.
    """
    return Penalty(_numbers(alpha) / total_weight, 0.0)


def to_sklearn_ridge(lambdas: Any, *, total_weight: Any) -> Any:
    """`alpha` of scikit-learn's Ridge for a Ridge fit of ours (l1_ratio 0)."""
    return _numbers(lambdas) * total_weight


def from_himalaya_ridge(alpha: Any, *, n_samples: int) -> Penalty:
    """The penalty of himalaya's ``Ridge(alpha)``; himalaya has no sample weights."""
    return from_sklearn_ridge(alpha, total_weight=n_samples)


def to_himalaya_ridge(lambdas: Any, *, n_samples: int) -> Any:
    """`alpha` of himalaya's Ridge for a Ridge fit of ours (l1_ratio 0)."""
    return to_sklearn_ridge(lambdas, total_weight=n_samples)


def _numbers(values: Any) -> Any:
    return np.asarray(values, dtype=np.float64)[()]


def _scale(sd_y: Any, l1_share: Any) -> Any:
    if sd_y is not None:
        return _numbers(sd_y)
    if np.any(l1_share != 1.0):
        raise ValueError("sd_y must be given where there is an L2 part: thresher.units.sd(y)")
    return 1.0

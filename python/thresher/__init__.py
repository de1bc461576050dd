"""Certified Lasso, Elastic Net and Ridge for many responses on one feature matrix.

`cross_validate` chooses a lambda for every response, `fit_path` fits a path; both return result
objects in which every fit carries its duality gap. `Lasso`, `ElasticNet`, `Ridge`, their CV forms,
`lasso_path` and `enet_path` have scikit-learn's manners; `thresher.accel` puts them in its place.
"""

from . import plots, units
from ._core import DeviceError, __version__
from .batch import Plan, cross_validate, fit_path, info, make_folds, plan
from .elastic_net import ElasticNet, Lasso, enet_path, lasso_path
from .elastic_net_cv import ElasticNetCV, LassoCV
from .results import CvResult, Interrupted, PathResult, load
from .ridge_models import Ridge, RidgeCV

__all__ = [
    "CvResult",
    "DeviceError",
    "ElasticNet",
    "ElasticNetCV",
    "Interrupted",
    "Lasso",
    "LassoCV",
    "PathResult",
    "Plan",
    "Ridge",
    "RidgeCV",
    "__version__",
    "cross_validate",
    "enet_path",
    "fit_path",
    "info",
    "lasso_path",
    "load",
    "make_folds",
    "plan",
    "plots",
    "units",
]

"""Certified Lasso, Elastic Net and Ridge for many responses."""

from ._core import DeviceError, __version__
from .elastic_net import ElasticNet, Lasso, enet_path, lasso_path
from .elastic_net_cv import ElasticNetCV, LassoCV
from .ridge_models import Ridge, RidgeCV

__all__ = [
    "DeviceError",
    "ElasticNet",
    "ElasticNetCV",
    "Lasso",
    "LassoCV",
    "Ridge",
    "RidgeCV",
    "__version__",
    "enet_path",
    "lasso_path",
]

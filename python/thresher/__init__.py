"""Certified Lasso, Elastic Net and Ridge for many responses."""

from ._core import DeviceError, __version__

__all__ = ["DeviceError", "__version__"]

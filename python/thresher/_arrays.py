"""What people pass as data, turned into NumPy arrays the library can borrow."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np

# DLDeviceType of DLPack for memory the host can read: CPU, pinned by CUDA, pinned by ROCm.
_HOST_DEVICES = {1, 3, 11}


class Table(NamedTuple):
    """A matrix with the names of its columns, if it came with any."""

    values: np.ndarray
    names: list[str] | None


def _device_to_host(data: Any) -> np.ndarray:
    """Copy an array that lives on a device; the library takes host memory alone."""
    with contextlib.suppress(TypeError, ValueError, BufferError, RuntimeError, NotImplementedError):
        return np.from_dlpack(data, device="cpu")
    for copy in ("cpu", "get"):  # PyTorch, CuPy
        if hasattr(data, copy):
            return np.asarray(getattr(data, copy)())
    return np.asarray(data)


def _to_numpy(data: Any) -> np.ndarray:
    if isinstance(data, np.ndarray):
        return np.asarray(data)
    if hasattr(data, "__dlpack_device__"):
        if int(data.__dlpack_device__()[0]) not in _HOST_DEVICES:
            return _device_to_host(data)
        if not hasattr(data, "to_numpy"):  # a table's __dlpack__ is for its numbers alone
            try:
                return np.from_dlpack(data)
            except (BufferError, RuntimeError) as error:  # bfloat16, gradients that are recorded
                raise TypeError(f"{type(data).__name__} cannot be read: {error}") from error
    values = np.asarray(data)
    if values.dtype == object and hasattr(data, "to_numpy"):
        with contextlib.suppress(TypeError):  # pandas' nullable columns; others take no na_value
            return data.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _floating(values: np.ndarray, name: str) -> np.ndarray:
    """float64 or float32 in whole strides and native byte order: as it is, or one copy."""
    if values.dtype in (np.float64, np.float32):
        step = values.dtype.itemsize
        if values.flags.aligned and all(stride % step == 0 for stride in values.strides):
            return values
        return values.copy()
    if values.dtype.kind == "c":
        raise ValueError(f"{name} must be real, got {values.dtype}")
    if values.dtype.kind not in "fiubO":
        raise TypeError(f"{name} must hold numbers, got {values.dtype}")
    if values.dtype.kind == "f" and values.dtype.itemsize == 4:  # float32 in foreign byte order
        return values.astype(np.float32)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers: {error}") from error


def _column_names(data: Any) -> list[str] | None:
    """The columns of a pandas or polars table, the name of a series; None if they are numbers."""
    if hasattr(data, "__dataframe__") or hasattr(data, "columns"):
        names = list(getattr(data, "columns", []))
    elif hasattr(data, "name") and hasattr(data, "to_numpy"):
        names = [data.name]
    else:
        return None
    if not any(isinstance(name, str) and name for name in names):
        return None
    return [str(name) for name in names]


def as_matrix(data: Any, name: str, *, vector_is_column: bool = False) -> Table:
    """`data` as a float64 or float32 matrix, without a copy wherever NumPy can show the memory.

    Takes NumPy arrays of any order and strides, pandas and polars tables, and every array that
    speaks DLPack. float64 and float32 stay as they are, everything else becomes float64.

    Parameters
    ----------
    data : array of shape (n_samples, n_columns), or (n_samples,) with `vector_is_column`
    name : str
        What messages call it.
    vector_is_column : bool
        One dimension stands for one column.
    """
    if hasattr(data, "tocsr"):
        raise TypeError(
            f"{name} must be dense, got a sparse matrix; {name}.toarray() makes it dense"
        )
    values = _to_numpy(data)
    if vector_is_column and values.ndim == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {values.shape}")
    if values.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {values.shape}")
    return Table(_floating(values, name), _column_names(data))


def as_vector(data: Any, name: str) -> np.ndarray:
    """`data` as a contiguous float64 vector."""
    values = _to_numpy(data)
    if values.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {values.shape}")
    return np.ascontiguousarray(_floating(values, name), dtype=np.float64)


def fold_numbers(folds: Any, X: Any, Y: Any, n_samples: int) -> np.ndarray:
    """The fold of each row, from fold numbers, a scikit-learn splitter or pairs of index arrays.

    Returns
    -------
    int64 array of shape (n_samples,)
    """
    if hasattr(folds, "split"):
        folds = folds.split(X, Y)
    elif hasattr(folds, "__array__") or (
        isinstance(folds, (list, tuple)) and all(np.isscalar(entry) for entry in folds)
    ):
        numbers = np.asarray(folds)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise TypeError(
                f"folds must be integers, one per row, got {numbers.dtype} of shape {numbers.shape}"
            )
        return np.ascontiguousarray(numbers, dtype=np.int64)

    numbers = np.full(n_samples, -1, dtype=np.int64)
    for fold, (_, test) in enumerate(folds):
        rows = np.arange(n_samples)[test]
        if (numbers[rows] >= 0).any():
            raise ValueError("folds must hold out every row once, got a row that is held out twice")
        numbers[rows] = fold
    if (numbers < 0).any():
        missing = int((numbers < 0).sum())
        raise ValueError(f"folds must hold out every row once, got {missing} rows never held out")
    return numbers

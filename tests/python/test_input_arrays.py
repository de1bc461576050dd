"""Arrays in every layout: the same bits, uncopied where that is promised, or a clear error."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

import thresher
from thresher import _core
from thresher._arrays import as_matrix


def same_fit(a, b):
    for name in ("lambdas", "intercept", "gap"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.coef_all != b.coef_all).nnz == 0


def layouts(X):
    padded = np.zeros((X.shape[0] + 3, 2 * X.shape[1]), dtype=X.dtype)
    padded[1:-2, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    return {
        "C": np.ascontiguousarray(X),
        "Fortran": np.asfortranarray(X),
        "negative strides": X[::-1, ::-1].copy()[::-1, ::-1],
        "gaps": padded[1:-2, ::2],
        "read-only": read_only,
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layouts_give_the_same_bits(data, dtype):
    X, Y = (array.astype(dtype) for array in data)
    expected = thresher.fit_path(X, Y, n_lambdas=20)

    for name, array in layouts(X).items():
        assert np.shares_memory(as_matrix(array, "X").values, array), name
        same_fit(thresher.fit_path(array, Y, n_lambdas=20), expected)
    for array in layouts(Y).values():
        same_fit(thresher.fit_path(X, array, n_lambdas=20), expected)


def test_memmap_opened_for_reading(data, tmp_path):
    X, Y = data
    np.save(tmp_path / "X.npy", np.asfortranarray(X))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")

    assert np.shares_memory(as_matrix(mapped, "X").values, mapped)
    same_fit(thresher.fit_path(mapped, Y), thresher.fit_path(X, Y))


def test_float32_stays_float32(data):
    X, Y = data
    # The default tolerance of float X is looser; one iteration cannot meet either.
    assert as_matrix(X.astype(np.float32), "X").values.dtype == np.float32
    result = thresher.fit_path(X.astype(np.float32), Y)
    assert result.converged.any()
    np.testing.assert_allclose(
        result.lambdas[:, 0, 0], thresher.fit_path(X, Y).lambdas[:, 0, 0], rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "float16", "longdouble", ">f8", "O"])
def test_other_types_are_converted(data, dtype):
    X, Y = data
    X = np.rint(X)
    if dtype == "uint64":
        X = X + 9
    if dtype == "bool":
        X = (X > 0).astype(float)
    same_fit(thresher.fit_path(X.astype(dtype), Y), thresher.fit_path(X, Y))


def test_foreign_byte_order_of_float32_stays_float32(data):
    X = data[0].astype(np.float32)
    swapped = as_matrix(X.astype(">f4"), "X").values
    assert swapped.dtype == np.float32
    np.testing.assert_array_equal(swapped, X)


def test_fields_of_a_record_have_odd_strides(data):
    X, Y = data
    records = np.zeros(X.shape, dtype=[("flag", "i1"), ("x", "f8")])
    records["x"] = X
    same_fit(thresher.fit_path(records["x"], Y), thresher.fit_path(X, Y))


def test_inputs_are_not_written_to(data):
    X, Y = data
    X0, Y0 = X.copy(), Y.copy()
    thresher.cross_validate(X, Y, standardize=True)
    np.testing.assert_array_equal(X, X0)
    np.testing.assert_array_equal(Y, Y0)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.float64(1.0), ValueError, r"X must have 2 dimensions, got shape \(\)"),
        (np.zeros(5), ValueError, r"X must have 2 dimensions, got shape \(5,\)"),
        (np.zeros((2, 2, 2)), ValueError, "X must have 2 dimensions"),
        (np.zeros((0, 4)), ValueError, r"X must not be empty, got shape \(0, 4\)"),
        (np.zeros((4, 0)), ValueError, r"X must not be empty, got shape \(4, 0\)"),
        (np.zeros((4, 2), dtype=complex), ValueError, "X must be real"),
        (np.full((4, 2), "a"), TypeError, "X must hold numbers"),
        (np.full((4, 2), "a", dtype=object), TypeError, "X must hold numbers"),
        (np.array(["2020-01-01"] * 2, dtype="M8[D]")[:, None], TypeError, "X must hold numbers"),
        (sparse.eye_array(4).tocsc(), TypeError, "X must be dense"),
        (np.zeros((5, 2)), ValueError, "Y must have as many rows as X, 5, got 4"),
        (np.array([[np.nan], [1], [2], [3]]), ValueError, "X"),
        (np.array([[np.inf], [1], [2], [3]]), ValueError, "X"),
    ],
)
def test_unusable_X_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        thresher.fit_path(X, np.arange(4.0))


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (np.float64(1.0), "Y must have 2 dimensions"),
        (np.zeros((0,)), "Y must not be empty"),
        (np.array([1.0, np.nan, 2.0, 3.0]), "Y must be finite"),
    ],
)
def test_unusable_Y_is_refused(Y, message):
    with pytest.raises(ValueError, match=message):
        thresher.fit_path(np.eye(4), Y)


def test_core_refuses_what_it_cannot_borrow(data):
    X, Y = data
    for bad in (X.astype(int), X.tolist(), X[0], X.astype(np.float16)):
        with pytest.raises(TypeError, match="X must be an array of float64 or float32"):
            _core.fit_path(bad, Y)


def test_pandas_and_polars_names(data):
    X, Y = data
    features = [f"g{j}" for j in range(X.shape[1])]
    expected = thresher.fit_path(X, Y)
    for table in (pd.DataFrame, pl.DataFrame):
        make = {"columns": features} if table is pd.DataFrame else {"schema": features}
        responses = {"columns" if table is pd.DataFrame else "schema": ["a", "b", "c"]}
        result = thresher.fit_path(table(X, **make), table(Y, **responses))
        same_fit(result, expected)
        assert result.feature_names == features
        assert result.response_names == ["a", "b", "c"]
    assert thresher.fit_path(X, pd.Series(Y[:, 0], name="y")).response_names == ["y"]
    assert thresher.fit_path(X, pl.Series("y", Y[:, 0])).response_names == ["y"]
    assert thresher.fit_path(pd.DataFrame(X), Y).feature_names is None


def test_pandas_frame_is_not_copied(data):
    X, _ = data
    frame = pd.DataFrame(X)
    assert np.shares_memory(as_matrix(frame, "X").values, frame.to_numpy())


def test_pandas_nullable_columns(data):
    X, Y = data
    missing = pd.DataFrame({"a": pd.array([1, None, 3, 4], dtype="Int64")})
    result = thresher.fit_path(X[:4], missing, missing_responses=True)
    expected = thresher.fit_path(X[[0, 2, 3]], np.array([1.0, 3.0, 4.0]))
    np.testing.assert_allclose(result.lambdas, expected.lambdas, rtol=1e-12)
    mixed = pd.DataFrame({"a": pd.array([1, 2, 3, 4], dtype="Int64"), "b": [0.5, 1.0, 0.0, 2.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert thresher.fit_path(mixed, Y[:4, 0]).feature_names == ["a", "b"]


def test_names_given_win_and_are_counted(data):
    X, Y = data
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    assert thresher.fit_path(X, frame, response_names="xyz").response_names == ["x", "y", "z"]
    with pytest.raises(ValueError, match="feature_names must have 200 names, got 2"):
        thresher.fit_path(X, Y, feature_names=["a", "b"])


class DlpackOnly:
    """An array of another library: DLPack and nothing else; `device` is what it claims."""

    def __init__(self, values, device=(1, 0)):
        self.values = values
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, dl_device=None, **keywords):
        if self.device[0] != 1 and dl_device != (1, 0):
            raise BufferError("this array lives on a device")
        return self.values.__dlpack__(**keywords)


class OnDevice(DlpackOnly):
    """Knows no dl_device, like older libraries; `cpu` copies to the host."""

    def __init__(self, values):
        super().__init__(values, device=(2, 0))

    def __dlpack__(self, *, stream=None):
        raise BufferError("this array lives on a device")

    def cpu(self):
        return self.values.copy()


def test_dlpack_on_the_host_is_not_copied(data):
    X, Y = data
    assert np.shares_memory(as_matrix(DlpackOnly(X), "X").values, X)
    same_fit(thresher.fit_path(DlpackOnly(X), DlpackOnly(Y)), thresher.fit_path(X, Y))


def test_dlpack_that_numpy_cannot_read_is_refused(data):
    class Refuses(DlpackOnly):
        def __dlpack__(self, **keywords):
            raise BufferError("a gradient is recorded")

    with pytest.raises(TypeError, match="Refuses cannot be read: a gradient is recorded"):
        thresher.fit_path(Refuses(data[0]), data[1])


@pytest.mark.parametrize("wrapped", [lambda X: DlpackOnly(X, (2, 0)), OnDevice])
def test_dlpack_on_a_device_is_copied_to_the_host(data, wrapped):
    X, Y = data
    same_fit(thresher.fit_path(wrapped(X), Y), thresher.fit_path(X, Y))

"""Result objects: choices, coefficients, tables, files."""

import pickle

import numpy as np
import pytest

import thresher


@pytest.fixture
def result(data):
    X, Y = data
    return thresher.cross_validate(
        X, Y, l1_ratio=[1.0, 0.5], n_lambdas=30, feature_names=[f"g{j}" for j in range(200)]
    )


def test_choices_follow_their_definitions(result):
    for r in range(3):
        error, se = result.cv_error[r], result.cv_se[r]
        a, k = result.best[r]
        assert error[a, k] == np.nanmin(error)
        within = np.flatnonzero(error[a] <= error[a, k] + se[a, k])
        assert tuple(result.one_se[r]) == (a, within[0])
        assert result.lambda_best[r] == result.lambdas[r, a, k]
        assert result.lambda_1se[r] == result.lambdas[r, a, within[0]]
        assert result.l1_ratio_best[r] == result.l1_ratio[a]


def test_coefficients_of_a_choice_and_of_a_path_agree(result):
    coef = result.coef("1se")
    assert coef.shape == (200, 3)
    for r in range(3):
        a, k = result.one_se[r]
        path = result.coef_path(r, a)
        assert path.shape == (200, result.lambdas.shape[2])
        np.testing.assert_array_equal(path[:, [k]].toarray(), coef[:, [r]].toarray())
        assert coef[:, [r]].nnz == result.n_nonzero[r, a, k]


def test_predict_is_X_b_plus_intercept(data, result):
    X, _ = data
    for choice in ("best", "1se", (1, 4), np.array([[0, 1], [1, 2], [0, 0]])):
        expected = X @ result.coef(choice).toarray() + result.at(result.intercept, choice)
        np.testing.assert_allclose(result.predict(X, choice), expected, atol=1e-12)
    np.testing.assert_array_equal(result.coef((0, -1)).toarray(), result.coef((0, 29)).toarray())


@pytest.mark.parametrize(
    "choice", ["worst", 0.5, (0, 999), (2, 0), (0, -999), np.zeros((2, 2), dtype=int)]
)
def test_unusable_choices_are_refused(result, choice):
    with pytest.raises(ValueError, match="choice must"):
        result.coef(choice)


def test_a_path_has_no_best(data):
    path = thresher.fit_path(*data)
    with pytest.raises(ValueError, match="choice must"):
        path.coef("best")
    with pytest.raises(IndexError, match="no path"):
        path.coef_path(3)


def test_fits_that_were_not_kept_are_refused(data):
    result = thresher.cross_validate(*data, keep_chosen=True)
    assert result.coef("best").nnz > 0
    with pytest.raises(ValueError, match="not computed or not kept"):
        result.coef(5)


def test_arrays_are_views_that_outlive_the_result(data):
    gap = thresher.fit_path(*data).gap
    copy = gap.copy()
    for _ in range(5):
        thresher.fit_path(*data, n_lambdas=50)
    np.testing.assert_array_equal(gap, copy)
    with pytest.raises(ValueError, match="read-only"):
        gap[0] = 0


def same(a, b):
    assert type(a) is type(b)
    for name in ("lambdas", "cv_error", "fold_error", "gap", "status", "best", "boundary"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.coef_all != b.coef_all).nnz == 0
    assert a.feature_names == b.feature_names
    assert a.response_names == b.response_names


def test_save_load_and_pickle(result, tmp_path):
    result.save(tmp_path / "model.safetensors")
    same(thresher.load(tmp_path / "model.safetensors"), result)
    copy = pickle.loads(pickle.dumps(result))
    same(copy, result)
    assert copy.stats == result.stats


def test_a_path_stays_a_path(data, tmp_path):
    thresher.fit_path(*data).save(str(tmp_path / "path"))
    loaded = thresher.load(tmp_path / "path")
    assert type(loaded) is thresher.PathResult
    assert not hasattr(loaded, "cv_error")


def test_files_that_are_no_models_are_refused(tmp_path, result):
    with pytest.raises(OSError, match="must be a readable file"):
        thresher.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("not a model at all, but long enough to have a header")
    with pytest.raises(ValueError, match="text"):
        thresher.load(tmp_path / "text")
    with pytest.raises(OSError, match="nowhere"):
        result.save(tmp_path / "nowhere" / "model")


def test_tables(result):
    fits = result.to_frame()
    assert len(fits) == result.lambdas.size
    row = fits[(fits["response"] == "y1") & (fits["l1_ratio"] == 0.5)].iloc[7]
    assert row["lambda"] == result.lambdas[1, 1, 7]
    assert row["cv_error"] == result.cv_error[1, 1, 7]
    summary = result.summary()
    assert list(summary["lambda_1se"]) == list(result.lambda_1se)
    assert list(summary["n_nonzero"]) == list(np.diff(result.coef().indptr))
    coef = result.coef_frame("1se")
    assert len(coef) == result.coef("1se").nnz
    first = coef.iloc[0]
    assert first["coefficient"] == result.coef("1se")[int(first["feature"][1:]), 0]

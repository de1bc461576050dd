"""The drop-in: what it solves, what it leaves alone, that it can be undone."""

import json
import logging
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from scipy import sparse
from sklearn import linear_model
from sklearn.base import clone
from sklearn.linear_model import Lasso, LassoCV, Ridge  # imported before patch()
from sklearn.model_selection import GridSearchCV

import thresher.accel


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 30))
    return X, X[:, 0] - X[:, 1] + rng.normal(size=50)


@pytest.fixture
def patched():
    thresher.accel.reset_counts()
    thresher.accel.patch()
    yield thresher.accel
    thresher.accel.unpatch()


def test_solves_here_and_keeps_classes_and_pickles(data, patched):
    X, y = data
    model = Lasso(alpha=0.1).fit(X, y)
    assert type(model) is linear_model.Lasso
    assert patched.counts() == {"Lasso": {"thresher": 1, "scikit-learn": {}}}
    assert model.dual_gap_ < 1e-14
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); print('thresher' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"


def test_gives_scikit_learns_answer(data, patched):
    X, y = data
    models = [
        linear_model.Lasso(alpha=0.05, tol=1e-12, max_iter=10**5),
        linear_model.ElasticNet(alpha=0.05, tol=1e-12, max_iter=10**5),
        linear_model.Ridge(alpha=3.0),
        linear_model.LassoCV(cv=3, alphas=10, tol=1e-12, max_iter=10**5),
        linear_model.ElasticNetCV(cv=3, alphas=10, tol=1e-12, max_iter=10**5),
        linear_model.RidgeCV(),
    ]
    here = [clone(model).fit(X, y) for model in models]
    paths = [linear_model.lasso_path(X, y, alphas=9), linear_model.enet_path(X, y, alphas=9)]
    assert all(entry["scikit-learn"] == {} for entry in patched.counts().values())
    assert len(patched.counts()) == 8
    patched.unpatch()
    for model, ours in zip(models, here, strict=True):
        theirs = clone(model).fit(X, y)
        assert set(vars(ours)) == set(vars(theirs))
        for name, want in vars(theirs).items():
            got = getattr(ours, name)
            assert type(got) is type(want), name
            if name not in ("dual_gap_", "n_iter_") and isinstance(want, (np.ndarray, np.floating)):
                np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    for path, name in zip(paths, ("lasso_path", "enet_path"), strict=True):
        theirs = getattr(linear_model, name)(X, y, alphas=9, tol=1e-10)
        np.testing.assert_allclose(path[0], theirs[0], rtol=1e-12)
        np.testing.assert_allclose(path[1], theirs[1], atol=1e-6)
    assert patched.counts()["Lasso"]["thresher"] == 1


def test_leaves_the_rest_to_scikit_learn_and_says_why(data, patched, caplog):
    X, y = data
    with caplog.at_level(logging.INFO, logger="thresher.accel"):
        linear_model.Lasso(alpha=0.1, positive=True).fit(X, y)
        linear_model.LassoCV(cv=3, alphas=5, positive=True).fit(X, y)  # fits Lasso inside: no call
        linear_model.Ridge(solver="saga").fit(X, y)
        linear_model.MultiTaskLasso(alpha=0.1).fit(X, np.c_[y, y])
        with pytest.raises(ValueError, match="For multi-task outputs"):
            linear_model.LassoCV().fit(X, np.c_[y, y])
        linear_model.lasso_path(X, y, positive=True, alphas=3)
        linear_model.Lasso(alpha=0.1).fit(X, y)
    coupled = "MultiTask: responses coupled by an L21 penalty"
    assert patched.counts() == {
        "Lasso": {"thresher": 1, "scikit-learn": {"positive=True": 1}},
        "LassoCV": {
            "thresher": 0,
            "scikit-learn": {
                "positive=True": 1,
                "several responses, which scikit-learn refuses": 1,
            },
        },
        "MultiTaskLasso": {"thresher": 0, "scikit-learn": {coupled: 1}},
        "Ridge": {"thresher": 0, "scikit-learn": {"solver='saga'": 1}},
        "lasso_path": {"thresher": 0, "scikit-learn": {"positive=True": 1}},
    }
    assert "LassoCV: left to scikit-learn (positive=True)" in caplog.messages
    assert len(caplog.messages) == 6
    assert "7 calls, 6 left to scikit-learn: 85.7%" in patched.summary()


def test_sparse_is_solved_here_up_to_a_size(data, patched, monkeypatch):
    X, y = data
    Lasso(alpha=0.1).fit(sparse.csr_array(X), y)
    monkeypatch.setattr(patched, "DENSE_LIMIT_BYTES", X.nbytes - 1)
    Lasso(alpha=0.1).fit(sparse.csr_array(X), y)
    reasons = patched.counts()["Lasso"]["scikit-learn"]
    assert reasons == {"sparse X too large to be made dense": 1}


def test_own_inner_estimator_is_respected(data, patched):
    class Mine(LassoCV):
        def _get_estimator(self):
            return type("MyLasso", (Lasso,), {})()

    X, y = data
    Mine(cv=3, alphas=4).fit(X, y)
    assert patched.counts()["LassoCV"]["scikit-learn"] == {"an estimator of its own": 1}


def test_works_inside_others_and_in_threads(data, patched):
    X, y = data
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(X, y)
    assert patched.counts()["Ridge"]["thresher"] == 5
    assert search.best_estimator_.coef_.shape == (30,)
    threads = [
        threading.Thread(target=lambda: [Lasso(alpha=0.1).fit(X, y) for _ in range(20)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert patched.counts()["Lasso"]["thresher"] == 160


def test_unpatch_gives_everything_back():
    before = (Lasso.fit, Ridge.fit, linear_model.ElasticNetCV.fit, linear_model.enet_path)
    thresher.accel.patch()
    thresher.accel.patch()
    assert Lasso.fit is not before[0]
    thresher.accel.unpatch()
    thresher.accel.unpatch()
    after = (Lasso.fit, Ridge.fit, linear_model.ElasticNetCV.fit, linear_model.enet_path)
    assert after == before


def test_runs_a_script(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("")
    script.write_text(
        "import beside, json, sys, thresher.accel\n"
        "from sklearn.linear_model import Lasso\n"
        "Lasso(alpha=0.1).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])\n"
        "print(json.dumps([sys.argv, __name__, thresher.accel.counts()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "thresher.accel", "-v", script, "--flag", "7"],
        capture_output=True,
        text=True,
        check=True,
    )
    counts = {"Lasso": {"thresher": 1, "scikit-learn": {}}}
    assert json.loads(done.stdout) == [[str(script), "--flag", "7"], "__main__", counts]
    assert "1 calls, 0 left to scikit-learn: 0.0%" in done.stderr

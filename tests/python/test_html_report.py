"""The page holds what the result says, within its size, and nothing that a name could start."""

import base64
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import thresher
from thresher.html_report import page_data

EVIL = '</script><script>document.title = "taken"</script>'


class Tags(html.parser.HTMLParser):
    """Tags of a page and the text inside <script type="application/json">."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self._inside = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = dict(attributes).get("id") == "data"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, text):
        if self._inside:
            self.data += text


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 200))
    Y = 2 * X[:, :3] + rng.standard_normal((60, 3))
    names = [f"gene & {j}" for j in range(200)]
    names[1] = EVIL
    return thresher.cross_validate(
        X, Y, l1_ratio=[0.5, 1.0], feature_names=names, response_names=["a", "b<i>", EVIL]
    ), Y


def numbers(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def test_names_cannot_leave_the_data(result, tmp_path):
    file = tmp_path / "page.html"
    result[0].report(file, title="<b>title</b>")
    text = file.read_text()
    page = Tags(text)
    data = json.loads(page.data)
    assert EVIL in data["features"]
    assert data["responses"] == ["a", "b<i>", EVIL]
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "b" not in [tag for tag, _ in page.tags]
    assert "&lt;b&gt;title" in text


def test_nothing_is_fetched(result, tmp_path):
    file = tmp_path / "page.html"
    result[0].report(file)
    text = file.read_text()
    sources = [a for _, attributes in Tags(text).tags for a in attributes if a in ("src", "href")]
    assert sources == []
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_numbers_are_those_of_the_result(result):
    cv, Y = result
    data = page_data(cv, 16_000_000)
    columns = {key: numbers(text, "<f8") for key, text in data["columns"].items()}
    np.testing.assert_array_equal(columns["lambda_best"], cv.lambda_best)
    np.testing.assert_array_equal(columns["cv_error"], cv.at(cv.cv_error, "best"))
    np.testing.assert_allclose(columns["r2"], 1 - columns["cv_error"] / Y.var(axis=0), rtol=1e-12)
    assert columns["gap"].max() == np.nanmax(cv.gap)
    points = numbers(data["points"], "<u4")
    curves = numbers(data["curves"], "<f4")
    ratio = cv.best[1, 0]
    known = np.isfinite(cv.gap[1, ratio])
    second = curves[6 * points[0] :][: 6 * points[1]].reshape(6, points[1])
    np.testing.assert_allclose(second[0], cv.lambdas[1, ratio][known], rtol=1e-7)
    np.testing.assert_allclose(second[3], cv.cv_error[1, ratio][known], rtol=1e-7)
    # The first chosen feature of each response has the largest coefficient.
    chosen = numbers(data["chosen_features"], "<u4")
    values = numbers(data["chosen_values"], "<f4").reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(numbers(data["chosen_counts"], "<u4"))[:-1]]).astype(
        int
    )
    names = [data["features"][chosen[start]] for start in starts]
    assert names == ["gene & 0", EVIL, "gene & 2"]
    np.testing.assert_allclose(
        values[starts, 0], cv.coef("best").toarray()[range(3), range(3)], rtol=1e-7
    )
    # So has the first path, which passes through that coefficient.
    paths = numbers(data["path_values"], "<f4")[: points[0]]
    best = int(np.flatnonzero(np.isclose(curves[: points[0]], cv.lambda_best[0], rtol=1e-6))[0])
    assert paths[best] == pytest.approx(cv.coef("best")[0, 0], rel=1e-6)


def test_many_responses_stay_within_the_size(tmp_path):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((40, 60))
    Y = X @ rng.standard_normal((60, 400)) + rng.standard_normal((40, 400))
    cv = thresher.cross_validate(X, Y, folds=3)
    sizes, kept = [], []
    for limit in (10_000_000, 2_000_000, 1_000_000):
        cv.report(tmp_path / "page.html", max_bytes=limit)
        sizes.append((tmp_path / "page.html").stat().st_size)
        data = page_data(cv, limit)
        points = numbers(data["points"], "<u4")
        kept.append(points.max())
        assert sizes[-1] <= limit
        curves = numbers(data["curves"], "<f4")
        first = curves[: points[0]]
        for wanted in (cv.lambda_best[0], cv.lambda_1se[0]):
            assert np.isclose(first, wanted, rtol=1e-6).sum() == 1
    assert sizes[0] > sizes[1] > sizes[2]
    assert kept[0] == np.isfinite(cv.gap).sum(axis=2).max()
    assert f"at most {kept[2]} lambdas" in page_data(cv, 1_000_000)["footer"]


def test_other_results(tmp_path):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((30, 8)), rng.standard_normal(30)
    for name, made in {
        "path": thresher.fit_path(X, y),
        "chosen": thresher.cross_validate(X, y, keep_chosen=True),
        "zero": thresher.cross_validate(X, np.zeros(30), lambda_grid=[1.0, 0.5]),
        "one": thresher.fit_path(X, y, lambda_grid=[0.1]),
        "ridge": thresher.cross_validate(X, y, folds="loo"),
        "gcv": thresher.cross_validate(X, y, folds="gcv"),
        "hurried": thresher.fit_path(X, y, max_iterations=1, lambda_min_ratio=1e-4),
        "zero lambda": thresher.fit_path(X, y, lambda_grid=[0.0]),
    }.items():
        made.report(tmp_path / name)
        made.save(tmp_path / "model")
        thresher.load(tmp_path / "model").report(tmp_path / name)
        data = json.loads(Tags((tmp_path / name).read_text()).data)
        assert data["has_cv"] == hasattr(made, "cv_error")


def test_a_stopped_run_shows_what_it_has(tmp_path):
    X = np.random.default_rng(4).standard_normal((60, 40))
    Y = X @ np.random.default_rng(5).standard_normal((40, 50))
    for limit in (1e-9, 0.05):
        stopped = thresher.cross_validate(X, Y, time_limit=limit, threads=1)
        stopped.report(tmp_path / "page.html")
        data = json.loads(Tags((tmp_path / "page.html").read_text()).data)
        gap, bad, features = (
            numbers(data["columns"][key], "<f8") for key in ("gap", "bad", "features")
        )
        absent = ~np.isfinite(stopped.gap).any(axis=(1, 2))
        for column in (gap, bad, features):
            np.testing.assert_array_equal(np.isnan(column), absent)
        texts = " ".join(note["text"] for note in data["notes"])
        assert (f"{absent.sum()} responses have no fit" in texts) == stopped.interrupted
        assert not any("nan" in tile["value"] for tile in data["tiles"])
        if limit < 1e-6:
            assert absent.all()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_page_in_a_browser(result, tmp_path):
    file = tmp_path / "page.html"
    X, y = np.eye(9), np.arange(9.0)
    stopped = thresher.cross_validate(X, y, folds=3, time_limit=1e-9)
    for made, charts in ((result[0], 4), (thresher.fit_path(X, y), 3), (stopped, 0)):
        made.report(file, title="a page")
        # The error of a script would end up in the title.
        text = file.read_text().replace(
            '"use strict";', '"use strict"; onerror = e => { document.title = String(e); };'
        )
        file.write_text(text)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        done = subprocess.run(
            [*command, f"--user-data-dir={tmp_path}/browser", file.as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        page = Tags(done.stdout)
        assert "<title>a page</title>" in done.stdout
        classes = [attributes.get("class") for _, attributes in page.tags]
        assert classes.count("chart") == charts
        assert [a.get("aria-selected") for t, a in page.tags if t == "tr"].count("true") == 1
        assert "NaN" not in re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)

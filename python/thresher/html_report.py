"""One page in HTML with tables and charts of a result; everything is inside, nothing is fetched."""

from __future__ import annotations

import base64
import html
import json
import os
import pathlib
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from . import _core
from .plots import null_variance
from .results import CvResult, PathResult

#: Most features of the chosen ones, and of coefficient paths, that a page keeps of one response.
MOST_CHOSEN, MOST_PATHS = 25, 20
FEWEST_POINTS, FEWEST_PATHS = 24, 4


class Extent(NamedTuple):
    """How much of each response goes into the page."""

    points: int
    paths: int
    chosen: int


def write_report(
    result: PathResult,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    max_bytes: int = 20_000_000,
) -> None:
    """Write the page; see `PathResult.report`."""
    title = title or "Thresher report"
    content = json.dumps(page_data(result, max_bytes), separators=(",", ":"), allow_nan=False)
    # Inside <script> nothing may look like a tag, whatever a feature is called.
    for sign in "<>&":
        content = content.replace(sign, f"\\u{ord(sign):04x}")
    template = resources.files("thresher").joinpath("report_page.html").read_text("utf-8")
    head, middle, tail = _split(template)
    pathlib.Path(path).write_text(
        head.replace("{{title}}", html.escape(title))
        + middle.replace("{{title}}", html.escape(title))
        + content
        + tail,
        encoding="utf-8",
    )


def _split(template: str) -> tuple[str, str, str]:
    before, tail = template.split("{{data}}")
    head, middle = before.split("</head>")
    return head + "</head>", middle, tail


def page_data(result: PathResult, max_bytes: int) -> dict[str, Any]:
    """What the page shows, as JSON: numbers as base64 of little-endian arrays."""
    n_responses = result.n_responses
    cv = result if isinstance(result, CvResult) else None
    ratio = np.zeros(n_responses, dtype=np.int64) if cv is None else cv.best[:, 0]
    rows = np.arange(n_responses)
    lambdas, gaps = result.lambdas[rows, ratio], result.gap[rows, ratio]
    computed = np.isfinite(gaps) & (lambdas > 0)
    if cv is not None:
        computed = computed & np.isfinite(cv.cv_error[rows, ratio])
    extent = _extent(result, int(computed.sum(axis=1).max(initial=1)), max_bytes)

    curves, path_values, path_features, chosen_features, chosen_values = [], [], [], [], []
    points = np.zeros(n_responses, dtype=np.uint32)
    path_counts, chosen_counts = points.copy(), points.copy()
    used, union = np.zeros(n_responses), np.zeros(n_responses)
    last = np.zeros((n_responses, 2), dtype=np.int64)
    for r in range(n_responses):
        a, all_shown = ratio[r], np.flatnonzero(computed[r])
        if len(all_shown) == 0:
            continue
        last[r] = a, all_shown[-1]
        best, one_se = (last[r],) * 2 if cv is None else (cv.best[r], cv.one_se[r])
        shown = _thinned(all_shown, extent.points, keep=(best[1], one_se[1]))
        points[r] = len(shown)
        kinds = [lambdas[r], result.n_nonzero[r, a], gaps[r]]
        if cv is not None:
            kinds += [cv.cv_error[r, a], cv.cv_se[r, a], cv.train_error[r, a]]
        curves += [values[shown] for values in kinds]

        coef = result.coef_path(r, a)
        kept = result._model.coef_kept[r, a] != 0
        at_choices = sparse.csc_array(coef[:, [best[1], one_se[1]]])
        features = np.unique(at_choices.indices)
        union[r] = len(features)
        values = at_choices[features].toarray()
        order = np.lexsort((-abs(values[:, 1]), -abs(values[:, 0])))[: extent.chosen]
        chosen_features.append(features[order])
        chosen_values.append(values[order].ravel())
        chosen_counts[r] = len(order)

        if extent.paths and kept[shown].all():
            seen = coef[:, shown]
            largest = np.zeros(result.n_features)
            np.maximum.at(largest, seen.indices, abs(seen.data))
            at_best = abs(coef[:, [best[1]]].toarray().ravel())
            used[r] = np.count_nonzero(largest)
            order = np.lexsort((-largest, -at_best))[: extent.paths]
            order = order[largest[order] > 0]
            path_features.append(order)
            path_values.append(seen.tocsr()[order].toarray().ravel())
            path_counts[r] = len(order)

    names, responses = result._names()
    shown_features = np.unique(np.concatenate([*path_features, *chosen_features, [0]])).astype(int)
    columns = _columns(result, cv, last, used, union)
    return {
        **_summary(result, cv, columns, extent, responses),
        "has_cv": cv is not None,
        "n_responses": n_responses,
        "n_l1_ratios": len(result.l1_ratio),
        "tol": _tolerance(result),
        "responses": responses,
        "features": [names[j] for j in shown_features],
        "columns": {key: _packed(values, "<f8") for key, values in columns.items()},
        "curves": _packed(curves, "<f4"),
        "points": _packed(points, "<u4"),
        "path_counts": _packed(path_counts, "<u4"),
        "path_features": _packed(_places(path_features, shown_features), "<u4"),
        "path_values": _packed(path_values, "<f4"),
        "chosen_counts": _packed(chosen_counts, "<u4"),
        "chosen_features": _packed(_places(chosen_features, shown_features), "<u4"),
        "chosen_values": _packed(chosen_values, "<f4"),
    }


def _extent(result: PathResult, n_points: int, max_bytes: int) -> Extent:
    """The most of each response that keeps the page within `max_bytes`.

    First paths are left out, then points of curves, then the rest of the paths; what is left
    (24 points, 5 chosen features, no paths) is the least, about 2 kB for a response.
    """
    kinds = 6 if isinstance(result, CvResult) else 3
    base64_size = 4 / 3
    fixed = 60_000 + 16 * min(result.n_features, 45 * result.n_responses)

    def size(extent: Extent) -> float:
        numbers = 4 * (extent.points * (kinds + extent.paths) + extent.paths + 3 * extent.chosen)
        return fixed + result.n_responses * (base64_size * (numbers + 150) + 16)

    fewest = min(n_points, FEWEST_POINTS)
    for points, paths, chosen in (
        (n_points, MOST_PATHS, MOST_CHOSEN),
        (n_points, MOST_PATHS // 2, MOST_CHOSEN),
        (min(n_points, 50), MOST_PATHS // 2, MOST_CHOSEN),
        (min(n_points, 50), FEWEST_PATHS, 10),
        (fewest, FEWEST_PATHS, 10),
    ):
        extent = Extent(points, paths, chosen)
        if size(extent) <= max_bytes:
            return extent
    return Extent(fewest, 0, 5)


def _thinned(shown: np.ndarray, count: int, keep: tuple[int, ...]) -> np.ndarray:
    """At most `count` of the ascending positions, evenly, and those to keep."""
    if len(shown) <= count:
        return shown
    even = shown[np.linspace(0, len(shown) - 1, max(count - len(keep), 2)).round().astype(int)]
    return np.union1d(even, np.intersect1d(shown, keep))


def _columns(
    result: PathResult,
    cv: CvResult | None,
    last: np.ndarray,
    used: np.ndarray,
    union: np.ndarray,
) -> dict[str, np.ndarray]:
    rows = np.arange(result.n_responses)
    computed = np.isfinite(result.gap).reshape(result.n_responses, -1)
    # Of a stopped run some responses have nothing to tell.
    known = computed.any(axis=1)
    bad = (computed & ~result.converged.reshape(computed.shape)).sum(axis=1)
    worst = np.where(computed, result.gap.reshape(computed.shape), -np.inf).max(axis=1)
    columns = {
        "gap": np.where(known, worst, np.nan),
        "bad": np.where(known, bad, np.nan),
        "used": used,
        "union": union,
    }
    if cv is None:
        at = (rows, last[:, 0], last[:, 1])
        features = np.where(known, result.n_nonzero[at], np.nan)
        return {**columns, "features": features, "deviance": result.deviance[at]}
    variance = null_variance(result)
    error = cv.at(cv.cv_error, "best")
    varies = variance > 0
    return {
        **columns,
        "l1_ratio": cv.l1_ratio_best,
        "lambda_best": cv.lambda_best,
        "lambda_1se": cv.lambda_1se,
        "features": np.where(known, cv.at(cv.n_nonzero, "best"), np.nan),
        "features_1se": np.where(known, cv.at(cv.n_nonzero, "1se"), np.nan),
        "cv_error": error,
        "cv_se": cv.at(cv.cv_se, "best"),
        "train_error": cv.at(cv.train_error, "best"),
        "variance": variance,
        "r2": np.where(varies, 1 - error / np.where(varies, variance, 1.0), np.nan),
        "boundary": cv.boundary,
    }


def _summary(
    result: PathResult,
    cv: CvResult | None,
    columns: dict[str, np.ndarray],
    extent: Extent,
    responses: list[str],
) -> dict[str, Any]:
    """The texts of the page's head and foot."""
    stats, meta = result.stats, result.metadata
    lead = (
        f"{result.n_samples:,} samples, {result.n_features:,} features, "
        f"{_counted(result.n_responses, 'response')}"
    )
    n_fits = stats.get("n_fits", int((result.status != "not computed").sum()))
    lead += f"; {n_fits:,} fits"
    if cv is not None and cv.n_folds:
        lead += f", {cv.n_folds} folds included"
    if "solve_seconds" in stats:
        lead += f", in {stats['solve_seconds']:.3g} s on {_counted(stats['threads'], 'thread')}"
    open_fits = int(stats.get("n_not_converged", np.nansum(columns["bad"])))
    worst = stats.get(
        "worst_gap", np.max(columns["gap"], initial=0.0, where=np.isfinite(columns["gap"]))
    )
    tol = _tolerance(result)
    tiles = [
        _tile("good" if open_fits == 0 else "", f"{worst:.2g}", "worst relative gap of all fits"),
        _tile("", "–" if tol is None else f"{tol:.2g}", "tolerance"),
        _tile("bad" if open_fits else "good", f"{open_fits:,}", "fits that did not converge"),
    ]
    notes = []
    if cv is not None:
        known = columns["r2"][np.isfinite(columns["r2"])]
        r2 = f"{np.median(known):.3g}" if len(known) else "–"
        tiles.append(_tile("", r2, "median R² of held-out rows" if len(known) != 1 else "R²"))
        counts = columns["features"][np.isfinite(columns["features"])]
        features = f"{np.median(counts):.3g}" if len(counts) else "–"
        tiles.append(_tile("", features, "features at best, median"))
        many = len(responses)
        for where, text in (
            (
                columns["train_error"] < 0.5 * columns["cv_error"],
                "the training error is below half of the validation error: part of the fit is to "
                "noise",
            ),
            (columns["boundary"] > 0, "the best lambda is the end of its grid: go further down"),
            (columns["features"] == 0, "no feature beats the mean"),
        ):
            if where.any():
                notes.append(_note("", f"{int(where.sum()):,} of {many:,}: {text}."))
    if result.interrupted:
        left = int(np.isnan(columns["gap"]).sum())
        notes.append(_note("", f"The run was stopped; {left:,} responses have no fit."))
    if stats.get("device_note"):
        notes.append(_note("plain", f"Device {stats['device']}: {stats['device_note']}."))
    footer = f"Written by thresher {_core.__version__}. Kept of each response: "
    footer += f"at most {extent.points} lambdas and {extent.chosen} chosen features"
    footer += f", paths of at most {extent.paths} features." if extent.paths else ", no paths."
    if len(result.l1_ratio) > 1:
        which = "the best" if cv is not None else "the first"
        footer += f" Curves and paths are those of {which} l1_ratio."
    footer += " Curves are in single precision; save() keeps everything."
    return {
        "lead": lead + ".",
        "tiles": tiles,
        "notes": notes,
        "settings": sorted(meta.items()),
        "footer": footer,
    }


def _tolerance(result: PathResult) -> float | None:
    text = result.metadata.get("tol", "")
    return float(text) if text else None


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _tile(mood: str, value: str, label: str) -> dict[str, str]:
    return {"mood": mood, "value": value, "label": label}


def _note(mood: str, text: str) -> dict[str, str]:
    return {"mood": mood, "text": text}


def _places(lists: list[np.ndarray], shown_features: np.ndarray) -> list[np.ndarray]:
    return [np.searchsorted(shown_features, indices) for indices in lists]


def _packed(values: Any, dtype: str) -> str:
    if isinstance(values, list):
        values = np.concatenate([np.asarray(v, dtype=dtype) for v in values] or [np.array([])])
    return base64.b64encode(np.asarray(values, dtype=dtype).tobytes()).decode("ascii")

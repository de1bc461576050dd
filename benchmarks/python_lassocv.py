"""thresher.LassoCV against scikit-learn's on 500 x 20,000, cv=10, n_jobs=2.

Each round times, one after the other, our fit of one response, scikit-learn's fit of the same and
our fit of all 20 responses in one call. scikit-learn takes one response at a time, so its time for
20 is 20 times the median over the responses it was given, which are named in the record. Every
other setting is scikit-learn's default on both sides (100 alphas, eps 1e-3, tol 1e-4).

Writes benchmarks/results/python/lassocv-<date>.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn.linear_model
import sklearn.model_selection
from sklearn.exceptions import ConvergenceWarning
from provenance import ROOT, cpu_model, now
from sklearn_suite import commit

import thresher

SEED = 0
N_USED = 20


def simulated(n, p, n_responses):
    """X (n, p) in Fortran order, Y (n, R): 20 of the features for each response, half noise."""
    rng = np.random.default_rng(SEED)
    X = np.asfortranarray(rng.normal(size=(n, p)))
    signal = np.empty((n, n_responses))
    for r in range(n_responses):
        signal[:, r] = X[:, rng.choice(p, N_USED, replace=False)] @ rng.normal(size=N_USED)
    return X, signal + rng.normal(size=signal.shape) * signal.std(axis=0)


def timed(estimator, X, y):
    """The fitted estimator and {"wall", "processor"} seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y)
    return estimator, {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
    }


def relative_gap(model, y):
    """The largest dual_gap_ as a share of the objective without features."""
    null = 0.5 * np.var(y, axis=0)
    return float(np.max(model.dual_gap_ / null))


def worst_fold_gap(X, Y, cv):
    """Largest gap of all our fits, folds included, from the library's own record."""
    fold = np.empty(len(X), dtype=np.int64)
    for k, (_, test) in enumerate(cv.split(X)):
        fold[test] = k
    model = thresher._core.cross_validate(
        X, Y, fold_id=fold, lambda_min_ratio=1e-3, tol=1e-10, threads=2, keep_chosen=True
    )
    return model.stats["worst_gap"], model.stats["n_not_converged"]


def ratios(theirs, ours, factor=1):
    """Median ratio of each clock, and its range over the rounds."""
    out = {}
    for clock in ("wall", "processor"):
        each = [factor * t[clock] / o[clock] for t, o in zip(theirs, ours, strict=True)]
        out[clock] = {
            "median": statistics.median(each),
            "least": min(each),
            "most": max(each),
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=(500, 20_000))
    parser.add_argument("--responses", type=int, default=20)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/python/")
    given = parser.parse_args()
    X, Y = simulated(*given.shape, given.responses)
    same = {"cv": 10, "n_jobs": 2}
    one, theirs, many, gaps, choices = [], [], [], [], []
    loads = []
    for r in range(given.rounds):
        loads.append(os.getloadavg()[0])
        ours, seconds = timed(thresher.LassoCV(**same), X, Y[:, r])
        one.append(seconds)
        plain, seconds = timed(sklearn.linear_model.LassoCV(**same), X, Y[:, r])
        theirs.append(seconds)
        together, seconds = timed(thresher.LassoCV(**same), X, Y)
        many.append(seconds)
        gaps.append(
            {
                "ours": relative_gap(ours, Y[:, r]),
                "theirs": relative_gap(plain, Y[:, r]),
                "ours_all_responses": relative_gap(together, Y),
            }
        )
        choices.append({"ours": float(ours.alpha_), "theirs": float(plain.alpha_)})
        print(f"round {r}: {one[-1]} {theirs[-1]} {many[-1]} {gaps[-1]} {choices[-1]}", flush=True)
    cv = sklearn.model_selection.KFold(10)
    worst, not_converged = worst_fold_gap(X, Y[:, :1], cv)
    record = {
        "date": now(),
        "commit": commit(),
        "machine": {
            "processor": cpu_model(),
            "processors": len(os.sched_getaffinity(0)),
            "load_before_each_round": loads,
        },
        "versions": {
            "thresher": thresher.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "problem": {
            "shape": list(given.shape),
            "responses": given.responses,
            "seed": SEED,
            "cv": 10,
            "n_jobs": 2,
            "responses_given_to_scikit_learn": list(range(given.rounds)),
        },
        "seconds": {
            "thresher_one": one,
            "scikit_learn_one": theirs,
            f"thresher_{given.responses}": many,
        },
        "relative_gap_of_the_final_fit": gaps,
        "worst_relative_gap_of_ours_folds_included": worst,
        "not_converged_of_ours": not_converged,
        "alpha": choices,
        "factor_one": ratios(theirs, one),
        f"factor_{given.responses}": ratios(theirs, many, given.responses),
    }
    if given.output is None:
        folder = ROOT / "benchmarks" / "results" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        given.output = folder / f"lassocv-{record['date'][:10]}.json"
    given.output.write_text(json.dumps(record, indent=1) + "\n")
    print(given.output)
    for name in ("factor_one", f"factor_{given.responses}"):
        print(name, json.dumps(record[name]))


if __name__ == "__main__":
    sys.exit(main())

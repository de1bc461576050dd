#!/usr/bin/env python3
"""Draws the pictures of docs/python from the data sets in tests/data.

make_images.py [FOLDER]    the default is docs/python/images

The pictures of the report need chromium and are left out, with a word, where it is missing.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import matplotlib
import numpy as np

import thresher
from thresher import plots

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read(name):
    folder = ROOT / "tests" / "data" / name
    names = (folder / "names.txt").read_text().splitlines()
    return np.load(folder / "X.npy"), np.load(folder / "Y.npy"), names


def draw(folder):
    matplotlib.use("agg")
    # Equal input, equal bytes: a new run shows up in git only where a picture changed.
    matplotlib.rcParams.update({"svg.hashsalt": "thresher", "savefig.dpi": 200})
    X, Y, names = read("golub")
    responses = ["ALL / AML", *(f"gene {r}" for r in range(1, Y.shape[1]))]
    golub = thresher.cross_validate(
        X, Y, feature_names=names, response_names=responses, predictions=True
    )
    X_diabetes, y, names = read("diabetes")
    X_diabetes = (X_diabetes - X_diabetes.mean(axis=0)) / X_diabetes.std(axis=0)
    diabetes = thresher.cross_validate(
        X_diabetes,
        y,
        feature_names=names,
        response_names=["progression"],
        predictions=True,
    )
    X_speech, y_speech, names = read("pd_speech")
    speech = thresher.cross_validate(
        X_speech,
        y_speech,
        feature_names=names,
        response_names=["Parkinson"],
        standardize=True,
        lambda_min_ratio=3e-3,
    )
    pictures = {
        "coef_path": plots.CoefPathDisplay.from_result(diabetes),
        "cv_curve": plots.CvCurveDisplay.from_result(golub, response="gene 3"),
        "feature_count": plots.FeatureCountDisplay.from_result(golub, response="gene 2"),
        "train_validation": plots.TrainValidationDisplay.from_result(speech),
        "residuals": plots.ResidualDisplay.from_result(diabetes, X_diabetes, y),
        "convergence": plots.ConvergenceDisplay.from_result(golub),
    }
    for name, display in pictures.items():
        # Clouds of points are smaller as pixels.
        kind = "png" if name in ("residuals", "convergence") else "svg"
        file = folder / f"{name}.{kind}"
        display.figure_.savefig(
            file, metadata={"Date": None} if kind == "svg" else {"Software": None}
        )
        print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
    return golub


def photograph(result, folder):
    """The report as a browser shows it, light and dark."""
    if shutil.which("chromium") is None:
        print("no chromium: the pictures of the report are left out")
        return
    with tempfile.TemporaryDirectory() as scratch:
        page = pathlib.Path(scratch) / "report.html"
        result.report(page, title="Leukaemia: nine responses")
        for name, scheme in (("report", "1"), ("report_dark", "0")):
            subprocess.run(
                [
                    *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
                    f"--user-data-dir={scratch}/browser",
                    "--hide-scrollbars",
                    "--window-size=1400,1320",
                    "--virtual-time-budget=3000",
                    f"--blink-settings=preferredColorScheme={scheme}",
                    f"--screenshot={folder / name}.png",
                    page.as_uri() + "#4",
                ],
                capture_output=True,
                check=True,
            )
            file = folder / f"{name}.png"
            print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/python/images")
    folder.mkdir(parents=True, exist_ok=True)
    photograph(draw(folder), folder)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""check_with_safetensors.py WRITE_SAMPLE_MODEL: reads what that program writes with the `safetensors`
package and compares shapes, types and a few values. Exits with 77 (skipped) without the package."""

import json
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file
except ImportError as error:
    print(f"skipped: {error}; `pip install safetensors numpy` in a virtual environment runs this")
    sys.exit(77)

failures = []


def check(what, ok):
    print("ok  " if ok else "FAIL", what)
    if not ok:
        failures.append(what)


def check_table(tensors, r, a, l, k):
    fits = (r, a, l)
    table = {name: ("float64", fits) for name in "lambda intercept objective gap deviance".split()}
    table |= {name: ("uint8", fits) for name in "status engine mode rank_deficient coef.kept".split()}
    table |= {name: ("int64", fits) for name in ("n_nonzero", "iterations")}
    table |= {"l1_ratio": ("float64", (a,)), "coef.indptr": ("int64", (r * a * l + 1,))}
    n_values = tensors["coef.values"].shape[0]
    table |= {"coef.values": ("float64", (n_values,)), "coef.indices": ("int64", (n_values,))}
    if k:
        table |= {f"cv.{name}": ("float64", fits) for name in ("error", "se", "train_error")}
        table |= {"cv.fold_error": ("float64", fits + (k,)), "cv.predictions": ("float64", (r, 7))}
        table |= {"cv.best": ("int64", (r, 2)), "cv.one_se": ("int64", (r, 2))}
        table |= {"cv.boundary": ("uint8", (r,))}
    check("the table's tensors and no other", set(tensors) == set(table))
    for name, (dtype, shape) in table.items():
        got = tensors[name]
        check(f"{name}: {dtype} {shape}", got.dtype == dtype and got.shape == shape)


def metadata(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata()


with tempfile.TemporaryDirectory() as folder:
    lines = subprocess.run([sys.argv[1], folder], check=True, capture_output=True, text=True).stdout
    want = dict(line.split() for line in lines.splitlines())

    path = f"{folder}/path.safetensors"
    check_table(load_file(path), 4, 2, 3, 0)
    check("no names unless given", "feature_names" not in metadata(path))

    path = f"{folder}/cv.safetensors"
    cv = load_file(path)
    check_table(cv, 4, 2, 5, 3)
    check("lambda", cv["lambda"][1, 1, 4] == float(want["lambda_1_1_4"]))
    indptr = cv["coef.indptr"]
    begin, end = indptr[10], indptr[20]
    total = 0.0
    for j, value in zip(cv["coef.indices"][begin:end], cv["coef.values"][begin:end]):
        total += (j + 1) * value
    check("coefficients of response 1", total == float(want["coef_sum_1"]))
    check("their number", end - begin == int(want["coef_count_1"]))
    check("the last offset is their total number", indptr[-1] == cv["coef.values"].shape[0])
    check("fold error", cv["cv.fold_error"][1, 1, 4, 2] == float(want["fold_error_1_1_4_2"]))
    check("best", cv["cv.best"][1, 1] == int(want["best_1_l"]))
    check("prediction", cv["cv.predictions"][1, 6] == float(want["prediction_1_6"]))
    check("a response never taken is not computed", (cv["status"][2] == 6).all())
    check("and holds NaN", all(np.isnan(cv[t][2]).all() for t in ("lambda", "cv.error", "cv.predictions")))
    check("a shorter grid ends in not computed", (cv["status"][0, :, 3:] == 6).all())
    texts = metadata(path)
    check("metadata", texts["format"] == "thresher model" and texts["format_version"] == "1")
    check("sizes", texts["n_samples"] == "7" and texts["n_features"] == "9")
    check("names", json.loads(texts["feature_names"])[4] == "é" and json.loads(texts["response_names"])[3] == "z")
    check("options", json.loads(texts["options"]) == {"tol": 1e-7})

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)

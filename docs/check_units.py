#!/usr/bin/env python3
"""Checks the converters of docs/units.md against the programs they name.

usage: check_units.py COMMAND      (COMMAND: path of `thresher`, as ./run build prints it)

Needs numpy; scikit-learn, himalaya and Rscript with glmnet are each skipped where missing. Prints,
for every converter, the largest difference of coefficients relative to the largest coefficient.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

folder = pathlib.Path(tempfile.mkdtemp())
rng = np.random.default_rng(1)
n, p = 60, 8
X = rng.standard_normal((n, p)) * np.linspace(0.5, 3, p) + 2.0
y = X @ np.array([3.0, -2, 0, 0, 1, 0, 0, 0.5]) + 4 * rng.standard_normal(n) + 7
w = rng.uniform(0.5, 2, n)
sd_y = float(y.std())
failed = False


def thresher(lam, l1_ratio, *options, weights=None, l2_factors=None):
    """Coefficients of one fit with the objective of docs/method.md."""
    arguments = list(options)
    for name, values in {"--weights": weights, "--l2-factors": l2_factors}.items():
        if values is not None:
            np.save(folder / f"{name[2:]}.npy", np.asarray(values, float))
            arguments += [name, str(folder / f"{name[2:]}.npy")]
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y[:, None])
    np.save(folder / "grid.npy", np.array([lam], float))
    subprocess.run(
        [sys.argv[1], "path", "-x", folder / "X.npy", "-y", folder / "y.npy", "-o", folder / "m",
         "--lambda-grid", folder / "grid.npy", "--l1-ratio", repr(float(l1_ratio)), "--tol", "1e-12",
         "--quiet", *arguments], check=True)
    raw = (folder / "m").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])

    def tensor(name, dtype):
        first, last = header[name]["data_offsets"]
        return np.frombuffer(raw[8 + size + first:8 + size + last], dtype)

    coef = np.zeros(p)
    coef[tensor("coef.indices", "<i8")] = tensor("coef.values", "<f8")
    return coef


def compare(what, ours, theirs):
    global failed
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    failed |= not difference < 1e-6
    print(f"{what:58s} {difference:.1e}")


def glmnet(lam, alpha, extra="", standardize="FALSE"):
    """Coefficients of glmnet; `extra` are further arguments, as R code."""
    np.savetxt(folder / "X.csv", X, delimiter=",", fmt="%.17g")
    np.savetxt(folder / "y.csv", np.c_[y, w], delimiter=",", fmt="%.17g")
    code = (f"suppressMessages(library(glmnet)); X <- as.matrix(read.csv('{folder}/X.csv', "
            f"header=FALSE)); d <- read.csv('{folder}/y.csv', header=FALSE); y <- d[, 1]; "
            f"w <- d[, 2]; f <- glmnet(X, y, lambda={float(lam)!r}, alpha={float(alpha)!r}, thresh=1e-20, "
            f"maxit=1e7, standardize={standardize}{extra}); cat(sprintf('%.17g ', as.vector(f$beta)))")
    return np.array(subprocess.run(["Rscript", "-e", code], check=True, capture_output=True,
                                   text=True).stdout.split(), float)


lam, rho = 0.7, 0.3
try:
    from sklearn.linear_model import ElasticNet, Lasso, Ridge

    compare("scikit-learn Lasso(alpha=lambda)", thresher(lam, 1.0),
            Lasso(alpha=lam, tol=1e-14, max_iter=10**6).fit(X, y).coef_)
    compare("scikit-learn ElasticNet(alpha=lambda, l1_ratio)", thresher(lam, rho),
            ElasticNet(alpha=lam, l1_ratio=rho, tol=1e-14, max_iter=10**6).fit(X, y).coef_)
    compare("scikit-learn ElasticNet with sample_weight", thresher(lam, rho, weights=w),
            ElasticNet(alpha=lam, l1_ratio=rho, tol=1e-14, max_iter=10**6)
            .fit(X, y, sample_weight=w).coef_)
    compare("scikit-learn Ridge(alpha=n lambda)", thresher(lam, 0.0),
            Ridge(alpha=n * lam).fit(X, y).coef_)
    compare("scikit-learn Ridge(alpha=sum(w) lambda)", thresher(lam, 0.0, weights=w),
            Ridge(alpha=w.sum() * lam).fit(X, y, sample_weight=w).coef_)
except ImportError:
    print("scikit-learn: skipped, not installed")

try:
    probe = subprocess.run(["Rscript", "-e", "library(glmnet)"], capture_output=True)
    if probe.returncode != 0:
        raise OSError
    compare("glmnet Lasso", thresher(lam, 1.0), glmnet(lam, 1.0))
    compare("glmnet alpha=l1_ratio, ours with v = 1/sd(y)",
            thresher(lam, rho, l2_factors=np.full(p, 1 / sd_y)), glmnet(lam, rho))
    total = rho + (1 - rho) / sd_y
    compare("glmnet -> ours, v = 1", thresher(lam * total, rho / total), glmnet(lam, rho))
    total = rho + (1 - rho) * sd_y
    compare("ours, v = 1 -> glmnet", thresher(lam, rho), glmnet(lam * total, rho / total))
    compare("ours, ridge -> glmnet lambda sd(y)", thresher(lam, 0.0), glmnet(lam * sd_y, 0.0))
    mean = np.average(y, weights=w)
    weighted_sd = float(np.sqrt(np.average((y - mean) ** 2, weights=w)))
    compare("glmnet with weights, v = 1/weighted sd(y)",
            thresher(lam, rho, weights=w, l2_factors=np.full(p, 1 / weighted_sd)),
            glmnet(lam, rho, ", weights=w"))
    compare("glmnet without intercept, v = 1/root mean square of y",
            thresher(lam, rho, "--no-intercept",
                     l2_factors=np.full(p, 1 / np.sqrt(np.mean(y**2)))),
            glmnet(lam, rho, ", intercept=FALSE"))
    compare("glmnet standardize=TRUE, v = 1/sd(y)",
            thresher(lam, rho, "--standardize", l2_factors=np.full(p, 1 / sd_y)),
            glmnet(lam, rho, standardize="TRUE"))
except OSError:
    print("glmnet: skipped, not installed")

try:
    from himalaya.ridge import Ridge as HimalayaRidge

    compare("himalaya Ridge(alpha=n lambda)", thresher(lam, 0.0),
            HimalayaRidge(alpha=n * lam, fit_intercept=True).fit(X, y).coef_)
except ImportError:
    print("himalaya: skipped, not installed")

# The textbook forms, solved as linear systems on centred data.
Xc, yc = X - X.mean(axis=0), y - y.mean()
for what, ridge, ours in [
        ("RSS/(2n) + k sum b^2,     lambda = 2 k", 2 * n * lam, 2 * lam),
        ("(RSS + k sum b^2)/(2n),   lambda = k/n", lam, lam / n),
        ("RSS + k sum b^2,          lambda = k/n", lam, lam / n)]:
    compare(what, thresher(ours, 0.0), np.linalg.solve(Xc.T @ Xc + ridge * np.eye(p), Xc.T @ yc))
sys.exit(failed)

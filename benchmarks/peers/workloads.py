"""The workloads: which data, which question, and the files every solver reads.

A prepared workload is a folder with workload.json, X.npy (n, p), Y.npy (n, R), grid.npy (R, L) and,
with folds, fold_id.npy (n). All arrays are float64 in Fortran order, folds int32. Lambdas have the
meaning of docs/units.md: 1/(2n) RSS + lambda (l1_ratio |b|_1 + (1 - l1_ratio)/2 |b|_2^2).
"""

import dataclasses
import hashlib
import json
import pathlib
import subprocess

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRATCH = ROOT / "build" / "bench"


@dataclasses.dataclass(frozen=True)
class Workload:
    """One question on one data set."""

    name: str
    title: str
    data: tuple  # ("simulate", rows, features, responses, corr, support, snr) or ("set", name)
    kind: str = "path"  # path, cv (lambda chosen by folds), or ridge-cv
    l1_ratio: float = 1.0
    # Multiples of lambda_max (of the top eigenvalue of X'X/n for ridge), descending.
    fractions: tuple = tuple(float(f) for f in np.geomspace(1, 0.01, 100))
    folds: int = 0
    sample: int = 0  # responses given to solvers that loop over them; 0: all
    repeats: int = 15  # rounds, at most
    quick: bool = False
    target: float = 0.0  # factor wanted against the best peer at an equal or tighter gap
    group: str = "lasso path"
    # Only ours, for how cost grows: along `axis`, at `place`.
    axis: str = ""
    place: float = 0.0
    threads: int = 1
    max_memory: str = ""  # limit that ours gets, which cuts responses into tiles


SHAPES = {
    "500x20000": ("500 x 20,000", ("simulate", 500, 20000, 1, 0.5, 50, 3)),
    "300x120000": ("300 x 120,000", ("simulate", 300, 120000, 1, 0.5, 30, 3)),
    "5000x500": ("5,000 x 500", ("simulate", 5000, 500, 1, 0.3, 50, 1)),
    "2000x2000": ("2,000 x 2,000, correlation 0.9", ("simulate", 2000, 2000, 1, 0.9, 100, 2)),
    "100000x1000": ("100,000 x 1,000", ("simulate", 100000, 1000, 1, 0.5, 50, 1)),
    "10000x10000": ("10,000 x 10,000", ("simulate", 10000, 10000, 1, 0.5, 100, 2)),
}
PATH_TARGETS = {"300x120000": 3.0, "5000x500": 3.0}
SETS = ("golub", "meats", "susie_n2", "pd_speech", "grants_other", "chicago", "diabetes")
RIDGE_FRACTIONS = tuple(float(f) for f in np.geomspace(1, 1e-3, 30))


def many_responses(name):
    kind, rows, features, _, *rest = SHAPES[name][1]
    return (kind, rows, features, 100, *rest)


def all_workloads():
    """Every workload, the most important first."""
    result = []
    for name, (title, data) in SHAPES.items():
        result.append(
            Workload(
                f"path-{name}",
                title,
                data,
                quick=name in ("500x20000", "5000x500"),
                target=PATH_TARGETS.get(name, 2.0),
            )
        )
    for title, data, sample, quick in (
        (SHAPES["500x20000"][0], many_responses("500x20000"), 2, False),
        (SHAPES["5000x500"][0], many_responses("5000x500"), 5, False),
        ("1,000 x 300", ("simulate", 1000, 300, 100, 0.3, 30, 1), 1, True),
    ):
        result.append(
            Workload(
                f"cv-{data[1]}x{data[2]}",
                f"{title}, 100 responses, 10 folds",
                data,
                kind="cv",
                folds=10,
                sample=sample,
                repeats=7 if quick else 1,
                quick=quick,
                target=6.0,
                group="cross-validation",
            )
        )
    for name in ("500x20000", "5000x500", "2000x2000"):
        title, data = SHAPES[name]
        for l1_ratio in (0.5, 0.1):
            result.append(
                Workload(
                    f"enet-{l1_ratio}-{name}",
                    f"{title}, l1_ratio {l1_ratio}",
                    data,
                    l1_ratio=l1_ratio,
                    target=1.5,
                    group="elastic net path",
                    quick=name == "500x20000" and l1_ratio == 0.5,
                )
            )
    for rows, features, responses, quick in (
        (3000, 1000, 3000, False),
        (1000, 20000, 500, False),
        (1000, 500, 300, True),
    ):
        result.append(
            Workload(
                f"ridge-cv-{rows}x{features}x{responses}",
                f"{rows:,} x {features:,}, {responses:,} responses, 5 folds",
                ("simulate", rows, features, responses, 0.5, 100, 2),
                kind="ridge-cv",
                l1_ratio=0.0,
                fractions=RIDGE_FRACTIONS,
                folds=5,
                repeats=7,
                quick=quick,
                target=2.0,
                sample=2,
                group="ridge with cross-validation",
            )
        )
    for name in ("500x20000", "5000x500", "2000x2000"):
        title, data = SHAPES[name]
        for fraction in (0.5, 0.1, 0.05):
            result.append(
                Workload(
                    f"single-{fraction}-{name}",
                    f"{title}, {fraction} lambda_max",
                    data,
                    fractions=(fraction,),
                    group="one lambda",
                )
            )
    for name in SETS:
        result.append(
            Workload(f"set-{name}", name, ("set", name), group="real data", quick=name == "chicago")
        )
    return result + scaling_workloads()


def scaling_workloads():
    """Cross-validation of ours along one axis at a time, over at least a factor 16."""

    def one(
        axis, place, rows=200, features=2000, responses=16, lambdas=50, threads=1, max_memory=""
    ):
        return Workload(
            f"scale-{axis.replace(' ', '-')}-{place}",
            f"{axis} {place}",
            ("simulate", rows, features, responses, 0.5, 20, 3),
            kind="cv",
            folds=5,
            fractions=tuple(float(f) for f in np.geomspace(1, 0.05, lambdas)),
            repeats=3,
            group="scaling",
            axis=axis,
            place=place,
            threads=threads,
            max_memory=max_memory,
        )

    return [
        *(one("responses", r, responses=r) for r in (4, 16, 64, 256)),
        *(one("responses in tiles", r, responses=r, max_memory="24M") for r in (64, 256, 1024)),
        *(one("lambdas", count, lambdas=count) for count in (20, 80, 320)),
        *(one("n", n, rows=n, responses=4) for n in (100, 400, 1600)),
        *(one("p", p, features=p, responses=4) for p in (1000, 4000, 16000)),
        *(one("threads", t, responses=64, threads=t) for t in (1, 2)),
    ]


def data_folder(data):
    return SCRATCH / "data" / "-".join(str(part) for part in data)


def make_data(data, command):
    """X.npy and Y.npy of a data set; made once."""
    folder = data_folder(data)
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if data[0] == "simulate":
        _, rows, features, responses, corr, support, snr = data
        words = [
            command,
            "simulate",
            "--rows",
            rows,
            "--features",
            features,
            "--responses",
            responses,
            "--corr",
            corr,
            "--support",
            support,
            "--snr",
            snr,
            "--seed",
            1,
            "-o",
            folder,
        ]
        subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL)
    else:
        X, Y = read_set(ROOT / "tests" / "data" / data[1])
        np.save(folder / "X.npy", X)
        np.save(folder / "Y.npy", Y)
    (folder / "done").touch()
    return folder


def read_set(source):
    """A set of tests/data: (X, Y), X without constant columns and scaled to unit variance.

    Unscaled, some sets use a handful of columns only: units differ by up to 30 orders of magnitude.
    """
    if (source / "X.npy").exists():
        X = np.load(source / "X.npy").astype(np.float64)
    else:
        data, indices, indptr = (
            np.load(source / f"X_csr_{part}.npy") for part in ("data", "indices", "indptr")
        )
        names = (source / "names.txt").read_text().splitlines()
        X = np.zeros((len(indptr) - 1, len(names)))
        X[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), indices] = data
    X = X - X.mean(axis=0)
    scale = np.sqrt((X**2).mean(axis=0))
    Y = np.load(source / "Y.npy").astype(np.float64)
    return np.asfortranarray(X[:, scale > 0] / scale[scale > 0]), np.asfortranarray(Y)


def lambda_grid(workload, X, Y):
    """(R, L): one row for each response."""
    n = X.shape[0]
    fractions = np.array(workload.fractions)
    if workload.kind == "ridge-cv":
        centred = X - X.mean(axis=0)
        gram = centred @ centred.T if n < X.shape[1] else centred.T @ centred
        top = np.linalg.eigvalsh(gram)[-1] / n
        return np.tile(top * fractions, (Y.shape[1], 1))
    centred = Y - Y.mean(axis=0)
    top = np.abs(X.T @ centred).max(axis=0) / n / workload.l1_ratio
    return top[:, None] * fractions


def prepare(workload, command):
    """The folder of a workload, with everything a solver reads; made once."""
    data = make_data(workload.data, command)
    folder = SCRATCH / "workloads" / workload.name
    question = {
        name: value
        for name, value in dataclasses.asdict(workload).items()
        if name in ("data", "kind", "l1_ratio", "fractions", "folds", "sample")
    }
    question["Y"] = hashlib.sha256((data / "Y.npy").read_bytes()).hexdigest()
    text = json.dumps(question, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    stamp = folder / "workload.json"
    if stamp.exists() and json.loads(stamp.read_text())["key"] == key:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("X.npy", "Y.npy"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(data / name)
    X, Y = np.load(folder / "X.npy"), np.load(folder / "Y.npy")
    np.save(folder / "grid.npy", lambda_grid(workload, X, Y))
    if workload.folds:
        fold_id = np.arange(X.shape[0], dtype=np.int32) % workload.folds
        np.random.default_rng(1).shuffle(fold_id)
        np.save(folder / "fold_id.npy", fold_id)
    stamp.write_text(
        json.dumps(
            {**dataclasses.asdict(workload), "key": key, "shape": X.shape, "responses": Y.shape[1]},
            indent=1,
        )
    )
    return folder


def describe(folder):
    return json.loads((pathlib.Path(folder) / "workload.json").read_text())

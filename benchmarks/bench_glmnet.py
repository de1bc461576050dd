#!/usr/bin/env python3
"""Times thresher against R's glmnet on the same data, folds and lambdas, runs interleaved.

Ours is `seconds.solve` of the command (data in memory to result in memory); theirs is the call of
glmnet() or cv.glmnet() alone, inside a long-lived R process that already holds the data. A
full run is written to benchmarks/results/glmnet/<date>.json with a table beside it; a partial run
goes to build/bench_glmnet. Exit code 1 if a required factor or gap is missed. Standard library only.
"""

import argparse
import array
import datetime
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "build" / "bench_glmnet"
GAP_LIMIT = 1e-9

# One response, one thread. `against`: glmnet settings and the factor required against each.
# thresh 1e-10 is allowed more iterations, or glmnet gives up.
DEFAULT = {"label": "default", "thresh": "default", "maxit": "1e5"}
TIGHT = {"label": "thresh 1e-10", "thresh": "1e-10", "maxit": "1e7"}
PATH_ROWS = {
    "500x20000": {"rows": 500, "features": 20000, "corr": 0.5, "support": 50, "snr": 3,
                  "against": [(DEFAULT, 4)]},
    "300x120000": {"rows": 300, "features": 120000, "corr": 0.5, "support": 30, "snr": 3,
                   "against": [(DEFAULT, 6)]},
    "5000x500": {"rows": 5000, "features": 500, "corr": 0.3, "support": 50, "snr": 1,
                 "against": [(DEFAULT, 5)]},
    "2000x2000": {"rows": 2000, "features": 2000, "corr": 0.9, "support": 100, "snr": 2,
                  "against": [(DEFAULT, 2), (TIGHT, 8)]},
}
# Many responses, ten folds, two threads against two R processes that share a sample of the
# responses.
CV_ROWS = {
    "cv-100-responses": {"rows": 500, "features": 20000, "responses": 100, "corr": 0.5,
                         "support": 50, "snr": 3, "l1_ratio": 1, "grid": ("lasso", 100, 0.01),
                         "required": 5},
    # The grid is shared: from the largest eigenvalue of the centred X'X/n down to 1e-3 of it, with
    # the best lambda well inside. (Smaller lambdas only cost glmnet more.)
    "cv-ridge": {"rows": 1000, "features": 2000, "responses": 500, "corr": 0.5, "support": 100,
                 "snr": 2, "l1_ratio": 0, "grid": ("ridge", 50, 1e-3), "required": 50},
}
N_FOLDS = 10

ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                     "BLIS_NUM_THREADS")}


class Worker:
    """A glmnet_worker.R process."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["Rscript", "--vanilla", str(ROOT / "benchmarks" / "glmnet_worker.R")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **ONE_THREAD})

    def send(self, *words):
        self.process.stdin.write("\t".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench_glmnet: the R process ended unexpectedly")
        result = json.loads(line)
        if "error" in result:
            raise SystemExit(f"bench_glmnet: R: {result['error']}")
        return result

    def ask(self, *words):
        self.send(*words)
        return self.receive()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def write_npy(path, typecode, values):
    """A vector of 'd' (double) or 'i' (32-bit integers)."""
    data = array.array(typecode, values)
    descr = {"d": "<f8", "i": "<i4"}[typecode]
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({len(data)},), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        data.tofile(file)


class ModelFile:
    """The tensors of a model file as flat arrays."""

    TYPES = {"F64": "d", "I64": "q", "U8": "B"}

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        size, = struct.unpack_from("<Q", self.data)
        self.header = json.loads(self.data[8:8 + size])
        self.start = 8 + size

    def shape(self, name):
        return self.header[name]["shape"]

    def __getitem__(self, name):
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        result = array.array(self.TYPES[entry["dtype"]])
        result.frombytes(self.data[self.start + begin:self.start + end])
        return result


def run_ours(command, arguments, threads):
    """One run of the command; returns the JSON summary."""
    summary = SCRATCH / "summary.json"
    summary.unlink(missing_ok=True)
    words = [command, *map(str, arguments), "--threads", threads, "--tol", GAP_LIMIT,
             "--early-stop", "off", "--json", summary, "--quiet"]
    run = subprocess.run([str(w) for w in words], env={**os.environ, **ONE_THREAD},
                         capture_output=True, text=True)
    if run.returncode not in (0, 3):  # 3: some fit did not converge; met() reports it
        raise SystemExit(f"bench_glmnet: {' '.join(map(str, words))}: exit {run.returncode}\n"
                         f"{run.stderr}")
    return json.loads(summary.read_text())


def summarize(runs):
    """What is recorded of our runs."""
    return {
        "seconds": statistics.median(run["seconds"]["solve"] for run in runs),
        "worst_gap": max(run["worst_gap"] for run in runs),
        "n_not_converged": max(run["n_not_converged"] for run in runs),
        "runs": [{key: run[key] for key in ("seconds", "worst_gap", "engine", "mode",
                                            "peak_memory_bytes")} for run in runs],
    }


def simulate(command, row, seed):
    folder = SCRATCH / "data"
    shutil.rmtree(folder, ignore_errors=True)
    words = [command, "simulate", "--rows", row["rows"], "--features", row["features"],
             "--responses", row.get("responses", 1), "--corr", row["corr"],
             "--support", row["support"], "--snr", row["snr"], "--seed", seed, "-o", folder]
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL)
    return folder


def referee(worker, model, grid):
    """Gap and objective of our coefficients, recomputed in R from X and y alone."""
    folder = SCRATCH / "coef"
    folder.mkdir(exist_ok=True)
    write_npy(folder / "indptr.npy", "i", model["coef.indptr"])
    write_npy(folder / "indices.npy", "i", model["coef.indices"])
    write_npy(folder / "values.npy", "d", model["coef.values"])
    write_npy(folder / "intercept.npy", "d", model["intercept"])
    return worker.ask("referee", grid, folder)


def run_path_row(command, worker, name, seed, repeats):
    row = PATH_ROWS[name]
    folder = simulate(command, row, seed)
    worker.ask("load", folder)
    grid = SCRATCH / "grid.npy"
    worker.ask("grid", "lasso", 100, 0.01, grid)
    model_path = SCRATCH / "model.safetensors"
    arguments = ["path", "-x", folder / "X.npy", "-y", folder / "Y.npy", "-o", model_path,
                 "--lambda-grid", grid]

    ours = []
    theirs = {settings["label"]: [] for settings, _ in row["against"]}
    quality = {}
    for repeat in range(repeats):
        ours.append(run_ours(command, arguments, 1))
        for settings, _ in row["against"]:
            run = worker.ask("fit", grid, settings["thresh"], settings["maxit"])
            theirs[settings["label"]].append(run)
            if repeat == 0:
                quality[settings["label"]] = worker.ask("quality")

    model = ModelFile(model_path)
    checked = referee(worker, model, grid)
    summary = summarize(ours)
    result = {
        "row": name, "seed": seed, "settings": {k: v for k, v in row.items() if k != "against"},
        "threads": 1,
        "ours": {**summary, "worst_gap_recomputed": max(checked["gap"]),
                 "most_nonzero": max(checked["nonzero"])},
        "glmnet": [],
    }
    for settings, required in row["against"]:
        runs = theirs[settings["label"]]
        seconds = statistics.median(run["seconds"] for run in runs)
        found = quality[settings["label"]]
        excess = [a - b for a, b in zip(found["objective"], checked["objective"])]
        result["glmnet"].append({
            **settings, "seconds": seconds, "factor": seconds / summary["seconds"],
            "required": required,
            "worst_gap": max(found["gap"]),
            # Relative to the null loss, as the gap; the gap of an inexact answer overstates it.
            "worst_suboptimality": max(excess),
            "most_nonzero": max(found["nonzero"]), "lambdas": runs[0]["n_lambdas"],
            "warnings": runs[0]["warnings"], "runs": [run["seconds"] for run in runs],
        })
    return result


def largest_difference(model, sample, errors):
    """Largest relative difference between our cv.error and cv.glmnet's, on the sample."""
    ours = model["cv.error"]
    n_lambdas = model.shape("cv.error")[-1]
    return max(abs(ours[r * n_lambdas + k] - value) / value
               for r, curve in zip(sample, errors) for k, value in enumerate(curve))


def run_cv_row(command, workers, name, seed, repeats, sample_size):
    row = CV_ROWS[name]
    folder = simulate(command, row, seed)
    for worker in workers:
        worker.send("load", folder)
    for worker in workers:
        worker.receive()
    grid = SCRATCH / "grid.npy"
    workers[0].ask("grid", *row["grid"], grid)
    folds = [i % N_FOLDS for i in range(row["rows"])]
    random.Random(seed).shuffle(folds)
    fold_path = SCRATCH / "fold_id.npy"
    write_npy(fold_path, "i", folds)
    model_path = SCRATCH / "model.safetensors"
    arguments = ["cv", "-x", folder / "X.npy", "-y", folder / "Y.npy", "-o", model_path,
                 "--lambda-grid", grid, "--fold-id", fold_path, "--l1-ratio", row["l1_ratio"]]

    sample = [k * row["responses"] // sample_size for k in range(sample_size)]
    shares = [sample[k::len(workers)] for k in range(len(workers))]
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(run_ours(command, arguments, 2))
        for worker, share in zip(workers, shares):
            worker.send("cv", ",".join(map(str, share)), grid, fold_path, row["l1_ratio"])
        theirs.append([worker.receive() for worker in workers])

    scale = row["responses"] / sample_size
    summary = summarize(ours)
    # Both processes work at once; the sample is done when the slower one is.
    seconds = scale * statistics.median(max(sum(w["seconds"]) for w in run) for run in theirs)
    model = ModelFile(model_path)
    difference = max(largest_difference(model, share, w["errors"])
                     for share, w in zip(shares, theirs[-1]))
    # A minimum at an end of the grid would mean that the problem is not a sensible one.
    best = list(model["cv.best"])[1::2]
    return {
        "row": name, "seed": seed, "settings": row, "threads": 2, "n_folds": N_FOLDS,
        "ours": {**summary, "best_lambda_index": [min(best), max(best)]},
        "glmnet": [{
            "label": "cv.glmnet, 2 processes", "seconds": seconds,
            "factor": seconds / summary["seconds"], "required": row["required"], "sample": sample, "scale": scale,
            "largest_cv_error_difference": difference,
            "warnings": "; ".join({w["warnings"] for run in theirs for w in run} - {""}),
            "runs": [[w["seconds"] for w in run] for run in theirs],
        }],
    }


def output_of(*words):
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def describe_machine():
    cpu = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
           if line.startswith("model name")]
    memory = [line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")]
    return {"cpu": cpu[0] if cpu else platform.machine(), "cpus": os.cpu_count(),
            "memory_bytes": 1024 * int(memory[0]), "kernel": platform.release(),
            "load_average_at_start": os.getloadavg()[0]}


def met(record):
    return [record["ours"]["worst_gap"] <= GAP_LIMIT,
            record["ours"].get("worst_gap_recomputed", 0.0) <= GAP_LIMIT,
            record["ours"]["n_not_converged"] == 0,
            *(g["factor"] >= g["required"] for g in record["glmnet"])]


def table(report):
    lines = [
        f"thresher {report['versions']['thresher']} (commit {report['commit']}"
        f"{', modified' if report['modified'] else ''}), "
        f"glmnet {report['versions']['glmnet']}, {report['versions']['r']}; "
        f"{report['machine']['cpu']}, {report['machine']['cpus']} processors; "
        f"{report['date']}.",
        "",
        "Median seconds. Gap: worst relative duality gap over the path; excess: worst objective "
        "above ours, relative to the null loss.",
        "",
        "| row | seed | thresher s | gap | glmnet | s | gap | excess | factor | required |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in report["rows"]:
        ours = record["ours"]
        for glmnet in record["glmnet"]:
            missed = glmnet["factor"] < glmnet["required"]
            gap, excess = (f"{glmnet[key]:.1e}" if key in glmnet else "-"
                           for key in ("worst_gap", "worst_suboptimality"))
            lines.append(
                f"| {record['row']} | {record['seed']} | {ours['seconds']:.3g} | "
                f"{ours['worst_gap']:.1e} | {glmnet['label']} | {glmnet['seconds']:.3g} | "
                f"{gap} | {excess} | {glmnet['factor']:.1f} | "
                f"{glmnet['required']}{' **missed**' if missed else ''} |")
    return "\n".join(lines) + "\n"


def free_path(folder, date):
    """<date>.json, or <date>-2.json and so on: a recorded run is never overwritten."""
    path = folder / f"{date}.json"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{date}-{count}.json"
    return path


def main():
    names = [*PATH_ROWS, *CV_ROWS]
    parser = argparse.ArgumentParser(prog="./run bench-glmnet", description=__doc__.split("\n")[0])
    parser.add_argument("--command", default=ROOT / "build/release/host/command/thresher",
                        type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--row", action="append", choices=names, help="only this row (repeatable)")
    parser.add_argument("--seeds", default="1,2,3", help="comma separated (default: %(default)s)")
    parser.add_argument("--quick", action="store_true",
                        help="seed 1, one run each, cross-validation sampled by 2 responses")
    parser.add_argument("--repeats", type=int, default=5, help="runs of a path row")
    parser.add_argument("--cv-repeats", type=int, default=1, help="runs of a cross-validation row")
    parser.add_argument("--sample", type=int, default=10,
                        help="responses given to cv.glmnet (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, help="write the JSON here")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.repeats, options.cv_repeats, options.sample = "1", 1, 1, 2
    seeds = [int(s) for s in options.seeds.split(",")]
    rows = options.row or names
    command = options.command.resolve()

    now = datetime.datetime.now(datetime.timezone.utc)
    full = (rows == names and seeds == [1, 2, 3] and options.sample >= 10 and options.repeats >= 5)
    folder = ROOT / "benchmarks" / "results" / "glmnet" if full else SCRATCH / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    path = options.output or free_path(folder, now.strftime("%Y-%m-%d"))

    workers = [Worker(), Worker()]
    info = json.loads(output_of(str(command), "info", "--json") or "{}")
    versions = workers[0].ask("versions")
    versions["thresher"] = info.get("version", "unknown")
    report = {
        "date": now.isoformat(timespec="seconds"), "commit": output_of("git", "rev-parse", "HEAD"),
        "modified": bool(output_of("git", "status", "--porcelain", "--untracked-files=no")),
        "machine": describe_machine(), "versions": versions, "info": info,
        "arguments": sys.argv[1:], "gap_limit": GAP_LIMIT, "rows": [],
    }
    for name in rows:
        for seed in seeds:
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            if name in PATH_ROWS:
                record = run_path_row(command, workers[0], name, seed, options.repeats)
            else:
                record = run_cv_row(command, workers, name, seed, options.cv_repeats,
                                    options.sample)
            record["load_average"] = os.getloadavg()[0]
            report["rows"].append(record)
            path.write_text(json.dumps(report, indent=1) + "\n")
            path.with_suffix(".md").write_text(table(report))
    for worker in workers:
        worker.close()
    shutil.rmtree(SCRATCH / "data", ignore_errors=True)

    print(table(report))
    print(f"raw timings: {path}")
    failures = [r for r in report["rows"] if not all(met(r))]
    for record in failures:
        print(f"missed: {record['row']}, seed {record['seed']}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

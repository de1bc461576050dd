"""Thresher, through its command: `path` or `cv`, nothing but grid, folds and tolerance set.

Time is `seconds.solve` of its summary, data in memory to result in memory, in a process that runs
on (repeated_fit.cpp) as those of the other solvers do. The early stop is off, because all lambdas
are asked for.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
import scipy.sparse
from solver_task import Solution, Solver

WARM_UP = False  # nothing is compiled
TYPES = {"F64": "<f8", "I64": "<i8", "U8": "u1"}


def repeated_fit(command):
    """The program that is timed, of the build that `command` is of."""
    return command.parents[2] / "benchmarks" / "repeated_fit"


def versions(command):
    """The version and what identifies the build: a hash of command and library."""
    said = subprocess.run([command, "info", "--json"], capture_output=True, check=True)
    info = json.loads(said.stdout)
    digest = hashlib.sha256()
    command = pathlib.Path(command)
    libraries = sorted(command.parents[1].glob("libthresher.so*"))[:1]
    for path in (command, repeated_fit(command), *libraries):
        digest.update(path.read_bytes())
    return {
        "thresher": info["version"],
        "build": digest.hexdigest()[:16],
        "compiler": info["compiler"],
        "blas": info["blas"],
    }


def read_model(path):
    """The tensors of a model file (docs/model_file.md)."""
    raw = pathlib.Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    result = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + k for k in entry["data_offsets"])
            result[name] = np.frombuffer(raw[begin:end], TYPES[entry["dtype"]]).reshape(
                entry["shape"]
            )
    return result


class Command(Solver):
    def __init__(self, task):
        super().__init__(task)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="thresher-bench-"))
        files = {"-x": task.folder / "X.npy"}
        if task.responses == list(range(np.load(task.folder / "Y.npy", mmap_mode="r").shape[1])):
            files["-y"] = task.folder / "Y.npy"
        else:
            files["-y"] = self.save("Y.npy", task.Y)
        same = (task.grid == task.grid[0]).all()
        files["--lambda-grid"] = self.save("grid.npy", task.grid[:1] if same else task.grid)
        words = ["path" if task.kind == "path" else "cv", "--l1-ratio", task.l1_ratio]
        if task.kind == "path":
            words += ["--early-stop", "off"]
        else:
            files["--fold-id"] = task.folder / "fold_id.npy"
            words += ["--keep", "chosen"]
        for option, path in files.items():
            words += [option, path]
        words += [
            "-o",
            self.scratch / "model.safetensors",
            "--json",
            self.scratch / "said.json",
            "--threads",
            task.threads,
            "--device",
            "cpu",
            "--quiet",
        ]
        if task.tol != "default":
            words += ["--tol", task.tol]
        if task.max_memory:
            words += ["--max-memory", task.max_memory]
        self.complaints = (self.scratch / "stderr").open("w+")
        self.process = subprocess.Popen(
            [repeated_fit(pathlib.Path(task.command)), *(str(w) for w in words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
        )
        self.pid = self.process.pid
        self.receive("ready")
        # The process holds them.
        del task.X

    def receive(self, word):
        line = self.process.stdout.readline().strip()
        if line != word:
            self.complaints.seek(0)
            raise RuntimeError(f"thresher said {line!r}: {self.complaints.read()[-300:]}")

    def save(self, name, array):
        np.save(self.scratch / name, array)
        return self.scratch / name

    def run(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        self.receive("done")
        seconds = json.loads((self.scratch / "said.json").read_text())["seconds"]
        self.seconds = (seconds["solve"], seconds["solve_cpu"])

    def solution(self):
        task = self.task
        model = read_model(self.scratch / "model.safetensors")
        p = np.load(task.folder / "X.npy", mmap_mode="r").shape[1]
        n_responses, _, n_lambdas = model["lambda"].shape
        columns = scipy.sparse.csc_matrix(
            (model["coef.values"], model["coef.indices"], model["coef.indptr"]),
            shape=(p, n_responses * n_lambdas),
        )
        intercept = model["intercept"][:, 0, :]
        if task.kind == "path":
            coef = [columns[:, r * n_lambdas : (r + 1) * n_lambdas] for r in range(n_responses)]
            return Solution(model["lambda"][:, 0, :], intercept, coef)
        best = model["cv.best"][:, 1]
        fits = np.arange(n_responses) * n_lambdas + best
        return Solution(
            model["lambda"][:, 0, :],
            intercept[np.arange(n_responses), best][:, None],
            [columns[:, f] for f in fits],
            model["cv.error"][:, 0, :],
            best,
        )

    def counts(self):
        said = json.loads((self.scratch / "said.json").read_text())
        found = read_model(self.scratch / "model.safetensors")["n_nonzero"]
        return {
            **{name: said[name] for name in ("n_samples", "n_features", "n_responses", "n_folds")},
            "n_lambdas": said["n_lambdas"],
            "engine": max(said["engines"], key=said["engines"].get),
            "mode": max(said["modes"], key=said["modes"].get),
            "support": found.reshape(-1, said["n_lambdas"]).mean(axis=0).tolist(),
        }

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.complaints.close()
        shutil.rmtree(self.scratch)


def make(task):
    return Command(task)

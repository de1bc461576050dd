"""A solver that lives in an R process (r_peers.R) with its own clock."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
from solver_task import Solver

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "r_peers.R"
# numpy asks for huge pages for its arrays, R does not. In pages of 4 KB a matrix of 20 MB costs
# glmnet a third more, and from process to process a fifth more or less.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class RSolver(Solver):
    def __init__(self, task, package):
        super().__init__(task)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="r-bench-"))
        self.process = subprocess.Popen(
            ["Rscript", "--vanilla", str(SCRIPT), package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **HUGE_PAGES},
        )
        self.pid = self.process.pid  # Rscript replaces itself by R
        self.said = self.receive()
        for name in ("X", "Y"):
            self.save(name, getattr(task, name))
        if task.fold_id is not None:
            self.save("fold_id", task.fold_id)
        self.ask("load", self.scratch)
        for name in ("X", "Y"):
            (self.scratch / f"{name}.npy").unlink()
        # R holds them.
        del task.X

    def save(self, name, array):
        np.save(self.scratch / f"{name}.npy", np.asfortranarray(array))
        return self.scratch / f"{name}.npy"

    def load(self, name):
        return np.load(self.scratch / f"{name}.npy")

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the R process ended unexpectedly")
        result = json.loads(line)
        if "error" in result:
            raise RuntimeError(f"R: {result['error']}")
        return result

    def ask(self, *words):
        self.process.stdin.write("\t".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        return self.receive()

    def timed(self, *words):
        said = self.ask(*words)
        self.seconds = (said["wall"], said["cpu"])
        return said

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.scratch)


def package_versions(package):
    """Versions of R and of one of its packages, without loading data."""
    code = (
        f'cat(R.version.string, "\\n", as.character(packageVersion("{package}")), "\\n", '
        'extSoftVersion()[["BLAS"]], sep = "")'
    )
    environment = {**os.environ, "R_LIBS": os.environ.get("R_LIBS", "")}
    said = subprocess.run(
        ["Rscript", "--vanilla", "-e", code], capture_output=True, text=True, env=environment
    )
    if said.returncode:
        raise RuntimeError(f"R package {package}: {said.stderr.strip()[-200:]}")
    r, version, blas = said.stdout.split("\n")
    return {package: version, "R": r, "blas": blas}

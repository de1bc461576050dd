"""One row of the table in a process of its own: SOLVER WORKLOAD-FOLDER and options.

Reads the data, compiles and warms up on a tiny problem, then answers one line of JSON for every
line on stdin: `run` times one call, `solution PATH` writes what the last call found, `end` stops.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import time
import traceback
import warnings

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def tiny_task(task):
    """The same question on 60 x 40 random numbers."""
    import dataclasses

    import numpy as np

    random = np.random.default_rng(1)
    X = np.asfortranarray(random.standard_normal((60, 40)))
    Y = np.asfortranarray(
        X[:, :2] @ random.standard_normal((2, task.Y.shape[1]))
        + random.standard_normal((60, task.Y.shape[1]))
    )
    top = np.abs(X.T @ (Y - Y.mean(axis=0))).max(axis=0) / 60 / (task.l1_ratio or 1)
    grid = top[:, None] * np.geomspace(0.9, 0.1, min(task.grid.shape[1], 5))
    if task.kind == "ridge-cv":
        grid[:] = grid[0]
    fold_id = None if task.fold_id is None else np.arange(60, dtype=np.int32) % 3
    return dataclasses.replace(task, X=X, Y=Y, grid=grid, fold_id=fold_id, folder=None)


def memory(pid, key):
    """VmHWM or VmRSS of a process, in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {key} of process {pid}")


class Row:
    def __init__(self, options):
        import numpy as np
        import solver_task
        import workloads

        described = workloads.describe(options.folder)
        Y = np.load(options.folder / "Y.npy")
        chosen = (
            [int(r) for r in options.responses.split(",")]
            if options.responses
            else list(range(Y.shape[1]))
        )
        fold_path = options.folder / "fold_id.npy"
        self.task = solver_task.Task(
            folder=options.folder,
            kind=described["kind"],
            l1_ratio=described["l1_ratio"],
            X=np.asfortranarray(np.load(options.folder / "X.npy")),
            Y=np.asfortranarray(Y[:, chosen]),
            grid=np.ascontiguousarray(np.load(options.folder / "grid.npy")[chosen]),
            fold_id=np.load(fold_path) if described["folds"] else None,
            responses=chosen,
            tol=options.tol,
            threads=options.threads,
            max_memory=described.get("max_memory", ""),
            command=options.command,
        )
        module = solver_task.adapter(options.solver)
        self.versions = module.versions(options.command)
        if module.WARM_UP:
            module.make(tiny_task(self.task)).run()
        self.solver = module.make(self.task)
        self.pid = self.solver.pid or os.getpid()

    def run(self):
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # peak := now
        before = memory(self.pid, "VmRSS")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.solver.run()
        wall = time.perf_counter() - start
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime - cpu
        if self.solver.seconds:
            wall, cpu = self.solver.seconds
        peak = memory(self.pid, "VmHWM")
        return {
            "wall": wall,
            "cpu": cpu,
            "warnings": sorted({str(w.message)[:200] for w in caught})[:3],
            "peak_bytes": peak,
            "added_bytes": max(peak - before, 0),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("solver")
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--versions", action="store_true", help="say them and stop")
    parser.add_argument("--tol", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--responses", default="")
    parser.add_argument("--cpus", default="")
    parser.add_argument("--memory-limit", type=int, default=0, help="bytes of address space")
    parser.add_argument("--command", default="")
    options = parser.parse_args()
    if options.cpus:
        os.sched_setaffinity(0, {int(c) for c in options.cpus.split(",")})
    for name in THREAD_VARIABLES:
        os.environ[name] = str(options.threads)
    if options.memory_limit:
        resource.setrlimit(resource.RLIMIT_AS, (options.memory_limit, options.memory_limit))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a solver prints is not an answer

    def answer(**fields):
        answers.write(json.dumps(fields) + "\n")

    try:
        if options.versions:
            import solver_task

            answer(**solver_task.adapter(options.solver).versions(options.command))
            return
        row = Row(options)
        answer(versions=row.versions)
        for line in sys.stdin:
            words = line.split()
            if words[0] == "run":
                answer(**row.run())
            elif words[0] == "solution":
                row.solver.solution().save(words[1])
                answer(written=words[1], counts=row.solver.counts())
            else:
                break
        row.solver.close()
    except MemoryError as error:
        answer(error=f"out of memory: {error}")
    except Exception as error:  # the row becomes an entry of the table
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

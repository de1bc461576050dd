"""Times Thresher and its peers on the same data, each answer judged by referee.py: ./run bench.

One row is (workload, solver, tolerance) and runs in a process of its own, pinned to one processor.
Fast rows of a workload run in rounds, all solvers in turn, so that noise of the machine hits all.
A row is one JSON file in build/bench/rows; a row that is there for the same question, package
version and build is not run again. What the figures and tables show is merged from those files.
"""

import argparse
import functools
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import figures
import numpy as np
import peer_worker
import referee
import tables
import workloads

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from provenance import let_blas_choose, memory_bytes, now, provenance, source  # noqa: E402

ROWS = workloads.SCRATCH / "rows"
SOLUTIONS = workloads.SCRATCH / "solutions"
RESULTS = workloads.ROOT / "benchmarks" / "results" / "peers"

CAP, QUICK_CAP = 600.0, 20.0  # defaults of --cap: seconds for one call, and for one warm-up
FAST = 5.0  # calls below this run in rounds
ROUND_SECONDS, QUICK_ROUND_SECONDS = 5.0, 2.0  # for each row of a batch, all rounds together
LEAST_ROUNDS = 3  # whatever they take
# A row has its number when its three fastest runs, of at least five, are this close.
SETTLED_RUNS, SETTLED = 5, 1.02
SHORT = 0.2  # seconds: shorter calls run in every round, and up to five times
PATIENCE = 3  # on a busy machine a call may take this many times its cap by the wall clock
OURS, OUR_TOL = tables.OURS, tables.OUR_TOL
# The first is the package's own default. The last is meant to reach a relative gap of 1e-9 by the
# referee, and not much more: scikit-learn compares its gap with tol |y|^2 / n, which is 2 tol of
# the null loss; celer likewise, with a dual point better than the referee's; glmnet and adelie
# compare squared steps, so a gap of 1e-9 takes about its square.
TOLERANCES = {
    OURS: ("default", "1e-9"),
    "glmnet": ("default", "1e-13", "1e-21"),
    "scikit-learn": ("default", "1e-7", "4e-10"),
    "celer": ("default", "1e-7", "1e-12"),
    "skglm": ("default", "1e-7", "3e-11"),
    "adelie": ("default", "1e-13", "1e-21"),
    "glum": ("default", "1e-7", "1e-10"),
    "himalaya": ("default",),
}
LOOPS = ("glmnet", "scikit-learn", "celer", "skglm", "adelie", "glum")  # over responses, in cv
GLUM_FEATURES = 2000  # it forms p x p matrices; beyond, it is not meant for the problem


class Failed(Exception):
    """A row that has no time; args: status, reason."""


def tolerances(workload, solver, options):
    """The rows of a solver, loosest first; none if it does not do this kind of problem."""
    if workload.axis:
        return (OUR_TOL,) if solver == OURS else ()
    if workload.kind == "ridge-cv":
        chosen = {
            OURS: ("1e-9",),
            "himalaya": ("default",),
            "scikit-learn": ("default", "cv"),
            "glmnet": ("default",),
        }
        return chosen.get(solver, ())
    if solver == "himalaya":
        return ()
    if solver == "glum" and workload.data[0] == "simulate" and workload.data[2] > GLUM_FEATURES:
        return ()
    given = TOLERANCES[solver]
    if solver != OURS and (workload.kind == "cv" or not options.full):
        return (given[0], given[-1])
    return given


def sampled_responses(workload, solver, n_responses):
    """The columns of Y given to a solver; None: all."""
    loops = workload.kind == "cv" and solver in LOOPS
    loops = loops or (workload.kind == "ridge-cv" and solver == "glmnet")
    if not loops or not workload.sample:
        return None
    return [k * n_responses // workload.sample for k in range(workload.sample)]


class Worker:
    """A peer_worker.py process."""

    def __init__(self, folder, solver, tol, options, responses=None, threads=1):
        words = [
            sys.executable,
            HERE / "peer_worker.py",
            solver,
            folder,
            "--tol",
            tol,
            "--threads",
            threads,
            "--cpus",
            options.cpu if threads == 1 else "",
            "--command",
            options.command,
            "--memory-limit",
            options.memory_limit,
        ]
        if responses:
            words += ["--responses", ",".join(map(str, responses))]
        self.log = workloads.SCRATCH / "worker.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(w) for w in words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.pending = b""
        self.cap = options.cap
        self.one_thread = threads == 1

    def spent(self):
        """Processor seconds of the worker and of what it started."""
        ticks = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[3]) == self.process.pid:  # the session; then user, system, of children
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def receive(self, seconds, before=0.0):
        """The next answer. A cap counts as a row's number does: processor time with one thread."""
        start, wait = time.monotonic(), seconds
        while b"\n" not in self.pending:
            if not select.select([self.process.stdout], [], [], wait)[0]:
                wall = time.monotonic() - start
                passed = min(wall, self.spent() - before) if self.one_thread else wall
                if passed >= seconds:
                    self.kill()
                    raise Failed("capped", f">= {seconds:.0f} s")
                if wall >= PATIENCE * seconds:
                    self.kill()
                    raise Failed("failed", f"no answer in {wall:.0f} s, it ran for {passed:.0f} s")
                wait = max(seconds - passed, 0.1)
                continue
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                self.kill()
                raise Failed("failed", f"ended unexpectedly, see {self.log}")
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        said = json.loads(line)
        if "error" in said:
            self.kill()
            raise Failed(
                "memory" if "memory" in said["error"].lower() else "failed", said["error"][:300]
            )
        return said

    def ask(self, words):
        before = self.spent()
        self.process.stdin.write(f"{words}\n".encode())
        self.process.stdin.flush()
        return self.receive(self.cap, before)

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self.kill()


def times(record):
    """Of every run. One thread: processor time is what the call took, on a busy machine too."""
    one = record["threads"] == 1
    return [min(run["wall"], run["cpu"]) if one else run["wall"] for run in record["runs"]]


def row_seconds(record):
    """The number of a row: the lower quartile of its runs. A minimum falls with their number."""
    return float(np.percentile(times(record), 25)) * record["scale"]


class Row:
    """One row: where it is kept, and what became of it."""

    def __init__(self, workload, folder, solver, tol, options):
        self.workload, self.folder, self.solver, self.tol = workload, folder, solver, tol
        self.options = options
        described = workloads.describe(folder)
        self.responses = sampled_responses(workload, solver, described["responses"])
        self.scale = described["responses"] / len(self.responses) if self.responses else 1.0
        self.path = ROWS / workload.name / f"{solver}-{tol}.json"
        self.key = described["key"]
        self.worker = None
        self.record = {
            "workload": workload.name,
            "key": self.key,
            "cap": options.cap,
            "solver": solver,
            "tol": tol,
            "threads": workload.threads,
            **source(),
            "scale": self.scale,
            "sampled": bool(self.responses),
            "runs": [],
        }

    def done(self, versions):
        """Is the record on disk an answer to the same question by the same versions?"""
        if not self.path.exists():
            return False
        record = json.loads(self.path.read_text())
        if record["status"] == "capped" and record.get("cap", CAP) < self.options.cap:
            return False
        return record["key"] == self.key and record["versions"] == versions

    def start(self):
        self.worker = Worker(
            self.folder,
            self.solver,
            self.tol,
            self.options,
            self.responses,
            self.workload.threads,
        )
        self.record["versions"] = self.worker.receive(self.options.cap)["versions"]

    def run(self):
        said = self.worker.ask("run")
        self.record["runs"].append(said)
        return said["wall"]

    def settled(self, first):
        """Do the runs from `first` on give its number?"""
        own = sorted(times(self.record)[first:])
        return len(own) >= SETTLED_RUNS and own[2] <= SETTLED * own[0]

    def judge(self):
        """The referee's word on the last run."""
        SOLUTIONS.mkdir(parents=True, exist_ok=True)
        path = SOLUTIONS / f"{os.getpid()}.npz"
        counts = self.worker.ask(f"solution {path}")["counts"]
        if counts:
            self.record["counts"] = counts
        words = [
            sys.executable,
            HERE / "referee.py",
            self.folder,
            path,
            "--reference",
            self.folder / "reference.npz",
        ]
        if self.responses:
            words += ["--responses", ",".join(map(str, self.responses))]
        said = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        path.unlink()
        if said.returncode:
            raise RuntimeError(f"the referee failed: {said.stderr}")
        self.record["verdict"] = json.loads(said.stdout)
        if "refused" in self.record["verdict"]:
            raise Failed("refused", self.record["verdict"]["refused"])

    def finish(self, status="ok", reason=""):
        if self.worker:
            self.worker.end()
        record = self.record
        record["status"], record["reason"] = status, reason
        record["date"] = now()
        record["load_average"] = os.getloadavg()[0]
        if status == "ok":
            record["peak_bytes"] = max(r["peak_bytes"] for r in record["runs"])
            record["added_bytes"] = max(r["added_bytes"] for r in record["runs"])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1) + "\n")
        verdict = record.get("verdict", {})
        told = f"{row_seconds(record):.3g} s, gap {verdict['gap']:.1e}" if status == "ok" else reason
        print(f"  {self.solver} {self.tol}: {told}", file=sys.stderr, flush=True)


def make_reference(workload, folder, options):
    """reference.npz of the workload, by our tightest tolerance and the referee's judgement."""
    path = folder / "reference.npz"
    stamp = folder / "reference.key"
    key = workloads.describe(folder)["key"]
    if path.exists() and stamp.exists() and stamp.read_text() == key:
        return
    solution = folder / "reference-solution.npz"
    if workload.kind == "path":
        solve_for_reference(folder, solution, options)
    elif workload.kind == "cv":
        for k in range(workload.folds):
            fold = make_fold(folder, k)
            solve_for_reference(fold, fold / "solution.npz", options)
    said = subprocess.run(
        [sys.executable, HERE / "referee.py", folder, solution, "--make-reference", path],
        capture_output=True,
        text=True,
    )
    if said.returncode or "refused" in json.loads(said.stdout):
        raise SystemExit(f"bench: {workload.name}: no reference: {said.stdout} {said.stderr}")
    stamp.write_text(key)
    solution.unlink(missing_ok=True)
    for fold in folder.glob("fold-*/*"):
        fold.unlink()
    gap = json.loads(said.stdout)["gap"]
    if gap is not None:
        print(f"  reference: gap {gap:.1e}", file=sys.stderr, flush=True)


def make_fold(folder, k):
    """The training rows of fold k and the first responses, as a path workload of its own."""
    fold = folder / f"fold-{k}"
    fold.mkdir(exist_ok=True)
    train = np.load(folder / "fold_id.npy") != k
    few = slice(0, referee.FEW)
    np.save(fold / "X.npy", np.asfortranarray(np.load(folder / "X.npy")[train]))
    np.save(fold / "Y.npy", np.asfortranarray(np.load(folder / "Y.npy")[train, few]))
    np.save(fold / "grid.npy", np.load(folder / "grid.npy")[few])
    described = {**workloads.describe(folder), "kind": "path", "folds": 0}
    (fold / "workload.json").write_text(json.dumps(described))
    return fold


def solve_for_reference(folder, path, options):
    worker = Worker(folder, OURS, "1e-13", options)
    try:
        worker.receive(CAP)
        worker.ask("run")
        worker.ask(f"solution {path}")
    finally:
        worker.end()


def batches(rows, X_bytes, memory_limit):
    """As many rows at once as memory holds, loosest tolerances first; ours is in every batch."""
    ours = [row for row in rows if row.solver == OURS]
    peers = sorted((row for row in rows if row.solver != OURS), key=lambda row: row.level)
    at_once = max(1, int(memory_limit * 0.6 / (3 * X_bytes + 3e8)) - len(ours))
    result = [ours + peers[k : k + at_once] for k in range(0, len(peers), at_once)]
    return result or [ours]


def run_batch(batch, capped, repeats):
    """Starts every row, times it once and judges it; then the fast ones in rounds."""
    fast = []
    for row in batch:
        try:
            if "status" in row.record:
                continue
            if row.solver in capped:
                raise Failed("capped", f">= {row.options.cap:.0f} s at a looser tolerance")
            if row.worker is None:
                row.start()
            wall = row.run()
            if "verdict" not in row.record:
                row.judge()
            if wall < FAST or row.solver == OURS:
                fast.append((wall, row))
                continue
            if wall < 4 * FAST:
                row.run()
            row.finish()
        except Failed as failure:
            if failure.args[0] == "capped":
                capped.add(row.solver)
            row.finish(*failure.args)
    if fast and max(wall for wall, _ in fast) > 6 * FAST:  # ours alone can be
        repeats = 1
    run_rounds(fast, repeats, QUICK_ROUND_SECONDS if batch[0].options.quick else ROUND_SECONDS)
    return [row for _, row in fast if "status" not in row.record]


def run_rounds(fast, repeats, seconds):
    """fast: [(first wall time, row)]. Until all are settled, or `seconds` for each are spent."""
    deadline = time.monotonic() + seconds * len(fast)
    first = {row: len(row.record["runs"]) - 1 for _, row in fast}
    for done in range(1, repeats):
        fast = [(wall, row) for wall, row in fast if "status" not in row.record]
        left = [row for _, row in fast if not row.settled(first[row])]
        if not left or (done >= LEAST_ROUNDS and time.monotonic() > deadline):
            return
        for wall, row in fast:
            if row not in left and wall > SHORT:
                continue
            try:
                for _ in range(min(5, max(1, int(SHORT / wall)))):
                    row.run()
            except Failed as failure:
                row.finish(*failure.args)


def run_workload(workload, options):
    folder = workloads.prepare(workload, options.command)
    make_reference(workload, folder, options)
    known = package_versions(options.command)
    rows = []
    for solver in TOLERANCES:
        if options.solver and solver not in options.solver:
            continue
        for level, tol in enumerate(tolerances(workload, solver, options)):
            row = Row(workload, folder, solver, tol, options)
            row.level = level
            if solver in options.again or not row.done(known.get(solver)):
                rows.append(row)
    if not rows:
        return
    capped = set()
    X_bytes = (folder / "X.npy").stat().st_size
    for batch in batches(rows, X_bytes, options.memory_limit):
        for row in run_batch(batch, capped, workload.repeats):
            if row.solver != OURS:
                row.finish()
    for row in rows:
        if row.solver == OURS and row.worker and "status" not in row.record:
            row.finish()


def run_all(chosen, options):
    """In order of importance; what does not begin within the budget waits for the next run."""
    start = time.monotonic()
    for k, workload in enumerate(chosen):
        minutes = (time.monotonic() - start) / 60
        if minutes > options.minutes:
            left = ", ".join(w.name for w in chosen[k:])
            print(f"bench: {minutes:.0f} minutes are over; run again for: {left}", file=sys.stderr)
            return
        print(
            f"{k + 1}/{len(chosen)} {workload.name}, at {minutes:.1f} of at most "
            f"{options.minutes:g} minutes",
            file=sys.stderr,
            flush=True,
        )
        run_workload(workload, options)


@functools.cache
def package_versions(command):
    """What each adapter says of its versions."""
    result = {}
    for solver in TOLERANCES:
        words = [
            sys.executable,
            HERE / "peer_worker.py",
            solver,
            "--versions",
            "--command",
            command,
        ]
        said = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        lines = said.stdout.splitlines()
        result[solver] = json.loads(lines[-1]) if lines else {"error": said.stderr[-200:]}
    return result


def machine_rates(cpu):
    """What floors.py measures, on the processor of the rows."""
    one_thread = {**os.environ, **dict.fromkeys(peer_worker.THREAD_VARIABLES, "1")}
    said = subprocess.run(
        ["taskset", "-c", cpu, sys.executable, HERE / "floors.py"],
        env=one_thread,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(said.stdout)


def merge(chosen, options):
    """All rows of the chosen workloads with machine, versions and commit."""
    rows = []
    for workload in chosen:
        for solver in TOLERANCES:
            for tol in tolerances(workload, solver, options):
                path = ROWS / workload.name / f"{solver}-{tol}.json"
                if path.exists():
                    record = json.loads(path.read_text())
                    if record["status"] == "ok":
                        record["seconds"] = row_seconds(record)
                    rows.append(
                        {
                            **record,
                            "title": workload.title,
                            "group": workload.group,
                            "target": workload.target,
                            "axis": workload.axis,
                            "place": workload.place,
                        }
                    )
    return {
        **provenance(),
        "cpu_used": options.cpu,
        "cap": options.cap,
        "versions": package_versions(options.command),
        "rates": machine_rates(options.cpu),
        "rows": rows,
    }


def quote_in_readme(report):
    """Puts the table between the marks of README."""
    readme = workloads.ROOT / "README.md"
    begin, end = "<!-- ./run bench --publish writes this table -->\n", "<!-- end of table -->"
    text = readme.read_text()
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    readme.write_text(f"{head}{begin}{tables.readme(report)}\n{end}{tail}")


def write_pages(report, path):
    """The page and, in a folder beside it, its figures."""
    drawn = figures.draw_all(report, path.with_suffix(""))
    path.write_text(
        tables.page(report, [(title, figure.relative_to(path.parent)) for title, figure in drawn])
        + "\n"
    )
    print(tables.brief(report))
    print(f"\nwritten: {path}")


def main():
    everything = workloads.all_workloads()
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__.split("\n")[0])
    parser.add_argument("--command", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help="every workload, under two hours")
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="NAME",
        choices=[w.name for w in everything],
        help="only this one (repeatable)",
    )
    parser.add_argument(
        "--solver",
        action="append",
        default=[],
        choices=list(TOLERANCES),
        help="only this one (repeatable)",
    )
    parser.add_argument(
        "--again",
        action="append",
        default=[],
        choices=[*TOLERANCES, "all"],
        help="run its rows although they are there (repeatable)",
    )
    parser.add_argument(
        "--figures",
        type=pathlib.Path,
        nargs="?",
        const=True,
        metavar="JSON",
        help="run nothing; tables and figures anew from raw JSON",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="raw JSON to benchmarks/results/peers, page to docs/benchmarks.md, table to README.md",
    )
    parser.add_argument(
        "--against",
        type=pathlib.Path,
        metavar="JSON",
        help="say by how much the factors differ from those of an earlier run",
    )
    parser.add_argument("--cpu", default=str(os.cpu_count() - 1), help="processor to run on")
    parser.add_argument(
        "--memory-limit",
        type=int,
        default=int(0.7 * memory_bytes()),
        help="bytes of address space for a row",
    )
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    parser.add_argument(
        "--minutes",
        type=float,
        help="begin no workload after this (default: 8.5, with --full 100)",
    )
    parser.add_argument(
        "--cap",
        type=float,
        help="seconds after which a call is ended (default: 600, without --full or --workload 20)",
    )
    options = parser.parse_args()
    if options.minutes is None:
        options.minutes = 100 if options.full else 8.5
    options.quick = not (options.full or options.workload)
    if options.cap is None:
        options.cap = QUICK_CAP if options.quick else CAP
    let_blas_choose()
    if "all" in options.again:
        options.again = list(TOLERANCES)
    chosen = [
        w
        for w in everything
        if (w.name in options.workload if options.workload else options.full or w.quick)
    ]
    if options.list:
        for w in everything:
            print(f"{w.name:32} {'quick' if w.quick else 'full':6} {w.title}")
        return 0

    if not options.figures:
        referee.self_test()
        run_all(chosen, options)
    if isinstance(options.figures, pathlib.Path):
        report = json.loads(options.figures.read_text())
    else:
        report = merge(chosen, options)
    raw, page = workloads.SCRATCH / "peers.json", workloads.SCRATCH / "benchmarks.md"
    if options.publish:
        RESULTS.mkdir(parents=True, exist_ok=True)
        raw = RESULTS / f"peers-{report['date'][:10]}.json"
        page = workloads.ROOT / "docs" / "benchmarks.md"
        quote_in_readme(report)
    earlier = json.loads(options.against.read_text()) if options.against else None
    raw.write_text(json.dumps(report, indent=1) + "\n")
    write_pages(report, page)
    if earlier:
        print("\n".join(tables.differences(report, earlier)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

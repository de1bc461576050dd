#!/usr/bin/env python3
"""Plants the faults of faults.py one at a time in a copy of the tree and runs the test that must
fail. Writes results.txt beside this file and exits with 1 unless every fault is killed.

    tests/faults/run_faults.py [--work DIR] [--jobs N] [--only REGEX] [--check]
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import faults

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(__file__).with_name("results.txt")
GROUPS = ["products", "objective and gap", "weights and centring", "factors and standardize",
          "screening and bounds", "selection", "threads and tiles", "readers"]
PROGRAMS = {"relation_tests": "tests/relations/relation_tests",
            "ridge_tests": "tests/ridge/ridge_tests",
            "thresher_library_tests": "tests/library/thresher_library_tests",
            "thresher_readers_tests": "tests/readers/thresher_readers_tests"}
LEAST_PER_GROUP = 5
TEST_SECONDS = 180


def copy_tree(target):
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if name.startswith("tests/data/") or not (ROOT / name).is_file():
            continue
        copy = target / name
        # A copy that differs gets a new time, so that ninja cannot take an old object for its own.
        if copy.is_file() and copy.read_bytes() == (ROOT / name).read_bytes():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
        copy.chmod((ROOT / name).stat().st_mode)
    data = target / "tests/data"  # read only, and large
    if not data.exists():
        data.symlink_to(ROOT / "tests/data")


class Tree:
    def __init__(self, root, jobs):
        self.root = root
        self.jobs = jobs
        self.env = dict(os.environ, CCACHE_BASEDIR=str(root))

    def configure(self):
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        # Quick to compile; -w because a planted fault may leave a parameter unused.
        subprocess.run(["cmake", "-S", self.root, "-B", self.root / "build", "-G", "Ninja",
                        "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
                        "-DCMAKE_CXX_FLAGS=-w", *launcher],
                       check=True, env=self.env, stdout=subprocess.DEVNULL)

    def build(self, programs):
        return subprocess.run(["ninja", "-C", self.root / "build", f"-j{self.jobs}",
                               *sorted(programs)], env=self.env, capture_output=True, text=True)

    def run(self, program, test_filter):
        """Returns (failed, what failed first or why nothing ran)."""
        command = [self.root / "build" / PROGRAMS[program], f"--gtest_filter={test_filter}",
                   "--gtest_fail_fast", "--gtest_brief=1"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TEST_SECONDS,
                                  errors="replace", cwd=self.root)
        except subprocess.TimeoutExpired:
            return True, f"no end after {TEST_SECONDS} s"
        ran = re.search(r"(\d+) tests? from .* ran", done.stdout)
        if done.returncode == 0 and (not ran or ran.group(1) == "0"):
            return False, "the filter matches no test"
        first = re.search(r"\[  FAILED  \] ([^\s,]+)", done.stdout)
        if done.returncode != 0 and not first:
            return True, f"ended with {done.returncode}"
        return done.returncode != 0, first.group(1) if first else ""


def check_list(chosen):
    """Everything wrong with the list itself, against the tree as it stands."""
    problems = []
    for group, name, file, old, new, program, test_filter in chosen:
        count = (ROOT / file).read_text().count(old) if (ROOT / file).is_file() else 0
        if count != 1:
            problems.append(f"{name}: the text occurs {count} times in {file}")
        if group not in GROUPS or program not in PROGRAMS or old == new:
            problems.append(f"{name}: group, program or text is wrong")
        if "R35" in test_filter:
            problems.append(f"{name}: relation 35 does not count")
    return problems


def read_arguments(description, known, check):
    """Returns the arguments and the faults they choose; ends the program if the list is wrong."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", help="folder for the copy, kept afterwards")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="run only the faults whose name matches")
    parser.add_argument("--check", action="store_true", help="only hold the list against the tree")
    args = parser.parse_args()
    chosen = [f for f in known if re.search(args.only, f[1])]
    problems = check(chosen)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        sys.exit(2)
    if args.check or not chosen:
        sys.exit(0)
    return args, chosen


@contextlib.contextmanager
def configured_copy(args):
    """A copy of the tree, ready to be built."""
    with contextlib.ExitStack() as stack:
        work = args.work or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="thresher_faults_"))
        root = pathlib.Path(work).resolve()
        copy_tree(root)
        tree = Tree(root, args.jobs)
        tree.configure()
        yield tree


@contextlib.contextmanager
def planted(tree, fault):
    _, _, file, old, new = fault[:5]
    path = tree.root / file
    original = path.read_text()
    path.write_text(original.replace(old, new))
    try:
        yield
    finally:
        path.write_text(original)


class Tally:
    """Prints outcomes as they come; the list of a whole run goes to a file."""

    def __init__(self, what, groups):
        self.what = what
        self.killed = dict.fromkeys(groups, 0)
        self.lines = []
        self.started = time.monotonic()

    def add(self, outcome, fault, how):
        group, name, file = fault[:3]
        self.killed[group] += outcome == "killed"
        self.lines.append(f"{outcome:9} {group}: {name} ({file}) by {how}")
        print(self.lines[-1], flush=True)

    def finish(self, results):
        """results: the file, or None for a part of the list. Returns whether all were killed."""
        total = sum(self.killed.values())
        per_group = ", ".join(f"{group} {count}" for group, count in self.killed.items())
        summary = f"{total} of {len(self.lines)} planted {self.what} killed ({per_group})"
        print(f"{summary}, {time.monotonic() - self.started:.0f} s")
        if results:
            results.write_text("\n".join(self.lines) + "\n" + summary + "\n")
        return total == len(self.lines)


def outcome_of(tree, program, test_filter):
    """Returns (killed, survived or why neither; what saw it)."""
    built = tree.build({program})
    if built.returncode != 0:
        print(built.stdout[-2000:], file=sys.stderr)
        return "DOES NOT COMPILE", test_filter
    failed, what = tree.run(program, test_filter)
    return "killed" if failed else "SURVIVED", what or test_filter


def main():
    args, chosen = read_arguments(__doc__, faults.FAULTS, check_list)
    with configured_copy(args) as tree:
        tally = Tally("faults", GROUPS)
        built = tree.build({f[5] for f in chosen})
        if built.returncode != 0:
            print(built.stdout[-4000:], file=sys.stderr)
            return 2
        for program, test_filter in sorted({(f[5], f[6]) for f in chosen}):
            failed, what = tree.run(program, test_filter)
            if failed or what:
                print(f"without any fault, {program} {test_filter}: {what}", file=sys.stderr)
                return 2
        for fault in chosen:
            with planted(tree, fault):
                outcome, what = outcome_of(tree, *fault[5:7])
            tally.add(outcome, fault, what)
    all_killed = tally.finish(None if args.only else RESULTS)
    return 0 if all_killed and (args.only or min(tally.killed.values()) >= LEAST_PER_GROUP) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Plants the faults of faults.py one at a time in a copy of the tree and runs the test that must
fail. Writes results.txt beside this file and exits with 1 unless every fault is killed.

    tests/faults/run_faults.py [--work DIR] [--jobs N] [--only REGEX]
"""

import argparse
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
GROUPS = ["objective and gap", "weights and centring", "factors and standardize",
          "screening and bounds", "selection", "threads and tiles", "readers"]
PROGRAMS = {"relation_tests": "tests/relations/relation_tests",
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", help="folder for the copy, kept afterwards")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="run only the faults whose name matches")
    args = parser.parse_args()

    chosen = [f for f in faults.FAULTS if re.search(args.only, f[1])]
    problems = check_list(chosen)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    if not chosen:
        return 0

    temporary = None if args.work else tempfile.TemporaryDirectory(prefix="thresher_faults_")
    root = pathlib.Path(args.work or temporary.name).resolve()
    copy_tree(root)
    tree = Tree(root, args.jobs)
    tree.configure()
    started = time.monotonic()
    built = tree.build({f[5] for f in chosen})
    if built.returncode != 0:
        print(built.stdout[-4000:], file=sys.stderr)
        return 2
    for program, test_filter in sorted({(f[5], f[6]) for f in chosen}):
        failed, what = tree.run(program, test_filter)
        if failed or what:
            print(f"without any fault, {program} {test_filter}: {what}", file=sys.stderr)
            return 2

    lines = []
    killed = dict.fromkeys(GROUPS, 0)
    for group, name, file, old, new, program, test_filter in chosen:
        path = root / file
        original = path.read_text()
        path.write_text(original.replace(old, new))
        built = tree.build({program})
        if built.returncode != 0:
            outcome, what = "DOES NOT COMPILE", ""
            print(built.stdout[-2000:], file=sys.stderr)
        else:
            failed, what = tree.run(program, test_filter)
            outcome = "killed" if failed else "SURVIVED"
        path.write_text(original)
        killed[group] += outcome == "killed"
        lines.append(f"{outcome:9} {group}: {name} ({file}) by {what or test_filter}")
        print(lines[-1], flush=True)

    total = sum(killed.values())
    per_group = ", ".join(f"{group} {count}" for group, count in killed.items())
    summary = f"{total} of {len(chosen)} planted faults killed ({per_group})"
    print(f"{summary}, {time.monotonic() - started:.0f} s")
    if args.only:
        return 0 if total == len(chosen) else 1
    RESULTS.write_text("\n".join(lines) + "\n" + summary + "\n")
    return 0 if total == len(chosen) and min(killed.values()) >= LEAST_PER_GROUP else 1


if __name__ == "__main__":
    sys.exit(main())

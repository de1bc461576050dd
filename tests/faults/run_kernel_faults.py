#!/usr/bin/env python3
"""Plants the faults of kernel_faults.py one at a time in a copy of the tree, builds the emulated
device library with each and runs the test that must fail, by the kind of check that must see it.
Writes kernel_results.txt beside this file and exits with 1 unless every fault is killed.

    tests/faults/run_kernel_faults.py [--work DIR] [--jobs N] [--only REGEX] [--check]
"""

import os
import pathlib
import re
import subprocess
import sys
import time

import kernel_faults
from run_faults import (ROOT, TEST_SECONDS, Tally, configured_copy, planted, read_arguments)

RESULTS = pathlib.Path(__file__).with_name("kernel_results.txt")
FOLDERS = {"relation_tests": "relations", "proximal_tests": "proximal", "ridge_tests": "ridge",
           "kernel_tests": "cuda_on_cpu", "dataset_tests": "datasets",
           "thresher_library_tests": "library"}


class Device:
    """What a fault needs built, and how its test is run."""

    def __init__(self, fault):
        self.program, self.test_filter, self.noticed = fault[5:]
        flavour = "checked" if self.noticed in kernel_faults.REPORTS else "emulated"
        self.library = f"thresher_cuda_{flavour}"
        if self.program == "kernel_tests":  # contains the kernels
            self.executable = "kernel_tests_checked" if flavour == "checked" else "kernel_tests"
            self.targets = {self.executable}
        else:
            self.executable = self.program
            self.targets = {self.library}

    def run(self, tree, streams="lazy"):
        """Returns (what failed first or was reported, everything that was printed)."""
        tests = tree.root / "build/tests"
        command = [tests / FOLDERS[self.program] / self.executable,
                   f"--gtest_filter={self.test_filter}", "--gtest_fail_fast", "--gtest_brief=1"]
        env = dict(os.environ, OPENBLAS_NUM_THREADS="1", THRESHER_TEST_DEVICE="cuda",
                   THRESHER_EMULATOR_STRICT="1", THRESHER_EMULATOR_STREAMS=streams,
                   THRESHER_CUDA_LIBRARY=str(tests / f"cuda_on_cpu/lib{self.library}.so"))
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=env,
                                  timeout=TEST_SECONDS, errors="replace", cwd=tree.root)
        except subprocess.TimeoutExpired:
            return f"no end after {TEST_SECONDS} s", ""
        printed = done.stdout + done.stderr
        ran = re.search(r"(\d+) tests? from .* ran", done.stdout)
        passed = re.search(r"\[  PASSED  \] (\d+) test", done.stdout)
        if done.returncode == 0 and (not ran or not passed or passed.group(1) == "0"):
            return "the filter matches no test, or it skips", printed
        first = re.search(r"\[  FAILED  \] ([^\s,]+)", done.stdout)
        if done.returncode != 0 and not first:
            return f"ended with {done.returncode}", printed
        return first.group(1) if first else "", printed


def check_list(chosen):
    problems = []
    for group, name, file, old, new, program, _, noticed in chosen:
        count = (ROOT / file).read_text().count(old) if (ROOT / file).is_file() else 0
        if count != 1:
            problems.append(f"{name}: the text occurs {count} times in {file}")
        if (group not in kernel_faults.GROUPS or program not in FOLDERS or old == new
                or noticed not in kernel_faults.NOTICED):
            problems.append(f"{name}: group, program, check or text is wrong")
    return problems


def outcome_of(tree, device):
    """Returns (killed, survived or why neither; what saw it)."""
    built = tree.build(device.targets)
    if built.returncode != 0:
        print(built.stdout[-2000:], file=sys.stderr)
        return "DOES NOT COMPILE", ""
    first, printed = device.run(tree)
    if not first:
        return "SURVIVED", device.test_filter
    seen = re.search(kernel_faults.NOTICED[device.noticed], printed)
    if not seen:
        print(printed[-1500:], file=sys.stderr)
        return "OTHERWISE", first
    if device.noticed == "order":
        eager, _ = device.run(tree, streams="eager")
        if eager:
            return "OTHERWISE", f"{first}, under eager streams too"
    if first.startswith("ended with"):
        first = device.test_filter
    return "killed", first


def main():
    args, chosen = read_arguments(__doc__, kernel_faults.KERNEL_FAULTS, check_list)
    with configured_copy(args) as tree:
        if "thresher_cuda_checked" not in (tree.root / "build/build.ninja").read_text():
            print("skipped: the emulated device is not built (no headers of the CUDA toolkit)")
            return 0
        tally = Tally("kernel faults", kernel_faults.GROUPS)
        devices = [Device(f) for f in chosen]
        built = tree.build({t for d in devices for t in (*d.targets, d.executable)})
        if built.returncode != 0:
            print(built.stdout[-4000:], file=sys.stderr)
            return 2
        for key in sorted({(d.library, d.executable, d.test_filter) for d in devices}):
            device = next(d for d in devices if (d.library, d.executable, d.test_filter) == key)
            what, printed = device.run(tree)
            if what:
                print(f"without any fault, {' '.join(key)}: {what}\n{printed[-2000:]}",
                      file=sys.stderr)
                return 2
        for fault, device in zip(chosen, devices):
            start = time.monotonic()
            with planted(tree, fault):
                outcome, what = outcome_of(tree, device)
            tally.add(outcome, fault,
                      f"{device.noticed}, {what}, {time.monotonic() - start:.0f} s")
    all_killed = tally.finish(None if args.only else RESULTS)
    enough = args.only or all(tally.killed[group] >= least
                              for group, least in kernel_faults.GROUPS.items())
    return 0 if all_killed and enough else 1


if __name__ == "__main__":
    sys.exit(main())

"""Where a record comes from: date, commit and machine. Standard library only."""

import datetime
import functools
import os
import pathlib
import platform
import re
import subprocess

# Set on some machines to keep old OpenBLAS builds from kernels they cannot run; every program is
# timed with the kernels that its own BLAS picks, and its results are checked.
BLAS_CHOICES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

ROOT = pathlib.Path(__file__).resolve().parent.parent


# What a benchmark writes: its own results do not make the tree another one than the commit.
WRITTEN = ("benchmarks/results", "docs/benchmarks*", "README.md")


def now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def output_of(*words):
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def cpu_model():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    return found[1].strip() if found else platform.machine()


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def let_blas_choose():
    """For this process's children: no BLAS is told which kernels to take."""
    for name in BLAS_CHOICES:
        os.environ.pop(name, None)


@functools.cache
def source():
    """The commit, and whether tracked files other than WRITTEN differ from it."""
    others = (".", *(f":(exclude){path}" for path in WRITTEN))
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", "--", *others)
    return {"commit": output_of("git", "rev-parse", "HEAD"), "modified": bool(changed)}


def provenance():
    """The entries that every record begins with."""
    return {
        "date": now(),
        **source(),
        "machine": {
            "cpu": cpu_model(),
            "cpus": os.cpu_count(),
            "memory_bytes": memory_bytes(),
            "kernel": platform.release(),
        },
    }

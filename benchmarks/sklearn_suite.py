"""scikit-learn's own tests of coordinate descent and ridge, through thresher.accel.

Prints the pass rate, the exceptions (tests/python/sklearn_exceptions.py) and the share of calls
that were left to scikit-learn; --record also writes benchmarks/results/python/. Exit status 1 if a
test failed that is no exception, or an exception passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sklearn

import thresher

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("test_coordinate_descent", "test_ridge")


def run(module):
    """(exit status, record, output) of one test module under thresher.accel."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        path = [str(ROOT / "tests" / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "THRESHER_SUITE_RECORD": str(record),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "thresher.accel", "-p", "sklearn_exceptions"]
        command += ["--pyargs", f"sklearn.linear_model.tests.{module}"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found = json.loads(record.read_text()) if record.exists() else {}
        return done.returncode, found, done.stdout


def commit():
    """The commit of the working tree, with "+" if it has changes; None outside of git."""
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"]
    done = subprocess.run(describe, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def shares(calls):
    """Calls, those left to scikit-learn, and the same without MultiTask."""
    out = {}
    for title, wanted in (("all", lambda _: True), ("no_multi_task", lambda n: "Multi" not in n)):
        here = sum(entry["thresher"] for name, entry in calls.items() if wanted(name))
        left = sum(
            sum(entry["scikit-learn"].values()) for name, entry in calls.items() if wanted(name)
        )
        out[title] = {
            "calls": here + left,
            "left_to_scikit_learn": left,
            "share": left / (here + left),
        }
    return out


def merged(records):
    """The counts of several modules added up."""
    out = {}
    for calls in records:
        for name, entry in calls.items():
            into = out.setdefault(name, {"thresher": 0, "scikit-learn": {}})
            into["thresher"] += entry["thresher"]
            for reason, count in entry["scikit-learn"].items():
                reasons = into["scikit-learn"]
                reasons[reason] = reasons.get(reason, 0) + count
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/python/")
    parser.add_argument("--json", action="store_true", help="print the record as JSON only")
    given = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(MODULES, pool.map(run, MODULES), strict=True))
    status = 0
    for module, (code, found, output) in results.items():
        if code != 0 or not found:
            status = 1
            print(f"{module}: exit status {code}\n{output[-6000:]}", file=sys.stderr)
    if any(not found for _, found, _ in results.values()):
        return 1
    calls = merged(found["calls"] for _, found, _ in results.values())
    record = {
        "scikit_learn": sklearn.__version__,
        "thresher": thresher.__version__,
        "commit": commit(),
        "modules": {
            module: {
                **{key: found[key] for key in ("outcomes", "exceptions", "failed")},
                "shares": shares(found["calls"]),
            }
            for module, (_, found, _) in results.items()
        },
        "shares": shares(calls),
        "calls": calls,
    }
    if given.json:
        print(json.dumps(record))
        return status
    for module, entry in record["modules"].items():
        outcomes = entry["outcomes"]
        ran = outcomes["passed"] + outcomes["failed"] + len(entry["exceptions"])
        print(
            f"{module}: {outcomes['passed']} of {ran} passed, {outcomes['failed']} failed, "
            f"{len(entry['exceptions'])} exceptions, {outcomes['skipped']} skipped by scikit-learn"
        )
    for title, share in record["shares"].items():
        left = share["left_to_scikit_learn"]
        print(f"{title}: {share['calls']} calls, {left} left to scikit-learn, {share['share']:.1%}")
    if given.record:
        folder = ROOT / "benchmarks" / "results" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"sklearn-suite-{sklearn.__version__}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(path)
    return status


if __name__ == "__main__":
    sys.exit(main())

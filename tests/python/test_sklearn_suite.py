"""scikit-learn's own tests through the drop-in: all pass but a short list, few calls fall back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn
from sklearn_exceptions import EXCEPTIONS, VERSION

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "sklearn_suite.py"

# Why a call on dense data may fall back at all; none is a plain Lasso, ElasticNet or Ridge.
REASONS = (
    "positive=True",
    "solver=",
    "MultiTask: ",
    "several responses",
    "check_input=False and X not in Fortran order",
    "an estimator of its own",
    "deprecated alphas or n_alphas",
    "parameters: ",
    "gcv_mode='svd' with sparse X",
)


def test_at_most_five_exceptions():
    assert len(EXCEPTIONS) <= 5
    assert all(EXCEPTIONS.values())


@pytest.mark.skipif(
    sklearn.__version__ != VERSION, reason=f"the exceptions are those of scikit-learn {VERSION}"
)
def test_scikit_learns_tests_pass_and_few_calls_fall_back(capsys):
    done = subprocess.run(
        [sys.executable, SUITE, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    for entry in record["modules"].values():
        assert entry["outcomes"]["failed"] == entry["outcomes"]["error"] == 0
        assert entry["outcomes"]["passed"] > 250
    assert record["shares"]["all"]["share"] <= 0.2
    for name, entry in record["calls"].items():
        for reason in entry["scikit-learn"]:
            assert reason.startswith(REASONS), f"{name}: {reason}"
    for name in ("Lasso", "ElasticNet", "Ridge"):
        assert record["calls"][name]["thresher"] > 0
    with capsys.disabled():
        share = record["shares"]["all"]
        print(f"\n{share['calls']} calls, {share['share']:.1%} left to scikit-learn")

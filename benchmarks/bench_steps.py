#!/usr/bin/env python3
"""Runs step_benchmarks and prints one table: each step against the measured ceilings.

The record (raw results, machine, commit, ceilings) goes to build/bench/steps.json with the table
beside it; with --keep to benchmarks/results/steps/steps-<date>.json. Exit code 1 if a step was wrong.
Standard library only.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

from provenance import ROOT, provenance

CEILINGS = {
    "copy_l2_bytes_a_second": "copy in L2, GB/s",
    "copy_l3_bytes_a_second": "copy in L3, GB/s",
    "copy_memory_bytes_a_second": "copy in memory, GB/s",
    "dgemm_flops_a_second": "gemm in double, Gflop/s",
    "sgemm_flops_a_second": "gemm in single, Gflop/s",
}


def run_program(options, raw, more=()):
    words = [str(options.program), f"--benchmark_out={raw}", "--benchmark_out_format=json"]
    if options.cpu is not None:
        words = ["taskset", "-c", str(options.cpu), *words]
    done = subprocess.run([*words, *more], stdout=sys.stderr)
    if done.returncode not in (0, 1) or not raw.exists():
        raise SystemExit(f"bench_steps: {options.program} failed with {done.returncode}")
    return done.returncode, json.loads(raw.read_text())


def medians(results):
    """The median of each step's repetitions with its spread (cv), or the step as it was run once."""
    steps = {}
    for entry in results["benchmarks"]:
        name = re.sub(r"/(iterations:\d+|repeats:\d+|manual_time)", "", entry["run_name"])
        step = steps.setdefault(name, {})
        kind = entry.get("aggregate_name", "median")
        if kind == "median":
            step.update(entry)
        elif kind == "cv":
            step["spread"] = entry["real_time"]
    return steps


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}g}"


def table(record):
    context = record["results"]["context"]
    lines = [
        f"{record['machine']['cpu']}, {record['machine']['cpus']} processors, processor "
        f"{record['cpu_used']} used; commit {record['commit']}"
        f"{' and changes' if record['modified'] else ''}; {record['date']}; loops "
        f"{context['loops']}; load {record['load']}.",
        "",
        "Ceilings, the best of several: "
        + "; ".join(f"{text} {1e-9 * float(context[key]):.3g}" for key, text in CEILINGS.items())
        + ".",
        "",
        "| step | ms | spread | GB/s | Gflop/s | of copy | of gemm |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, step in medians(record["results"]).items():
        if step.get("error_occurred"):
            lines.append(f"| {name} | {step['error_message']} | | | | | |")
            continue
        spread = f"{100 * step['spread']:.0f} %" if "spread" in step else "-"
        shares = [
            f"{step[share]:.0f} %" if share in step else "-" for share in ("of_copy", "of_gemm")
        ]
        lines.append(
            f"| {name} | {number(step['real_time'])} | {spread} | {number(step.get('GB/s'))} | "
            f"{number(step.get('Gflop/s'))} | {shares[0]} | {shares[1]} |"
        )
    return "\n".join(lines) + "\n"


def rehearse(options):
    """Tiny sizes; every step must be right, and one that is wrong on purpose must be refused."""
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    quick = ["--small", "--benchmark_min_time=0.001"]
    status, results = run_program(options, folder / "right.json", quick)
    failed = [e["name"] for e in results["benchmarks"] if e.get("error_occurred")]
    if status != 0 or failed or len(results["benchmarks"]) < 10:
        raise SystemExit(f"bench_steps: status {status}, wrong steps: {failed}")
    print(table(record_of(options, results)))
    quick += ["--wrong", "--benchmark_filter=wrong_on_purpose"]
    status, results = run_program(options, folder / "wrong.json", quick)
    entry = results["benchmarks"][0]
    if status != 1 or not entry.get("error_occurred") or "GB/s" in entry:
        raise SystemExit("bench_steps: a wrong step was not refused")


def record_of(options, results):
    return {
        **provenance(),
        "cpu_used": "any" if options.cpu is None else str(options.cpu),
        "load": f"{os.getloadavg()[0]:.1f}",
        "results": results,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--cpu", type=int, help="run on this processor alone")
    parser.add_argument("--filter", default=".", help="regular expression: only these steps")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results/steps")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, for the tests")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "bench")
    options = parser.parse_args()
    if options.rehearse:
        rehearse(options)
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    status, results = run_program(
        options,
        options.output / "steps-raw.json",
        ["--benchmark_min_time=0.2", "--benchmark_repetitions=5",
         "--benchmark_report_aggregates_only=true", f"--benchmark_filter={options.filter}"],
    )
    record = record_of(options, results)
    path = options.output / "steps.json"
    if options.keep:
        path = ROOT / "benchmarks" / "results" / "steps" / f"steps-{record['date'][:10]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(record))
    print(table(record))
    print(f"record: {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())

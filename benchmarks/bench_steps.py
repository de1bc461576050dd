#!/usr/bin/env python3
"""Prints each step against the measured ceilings: one table for the CPU, one for the device.

The CPU's steps are timed by step_benchmarks. Where a GPU is, the stages of gpu_check that time its
kernels follow.

The record (raw results, machine, commit, ceilings) goes to build/bench/steps.json with the table
beside it; with --keep to benchmarks/results/steps/steps-<date>.json. Exit code 1 if a step was
wrong. Standard library only.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import gpu_check
from provenance import ROOT, let_blas_choose, provenance

CEILINGS = {
    "copy_l2_bytes_a_second": "copy in L2, GB/s",
    "copy_l3_bytes_a_second": "copy in L3, GB/s",
    "copy_memory_bytes_a_second": "copy in memory, GB/s",
    "dgemm_flops_a_second": "gemm in double, Gflop/s",
    "sgemm_flops_a_second": "gemm in single, Gflop/s",
}
HEADING = (
    "| step | ms | spread | GB/s | Gflop/s | of copy | of gemm |",
    "|---|---|---|---|---|---|---|",
)
DEVICE_SECONDS = 180


SEAMS = ("residual_backend.", "gram_backend.", "proximal_backend.", "spectrum_backend.",
         "spectrum.")


def run_program(options, raw, more=()):
    program = options.built / "benchmarks" / "step_benchmarks"
    words = [str(program), f"--benchmark_out={raw}", "--benchmark_out_format=json"]
    if options.cpu is not None:
        words = ["taskset", "-c", str(options.cpu), *words]
    done = subprocess.run([*words, *more], stdout=sys.stderr)
    if done.returncode not in (0, 1) or not raw.exists():
        raise SystemExit(f"bench_steps: {program} failed with {done.returncode}")
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


def why_no_device(options):
    """Why no kernel can be timed here, or None."""
    if options.rehearse:
        needed = "device_benchmarks_emulated"
    else:
        needed = "device_benchmarks"
        if shutil.which("nvidia-smi") is None:
            return "no NVIDIA driver is installed (nvidia-smi was not found)"
        if subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.DEVNULL).returncode != 0:
            return "nvidia-smi finds no GPU"
    if not (options.built / "benchmarks" / needed).exists():
        return f"{needed} is not built (it needs the CUDA toolkit)"
    return None


def device_record(options):
    """What gpu_check finds out about kernels alone; {"skipped": why} without a device."""
    reason = why_no_device(options)
    if reason is not None:
        return {"skipped": reason}
    check = gpu_check.Check(argparse.Namespace(
        rehearse=options.rehearse, cmake=[], built=options.built, seconds=DEVICE_SECONDS))
    try:
        check.stage("machine", 20, check.machine)
        check.kernels()
    finally:
        shutil.rmtree(check.scratch, ignore_errors=True)
    return check.record


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}g}"


def line(name, seconds, spread, rates, shares):
    """A row of a table; rates in GB/s and Gflop/s, shares of copy and of gemm in percent."""
    shares = ["-" if share is None else f"{share:.0f} %" for share in shares]
    cells = [name, number(1e3 * seconds), spread, *map(number, rates), *shares]
    return "| " + " | ".join(cells) + " |"


def bad_stages(device):
    return [f"{name}: {stage['status']}" for name, stage in device.get("stages", {}).items()
            if stage["status"] != "passed"]


def device_table(device):
    """The kernels: one by one with a cold cache, then those of whole paths, summed up."""
    if "skipped" in device:
        return [f"Device: skipped: {device['skipped']}."]
    stages = device["stages"]
    if bad_stages(device):
        return ["Device: " + "; ".join(bad_stages(device))]
    rates = stages["ceilings"]["rates"]
    lines = [
        f"{device['gpu']}. Ceilings: "
        + "; ".join(f"{name} {1e-9 * rate:.3g}" for name, rate in rates.items())
        + f" (GB/s for copy, else Gflop/s). Spread: largest less "
        f"least. Paths: {stages['replay']['slots']} at a time, the sum of all rounds.",
        "",
        *HEADING,
    ]
    for kernel in stages["elementwise"]["kernels"]:
        spread = f"{100 * (kernel['most'] - kernel['least']) / kernel['seconds']:.0f} %"
        lines.append(line(
            f"{kernel['name']}/{kernel['rows']}x{kernel['columns']}", kernel["seconds"], spread,
            [1e-9 * kernel["bytes_a_second"], None], [100 * kernel["share_of_copy"], None]))
    for name, step in stages["replay"]["steps"].items():
        if not step["seconds"]:
            continue
        moved, done = step["bytes"] / step["seconds"], step["flops"] / step["seconds"]
        gemm = rates["half_gemm_certification" if name == "gemm" else "dgemm"]
        lines.append(line(
            f"paths.{name}", step["seconds"], "-", [1e-9 * moved, 1e-9 * done if done else None],
            [100 * moved / rates["copy"], 100 * done / gemm if done else None]))
    return lines


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
        *HEADING,
    ]
    for name, step in medians(record["results"]).items():
        if step.get("error_occurred"):
            lines.append(f"| {name} | {step['error_message']} | | | | | |")
            continue
        spread = f"{100 * step['spread']:.0f} %" if "spread" in step else "-"
        lines.append(line(name, 1e-3 * step["real_time"], spread,
                          [step.get("GB/s"), step.get("Gflop/s")],
                          [step.get("of_copy"), step.get("of_gemm")]))
    return "\n".join([*lines, "", *device_table(record["device"])]) + "\n"


def rehearse(options):
    """Tiny sizes; every step must be right, and those wrong on purpose must be refused."""
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    quick = ["--small", "--benchmark_min_time=0.001"]
    status, results = run_program(options, folder / "right.json", quick)
    failed = [e["name"] for e in results["benchmarks"] if e.get("error_occurred")]
    names = medians(results)
    missing = [s for s in SEAMS if not any(name.startswith(s) for name in names)]
    if status != 0 or failed or missing:
        raise SystemExit(f"bench_steps: status {status}, wrong: {failed}, missing: {missing}")
    record = record_of(options, results)
    print(table(record))
    if bad_stages(record["device"]):
        raise SystemExit(f"bench_steps: {bad_stages(record['device'])}")
    quick += ["--wrong", "--benchmark_filter=wrong_on_purpose"]
    status, results = run_program(options, folder / "wrong.json", quick)
    entries = results["benchmarks"]
    timed = [e["name"] for e in entries if not e.get("error_occurred") or "GB/s" in e]
    if status != 1 or timed or len(entries) < 2:
        raise SystemExit(f"bench_steps: wrong steps were not refused: {timed}")


def record_of(options, results):
    return {
        **provenance(),
        "cpu_used": "any" if options.cpu is None else str(options.cpu),
        "load": f"{os.getloadavg()[0]:.1f}",
        "results": results,
        "device": device_record(options),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--built", type=pathlib.Path, required=True, help="the folder of a build")
    parser.add_argument("--cpu", type=int, help="run on this processor alone")
    parser.add_argument("--filter", default=".", help="regular expression: only these steps")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results/steps")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, for the tests")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "bench")
    options = parser.parse_args()
    if options.rehearse:
        rehearse(options)
        return 0
    let_blas_choose()
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
    return 1 if bad_stages(record["device"]) else status


if __name__ == "__main__":
    sys.exit(main())

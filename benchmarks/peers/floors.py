"""What a workload has to cost at least on this machine: counted work over measured rates.

As a program it measures the rates, one thread: {"flops": matrix product in double a second,
"bytes": copied bytes (read and written) a second}, as JSON.
"""

import json
import time

# Least work of our own method, per step (docs/performance.md says where each comes from).
# n rows, p features, k support, m = min(n, p); folds have n_t training and n_h held-out rows.


def counted(row):
    """(flops, bytes) of one of our rows, or None if it says nothing of its supports."""
    counts = row.get("counts")
    if not counts or row["status"] != "ok":
        return None
    n, p = counts["n_samples"], counts["n_features"]
    responses, folds, lambdas = (
        counts["n_responses"],
        counts["n_folds"],
        counts["n_lambdas"],
    )
    held = n / folds if folds else 0.0
    bytes_moved = 8.0 * n * p  # X is read once
    if counts["engine"] == "ridge":
        flops = ridge(n, p, responses, folds, held, lambdas)
    elif counts["mode"] == "gram":
        flops = gram(n, p, responses, folds, held, counts["support"])
    else:
        flops = residual(n, responses, folds, held, counts["support"])
        bytes_moved += 4.0 * n * p  # its half-precision copy is written, and read once
    return flops, bytes_moved


def ridge(n, p, responses, folds, held, lambdas):
    """Gram matrices (with p > n those of folds are parts of one), eigenpairs, held-out predictions at
    the few lambdas from which the others follow; coefficients at the two lambdas that are chosen."""
    m = min(n, p)
    grams = 1 if p > n else 1 + folds
    predictions = folds * 2 * held * m * responses * min(lambdas, 10)
    return grams * n * p * m + (1 + folds) * 9 * m**3 + predictions + responses * 4 * m * p


def gram(n, p, responses, folds, held, support):
    """X'WX of every weighting, or of the support where one path has it alone (decision 0013);
    residuals and correlations from X; held-out residuals."""
    alone = responses == 1 and not folds and p >= 256
    grows = alone and (n >= 20 * p or (n >= 5 * p and p > 10 * len(support)))
    side = max(support) if grows else p
    matrices = n * side**2 + folds * (n - held) * p**2
    certificates = responses * sum(4 * n * k for k in support)
    return matrices + certificates + responses * folds * sum(2 * held * k for k in support)


def residual(n, responses, folds, held, support):
    """For every path: Gram rows and factor of the largest support, a residual and a gradient of
    the support at every lambda."""
    paths = [n] + [n - held] * folds
    largest = max(support)
    total = 0.0
    for rows in paths:
        side = min(rows, largest)
        total += side**2 * max(rows, largest) + side**3 / 3
        total += sum(4 * rows * k for k in support)
    return responses * total


def table(rows, rates):
    """Lines of the section "Distance to the floor": one of our rows for each workload."""
    lines = []
    for mine in rows:
        work = counted(mine)
        if not work:
            continue
        flops, moved = work
        floor = max(flops / rates["flops"], moved / rates["bytes"])
        lines.append(
            f"| {mine['title']} | {mine['counts']['engine']}, {mine['counts']['mode']} "
            f"| {max(mine['counts']['support']):.0f} | {flops / 1e9:.3g} | {moved / 1e9:.3g} "
            f"| {floor:.3g} | {mine['seconds']:.3g} | {mine['seconds'] / floor:.1f} |"
        )
    if not lines:
        return []
    return [
        "",
        "### Distance to the floor",
        "",
        f"Least work of our method, counted (`benchmarks/peers/floors.py`), over rates measured in "
        f"the same run: {rates['flops'] / 1e9:.0f} Gflop/s (matrix product in double), "
        f"{rates['bytes'] / 1e9:.1f} GB/s (copy in memory). Support: the largest of the path, mean "
        "over responses. [performance.md](performance.md) says where the rest goes.",
        "",
        "| workload | engine, mode | support | Gflop | GB | floor, s | Thresher, s | times |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
    ]


def measure():
    import numpy as np

    def best(call, rounds=7):
        call()
        times = []
        for _ in range(rounds):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    side = 1500
    A = np.asfortranarray(np.random.default_rng(1).standard_normal((side, side)))
    C = np.empty_like(A)
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    return {
        "flops": 2 * side**3 / best(lambda: np.matmul(A, A, out=C)),
        "bytes": 2 * source.nbytes / best(lambda: np.copyto(target, source)),
    }


if __name__ == "__main__":
    print(json.dumps(measure()))

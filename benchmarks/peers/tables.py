"""docs/benchmarks.md from the raw rows."""

import math

import floors

OURS = "thresher"
OUR_TOL = "1e-9"
EQUAL_GAP = 1e-9
EXPLAINED = {
    "ok": "",
    "capped": "stopped at the cap",
    "memory": "out of memory",
    "failed": "failed",
    "refused": "refused by the referee",
}


def by_workload(report):
    """{workload: its rows}, in the order of the report."""
    result = {}
    for row in report["rows"]:
        result.setdefault(row["workload"], []).append(row)
    return result


def compared(report):
    """Without the rows that have no peers."""
    return {**report, "rows": [row for row in report["rows"] if not row["axis"]]}


def finished(rows):
    return [r for r in rows if r["status"] == "ok"]


def ours(rows):
    """Our row at OUR_TOL, or None."""
    return next((r for r in finished(rows) if r["solver"] == OURS and r["tol"] == OUR_TOL), None)


def fastest(rows, keep):
    chosen = [r for r in finished(rows) if r["solver"] != OURS and keep(r)]
    return min(chosen, key=lambda r: r["seconds"], default=None)


def equal_peer(rows):
    """The fastest peer whose judged gap is at most EQUAL_GAP."""
    return fastest(rows, lambda r: r["verdict"]["gap"] <= EQUAL_GAP)


def default_peer(rows):
    return fastest(rows, lambda r: r["tol"] == "default")


def close_peer(rows):
    """The fastest peer within EQUAL_GAP of the optimum, whatever its gap."""
    return fastest(rows, lambda r: r["verdict"].get("suboptimality", math.inf) <= EQUAL_GAP)


def least_cap(rows, report):
    """What is known of peers that hit the cap: none of them was faster than it."""
    capped = [r for r in rows if r["status"] == "capped" and r["solver"] != OURS]
    return min((r.get("cap", report["cap"]) for r in capped), default=None)


def seconds(row):
    text = f"{row['seconds']:.3g}"
    return f"{text} (sample)" if row.get("sampled") else text


def named(row):
    return row["solver"] if row["tol"] == "default" else f"{row['solver']} {row['tol']}"


def summary_line(title, rows, report):
    mine = ours(rows)
    if mine is None:
        return f"| {title} | not run | | | | | | | | |"
    cells = [title, f"{mine['seconds']:.3g}", f"{mine['verdict']['gap']:.0e}"]
    target = rows[0]["target"]
    equal, cap = equal_peer(rows), least_cap(rows, report)
    if equal:
        factor = equal["seconds"] / mine["seconds"]
        missed = target and factor < target
        cells += [
            named(equal),
            seconds(equal),
            f"**{factor:.1f}**" + (" (missed)" if missed else ""),
        ]
    elif cap:
        cells += ["none", f">= {cap:.0f}", f"> {cap / mine['seconds']:.0f}"]
    else:
        cells += ["none", "", ""]
    cells.append(f"{target:g}" if target else "")
    default = default_peer(rows)
    if default:
        cells += [
            f"{default['solver']} ({default['verdict']['gap']:.0e})",
            seconds(default),
            f"**{default['seconds'] / mine['seconds']:.1f}**",
        ]
    else:
        cells += ["none", "", ""]
    return "| " + " | ".join(cells) + " |"


def growth(report):
    """Our time and memory along each axis of the scaling rows."""
    rows = [r for r in finished(report["rows"]) if r["axis"]]
    if not rows:
        return []
    lines = [
        "",
        "### How cost grows",
        "",
        "Thresher alone: 200 x 2,000, 16 responses (64 along threads, 4 along n and p), 5 folds, "
        "50 lambdas, one of them varied. In tiles: with --max-memory 24M. Power: of the time, from "
        "the row above.",
        "",
        "| axis | value | s | power | memory added, MB |",
        "|---|---|---|---|---|",
    ]
    before = None
    for row in rows:
        power = ""
        if before and before["axis"] == row["axis"]:
            ratio = row["seconds"] / before["seconds"]
            power = f"{math.log(ratio) / math.log(row['place'] / before['place']):.2f}"
        lines.append(
            f"| {row['axis']} | {row['place']:g} | {row['seconds']:.3g} | {power} "
            f"| {row['added_bytes'] / 1e6:.1f} |"
        )
        before = row
    return lines


def distances(report):
    """Our time over the floor of each workload; records before 2026-11-28 have no rates."""
    mine = [ours(rows) for rows in by_workload(compared(report)).values()]
    return floors.table([row for row in mine if row], report["rates"]) if "rates" in report else []


def summary(report):
    lines = []
    groups = {}
    for rows in by_workload(compared(report)).values():
        groups.setdefault(rows[0]["group"], []).append(rows)
    for group, members in groups.items():
        lines += [
            "",
            f"### {group[0].upper()}{group[1:]}",
            "",
            "| workload | Thresher, s | its gap | best peer at gap <= 1e-9 | s | factor "
            "| wanted | fastest at its default (gap) | s | factor |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [summary_line(rows[0]["title"], rows, report) for rows in members]
    return lines


def shown(value, form):
    return "" if value is None else format(value, form)


def detail(rows):
    lines = [
        "| solver | tol | s | gap | above optimum | false / missing features "
        "| peak MB | added MB | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = row.get("verdict", {})
        if row["status"] == "ok":
            features = ""
            if "false_features" in verdict:
                features = f"{verdict['false_features']} / {verdict['missing_features']}"
            note = f"{len(row['runs'])} runs"
            if row["sampled"]:
                note += f", sample, times {row['scale']:g}"
            if "cv_regret" in verdict:
                note += f", choice {verdict['cv_regret']:.0e} above the least error"
            if "cv_error_difference" in verdict:
                note += f", errors differ by {verdict['cv_error_difference']:.0e}"
            above = verdict.get("suboptimality")
            cells = [
                row["solver"],
                row["tol"],
                f"{row['seconds']:.3g}",
                f"{verdict['gap']:.1e}",
                shown(above if above is None else max(above, 0.0), ".1e"),
                features,
                f"{row['peak_bytes'] / 1e6:.0f}",
                f"{row['added_bytes'] / 1e6:.0f}",
                note,
            ]
        else:
            reason = row["reason"].replace("|", "/").replace("\n", " ")[:120]
            time = reason if row["status"] == "capped" else ""
            note = EXPLAINED[row["status"]] + ("" if row["status"] == "capped" else f": {reason}")
            cells = [row["solver"], row["tol"], time, "", "", "", "", "", note]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sources(report):
    """Which commits, and builds of ours, the rows are from; nothing where there is only one."""
    found = {"Thresher": {}, "peers": {}}
    for row in finished(report["rows"]):
        own = row["solver"] == OURS
        source = f"build {row['versions']['build']}, " if own else ""
        source += f"commit {row['commit'][:12]}" if "commit" in row else "commit not recorded"
        source += ", modified" if row.get("modified") else ""
        found["Thresher" if own else "peers"].setdefault(source, []).append(row["workload"])
    lines = []
    for whose, rows_of in found.items():
        most, *others = sorted(rows_of, key=lambda source: -len(rows_of[source])) or [""]
        if others:
            told = [f"{source} in {', '.join(sorted(set(rows_of[source])))}" for source in others]
            lines += ["", f"Rows of {whose}: {'; '.join(told)}; elsewhere {most}."]
    return lines


def page(report, drawn):
    """The page; drawn: [(title, path relative to the page)]."""
    machine = report["machine"]
    versions = {
        name: said.get(name, said.get("error", "?")) for name, said in report["versions"].items()
    }
    lines = [
        "# Benchmarks",
        "",
        "Generated by `./run bench` from raw JSON; [peers.md](peers.md) says what is measured "
        "and how.",
        "",
        f"{machine['cpu']}, {machine['cpus']} processors, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; one thread, pinned to processor "
        f"{report['cpu_used']}; {report['date'][:10]}, commit {report['commit'][:12]}"
        f"{', modified' if report['modified'] else ''}.",
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        *sources(report),
        "",
        "Seconds: the lower quartile of a row's runs. "
        "Gap: the worst relative duality gap over all lambdas, computed by the referee from the "
        "coefficients alone. Factor: peer's seconds over ours; bold where both were measured. "
        "`>= 600` is a call that was stopped at the cap. (sample): a peer that loops over "
        "responses got a sample of them, its time is scaled up to all.",
        "",
        "Not compared: biglasso (no Debian package, and CRAN could not be reached where this was "
        "written); cuML and himalaya on CuPy (they need a GPU).",
        *summary(report),
        *distances(report),
        *growth(report),
        "",
    ]
    for title, path in drawn:
        lines += [f"### {title}", "", f"![{title}]({path})", ""]
    lines += ["## Every row", ""]
    for rows in by_workload(report).values():
        lines += [f"### {rows[0]['title']} ({rows[0]['workload']})", "", *detail(rows), ""]
    return "\n".join(lines)


def readme(report):
    """The table of README: every row that has peers, but for single lambdas and data sets."""
    lines = [
        "| problem | Thresher, s | at equal gap | factor | at its default (gap) | factor |",
        "|---|---|---|---|---|---|",
    ]
    for rows in by_workload(compared(report)).values():
        mine, equal, default = ours(rows), equal_peer(rows), default_peer(rows)
        if mine is None or default is None or rows[0]["group"] in ("one lambda", "real data"):
            continue
        kind = "" if rows[0]["group"].endswith("path") else f" ({rows[0]['group']})"
        cells = [rows[0]["title"] + kind, f"{mine['seconds']:.3g}"]
        for peer, name in (
            (equal, equal and named(equal)),
            (default, f"{default['solver']} ({default['verdict']['gap']:.0e})"),
        ):
            if peer is None:
                cells += ["none", ""]
            else:
                cells += [
                    f"{name} {seconds(peer)}",
                    f"{peer['seconds'] / mine['seconds']:.1f}",
                ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(report, earlier):
    """By how much the factors of two reports differ: lines, the largest difference first."""

    def factors(of):
        return {
            (row["workload"], named(row)): row["seconds"] / ours(rows)["seconds"]
            for rows in by_workload(compared(of)).values()
            if ours(rows)
            for row in finished(rows)
            if row["solver"] != OURS
        }

    now, before = factors(report), factors(earlier)
    found = sorted(
        (abs(math.log(now[key] / before[key])), key) for key in now.keys() & before.keys()
    )
    within = sum(math.expm1(size) < 0.15 for size, _ in found)
    return [
        f"{within} of {len(found)} factors within 15 % of the earlier run",
        *(
            f"{math.expm1(size):6.1%}  {before[key]:8.3g} -> {now[key]:8.3g}  {key[0]}, {key[1]}"
            for size, key in reversed(found[-10:])
        ),
    ]


def brief(report):
    """The summary alone, for the terminal."""
    return "\n".join(summary(report))

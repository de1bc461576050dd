"""The figures of docs/benchmarks.md, drawn from the raw rows alone."""

import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import tables  # noqa: E402

# Okabe and Ito's colours; ours is the darkest.
COLOURS = {
    "thresher": "#111111",
    "glmnet": "#0072B2",
    "scikit-learn": "#E69F00",
    "celer": "#009E73",
    "skglm": "#CC79A7",
    "adelie": "#D55E00",
    "glum": "#56B4E9",
    "himalaya": "#8A6FDF",
}
MARKERS = {
    "thresher": "o",
    "glmnet": "s",
    "scikit-learn": "^",
    "celer": "D",
    "skglm": "v",
    "adelie": "P",
    "glum": "X",
    "himalaya": "*",
}
FLOOR = 1e-16  # below the rounding of an objective
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "thresher",
    "font.family": "sans-serif",
    "axes.edgecolor": "#777777",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


def panels(count, width=4.0, height=3.0):
    """A figure of small multiples and its first `count` axes."""
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def legend(figure, solvers):
    handles = [
        plt.Line2D(
            [],
            [],
            color=COLOURS[s],
            marker=MARKERS[s],
            markersize=5,
            linewidth=2.2 if s == tables.OURS else 1.2,
            label=s,
        )
        for s in COLOURS
        if s in solvers
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def frontier(members, quality, label):
    """Time against quality, one panel for each workload, a line for each solver."""
    figure, axes = panels(len(members))
    seen = set()
    for axis, rows in zip(axes, members):
        for solver in COLOURS:
            own = sorted(
                (
                    r
                    for r in tables.finished(rows)
                    if r["solver"] == solver and quality in r["verdict"]
                ),
                key=lambda r: -r["verdict"][quality],
            )
            if not own:
                continue
            seen.add(solver)
            mine = solver == tables.OURS
            x = [max(r["verdict"][quality], FLOOR) for r in own]
            y = [r["seconds"] for r in own]
            axis.plot(
                x,
                y,
                color=COLOURS[solver],
                marker=MARKERS[solver],
                markersize=6 if mine else 4.5,
                linewidth=2.2 if mine else 1.2,
                zorder=5 if mine else 3,
            )
            axis.annotate(
                solver,
                (x[-1], y[-1]),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=7,
                color=COLOURS[solver],
            )
        axis.axvline(tables.EQUAL_GAP, color="#999999", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", yscale="log", title=rows[0]["title"])
        axis.set_xlim(3e-2, FLOOR / 300)
    for axis in axes[::3]:
        axis.set_ylabel("seconds")
    for axis in axes[-3:]:
        axis.set_xlabel(label)
    legend(figure, seen)
    return figure


def dots(members, value, label, unit=1.0):
    """One line of dots for each workload."""
    figure, axis = plt.subplots(figsize=(8.5, 0.36 * len(members) + 1.4), layout="constrained")
    seen = set()
    for place, rows in enumerate(reversed(members)):
        for solver in COLOURS:
            found = [value(r, rows) for r in tables.finished(rows) if r["solver"] == solver]
            found = [v for v in found if v is not None]
            if found:
                seen.add(solver)
                axis.plot(
                    min(found) / unit,
                    place,
                    MARKERS[solver],
                    color=COLOURS[solver],
                    markersize=7 if solver == tables.OURS else 5.5,
                    zorder=5 if solver == tables.OURS else 3,
                )
    axis.set_yticks(range(len(members)), [rows[0]["title"] for rows in reversed(members)])
    axis.set(xscale="log", xlabel=label)
    legend(figure, seen)
    return figure


def factor(row, rows):
    """Seconds over ours, for peers at their default and for ours."""
    mine = tables.ours(rows)
    if mine is None or (row["solver"] == tables.OURS and row["tol"] != tables.OUR_TOL):
        return None
    return (
        row["seconds"] / mine["seconds"]
        if row["solver"] == tables.OURS or row["tol"] == "default"
        else None
    )


def equal_factor(row, rows):
    mine = tables.ours(rows)
    if mine is None or row["verdict"]["gap"] > tables.EQUAL_GAP:
        return None
    return row["seconds"] / mine["seconds"]


def scaling(rows):
    """Our time and memory along each axis, with the line of proportional cost."""
    axes_of = {}
    for row in tables.finished(rows):
        axes_of.setdefault(row["axis"], []).append(row)
    figure, axes = plt.subplots(
        2,
        len(axes_of),
        figsize=(2.7 * len(axes_of), 4.8),
        squeeze=False,
        layout="constrained",
        sharey="row",
    )
    for column, (name, own) in enumerate(axes_of.items()):
        own.sort(key=lambda r: r["place"])
        x = [r["place"] for r in own]
        for axis, y, label in (
            (axes[0, column], [r["seconds"] for r in own], "seconds"),
            (axes[1, column], [r["added_bytes"] / 1e6 for r in own], "memory added, MB"),
        ):
            axis.plot(x, y, "o-", color=COLOURS[tables.OURS], linewidth=2)
            power = -1 if name == "threads" else 1
            if label == "seconds":
                line = [y[0] * (v / x[0]) ** power for v in x]
                axis.plot(x, line, ":", color="#888888", linewidth=1.2)
                axis.annotate(
                    "proportional", (x[-1], line[-1]), fontsize=7, color="#666666", ha="right"
                )
            axis.set(xscale="log", yscale="log" if label == "seconds" else "linear")
            axis.set_xticks(x, [f"{v:g}" for v in x], rotation=45)
            axis.minorticks_off()
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(name)
    axes[1, 0].set_ylim(bottom=0)
    return figure


def draw_all(report, folder):
    """Writes SVG files; returns [(title, path)]."""
    folder.mkdir(parents=True, exist_ok=True)
    scaled = [row for row in report["rows"] if row["axis"]]
    report = {**report, "rows": [row for row in report["rows"] if not row["axis"]]}
    workloads = tables.by_workload(report)
    groups = {}
    for rows in workloads.values():
        groups.setdefault(rows[0]["group"], []).append(rows)
    drawn = []

    def save(figure, name, title):
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        drawn.append((title, path))

    with plt.rc_context(STYLE):
        members = list(workloads.values())
        if members:
            save(
                dots(
                    members, equal_factor, "seconds over ours, answers with a gap of at most 1e-9"
                ),
                "factor_at_equal_gap",
                "Time over ours at equal gap",
            )
            save(
                dots(members, factor, "seconds over ours, peers at their default tolerance"),
                "factor_at_default",
                "Time over ours, peers at their defaults",
            )
        for group, members in groups.items():
            name = group.replace(" ", "_")
            save(
                frontier(members, "gap", "certified relative gap (tighter to the right)"),
                f"time_against_gap_{name}",
                f"{group}: time against certified gap",
            )
            judged = [
                rows
                for rows in members
                if any("suboptimality" in r.get("verdict", {}) for r in rows)
            ]
            if judged:
                save(
                    frontier(judged, "suboptimality", "objective above the optimum, relative"),
                    f"time_against_suboptimality_{name}",
                    f"{group}: time against true suboptimality",
                )
        members = list(workloads.values())
        if members:
            save(
                dots(
                    members,
                    lambda r, rows: r["added_bytes"] or None,
                    "memory added by the call, MB",
                    1e6,
                ),
                "memory_added",
                "Memory",
            )
        if scaled:
            save(scaling(scaled), "cost_growth", "How cost grows")
    return drawn

"""The pictures of a benchmark: a panel of bars for each case, one picture per group."""

import math
import pathlib
import statistics

import matplotlib
import matplotlib.figure

from bn_keras.bench import report
from bn_keras.bench.cases import GROUPS, case_of
from bn_keras.bench.results import entries_of

# Okabe and Ito's colours: ours stands out by its darkness, and every bar has its name beside it.
OURS, THEIRS, INK = "#0072B2", "#E69F00", "#333333"
WIDTH, BAR, HEAD = 6.2, 0.3, 0.95


def draw(results, group, path, digest=""):
    """Draws the times of a group into `path`, an SVG or PNG by its ending.

    Args:
        results: What `bench` returns.
        group: One that has results.
        path: The file to write.
        digest: Put into an SVG's description, so that it can be told what it was drawn from.
    """
    entries = [entry for entry in entries_of(results, group) if report.figures(entry)]
    columns = min(2, len(entries))
    rows = math.ceil(len(entries) / columns)
    bars = max(len(report.figures(entry)) for entry in entries)
    figure = matplotlib.figure.Figure(figsize=(WIDTH * columns, rows * (HEAD + BAR * bars) + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, entry in zip(panels, entries, strict=False):
        draw_case(axes, entry)
    for axes in list(panels)[len(entries) :]:
        axes.set_axis_off()
    figure.suptitle(GROUPS[group].title, fontsize=12, color=INK)
    svg = pathlib.Path(path).suffix == ".svg"
    with matplotlib.rc_context({"svg.hashsalt": "bn_keras", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=120, metadata={"Date": None, "Description": digest} if svg else None)


def draw_case(axes, entry):
    """A bar for each peer, its spread over the rounds, its figure in words and the floor as a line."""
    case, found = case_of(entry), report.figures(entry)
    medians = [statistics.median(each) for each in found.values()]
    spread = [
        [median - min(each) for median, each in zip(medians, found.values(), strict=True)],
        [max(each) - median for median, each in zip(medians, found.values(), strict=True)],
    ]
    colors = [OURS if name.startswith("bn_keras") else THEIRS for name in found]
    axes.barh(range(len(found)), medians, 0.7, xerr=spread, color=colors, ecolor=INK, capsize=2)
    for i, each in enumerate(found.values()):
        axes.annotate(
            report.number(medians[i]), (max(each), i), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    axes.set_yticks(range(len(found)), list(found), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(max(each) for each in found.values()))
    timed = GROUPS[entry["group"]].kind != "memory"
    if timed and report.floor_ms(entry) is not None:
        axes.axvline(report.floor_ms(entry), color=INK, linestyle=":", linewidth=1.2, label="floor")
        axes.legend(loc="upper right", frameon=False, fontsize=8)
    axes.set_xlabel("ms" if timed else "tensors of x's size", fontsize=9)
    title = f"{report.size(case.shape)}{report.axis_text(case)}: {report.mode_text(case)}"
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)

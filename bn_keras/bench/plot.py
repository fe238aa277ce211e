"""The pictures of a benchmark: a panel of bars for each case, one picture per group."""

import math
import statistics

from bn_keras.bench import report
from bn_keras.bench.cases import GROUPS, case_of
from bn_keras.bench.results import entries_of
from bn_keras.lab.extras import packages_of
from bn_keras.lab.markdown import size
from bn_keras.lab.plot import BLUE, INK, ORANGE, tidy

with packages_of("lab"):
    import matplotlib.figure

# Ours is the darker colour, and every bar has its name beside it.
OUR_COLOR, PEER_COLOR = BLUE, ORANGE
WIDTH, BAR, HEAD = 6.2, 0.3, 0.95


def figure_of(results, group):
    """The picture of a group that has results, as a figure of matplotlib.

    Args:
        results: What `bench` returns.
        group: A name of `GROUPS`.
    """
    entries = [entry for entry in entries_of(results, group) if report.figures(entry)]
    columns = min(2, len(entries))
    rows = math.ceil(len(entries) / columns)
    bars = max(len(report.figures(entry)) for entry in entries)
    figure = matplotlib.figure.Figure(figsize=(WIDTH * columns, rows * (HEAD + BAR * bars) + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, entry in zip(panels, entries, strict=False):
        draw_case(axes, entry)
    for axes in panels[len(entries) :]:
        axes.set_axis_off()
    figure.suptitle(GROUPS[group].title, fontsize=12, color=INK)
    return figure


def draw_case(axes, entry):
    """A bar for each peer, its spread over the rounds, its figure in words and the floor as a line."""
    case, found = case_of(entry), report.figures(entry)
    medians = [statistics.median(each) for each in found.values()]
    spread = [
        [median - min(each) for median, each in zip(medians, found.values(), strict=True)],
        [max(each) - median for median, each in zip(medians, found.values(), strict=True)],
    ]
    colors = [OUR_COLOR if name.startswith("bn_keras") else PEER_COLOR for name in found]
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
    title = f"{size(case.shape)}{report.axis_text(case)}: {report.mode_text(case)}"
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    tidy(axes, grid="x")
    axes.set_axisbelow(True)

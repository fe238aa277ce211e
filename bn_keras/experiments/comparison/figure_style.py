"""What the figures of a comparison share: a style for each arm, axes of accuracy, and strips for what is infinite."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Collection, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import matplotlib.scale
import matplotlib.ticker
import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.recipe import Recipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, tidy

# Sizes in points for a figure of 9 inches, which stays readable at half its width.
WIDTH, SIZE, SMALL = 9.0, 12, 11
# The letters that fit over the figure, and over one of two panels.
FIGURE_LETTERS, PANEL_LETTERS = 80, 42
# The letters that fit into a row of the legend, and those that a handle takes.
LEGEND_LETTERS, HANDLE_LETTERS = 110, 11
STRIP_COLOR = "#F0F0F0"
# The share of the axes that a strip takes, at least and for each arm, and its distance from them.
STRIP, STRIP_PER_ARM, GAP = 0.1, 0.045, 0.015
ACCURACIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)


@dataclasses.dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn in every figure. Line and marker repeat what the colour says."""

    color: str
    line: str | tuple
    marker: str


# Kinds that share a colour are hardly compared with each other; lines and markers tell them apart.
STYLES = {
    "none": ArmStyle(VERMILION, "--", "s"),
    "batch": ArmStyle(BLUE, "-", "o"),
    "layer": ArmStyle(ORANGE, "-.", "^"),
    "group": ArmStyle(GREEN, (0, (7, 2)), "D"),
    "instance": ArmStyle(PURPLE, (0, (3, 1, 1, 1)), "v"),
    "rms": ArmStyle(SKY, (0, (6, 1, 1, 1, 1, 1)), "P"),
    "sync": ArmStyle(BLACK, (0, (8, 1, 2, 1)), "*"),
    "ghost": ArmStyle(BLACK, (0, (2, 1)), "X"),
    "renorm": ArmStyle(PURPLE, (0, (5, 1)), "p"),
    "decorrelated": ArmStyle(SKY, (0, (4, 1, 2, 1)), "h"),
    "standardized": ArmStyle(PURPLE, (0, (9, 1)), "8"),
    "weight": ArmStyle(ORANGE, (0, (2, 2, 6, 2)), "x"),
}
# For arms with options, such as "group:groups=4": the colour of their kind with one of these.
OPTION_STYLES = (((0, (1, 1)), "<"), ((0, (9, 2, 1, 2)), ">"), ((0, (3, 3)), "d"), ((0, (1, 3)), "H"))


def styles_of(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """The style of each arm."""
    options = itertools.cycle(OPTION_STYLES)
    return {
        arm: ArmStyle(STYLES[arm.partition(":")[0]].color, *next(options)) if ":" in arm else STYLES[arm]
        for arm in arms
    }


def new_figure(recipe: Recipe, heading: str, height: float, columns: int = 1, **options):
    """A figure with a heading that says what was compared, and its axes in a row."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    row = figure.subplots(1, columns, squeeze=False, **options)[0]
    for axes in row:
        tidy(axes)
        axes.tick_params(labelsize=SMALL)
    sketch = "Sketch, " if recipe.sketch else ""
    weight = "bold" if recipe.sketch else "normal"
    heading = wrapped(f"{sketch}{recipe.preset} on {recipe.data_in_words}: {heading}", FIGURE_LETTERS)
    figure.suptitle(heading, fontsize=SIZE, color=INK, fontweight=weight)
    return figure, row


def label(axes: matplotlib.axes.Axes, *, x: str = "", y: str = "", title: str = "", raised: float = 0.0) -> None:
    """The words around axes; `raised` is the height of a strip that the title has to clear."""
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.set_title(title, fontsize=SMALL, color=INK, y=1 + GAP + raised + 0.01 if raised else None)


def legend(figure: matplotlib.figure.Figure, styles: dict[str, ArmStyle], others: Sequence = ()) -> None:
    """The arms and other handles, under the axes."""
    handles = [
        matplotlib.lines.Line2D(
            [], [], color=style.color, linestyle=style.line, marker=style.marker, linewidth=2, label=arm
        )
        for arm, style in styles.items()
    ]
    handles += others
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns_of([handle.get_label() for handle in handles]),
        frameon=False,
        fontsize=SMALL,
        handlelength=3.2,
    )


def columns_of(labels: Sequence[str]) -> int:
    """The most columns of a legend that fit under the figure. A legend fills its columns one after the other."""
    for columns in range(len(labels), 1, -1):
        widths = (max(map(len, column)) + HANDLE_LETTERS for column in np.array_split(labels, columns))
        if sum(widths) <= LEGEND_LETTERS:
            return columns
    return 1


def accuracy_axis(axes: matplotlib.axes.Axes, which: str, accuracies: Sequence[float], top: float) -> None:
    """A logit scale of accuracies, which stretches both ends: 98 and 99 % lie as far apart as 50 and 67 %.

    Args:
        axes: The axes.
        which: `"x"` or `"y"`.
        accuracies: What has to fit in; those of 0 and 1 may be cut off.
        top: The highest accuracy that the axis shows, since that of 1 is infinitely far away.
    """
    low, high = (logit(float(np.clip(value, 0.005, top))) for value in (min(accuracies), max(accuracies)))
    margin = max(0.05 * (high - low), 0.05)
    ends = expit(low - margin), expit(high + margin)
    axes.set(**{f"{which}scale": matplotlib.scale.LogitScale(None, nonpositive="clip"), f"{which}lim": ends})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(matplotlib.ticker.FixedLocator(accuracy_ticks(*ends)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def accuracy_ticks(low: float, high: float) -> list[float]:
    """Round accuracies that are not too close to each other on a logit axis; even ones on a short axis.

    >>> accuracy_ticks(0.1, 0.985)
    [0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.98]
    """
    ticks = [value for value in ACCURACIES if low <= value <= high]
    if len(ticks) < 3:
        ticks = [value for value in matplotlib.ticker.MaxNLocator(4).tick_values(low, high) if low <= value <= high]
    kept = ticks[-1:]
    for value in reversed(ticks[:-1]):
        if logit(kept[0]) - logit(value) >= 0.09 * (logit(high) - logit(low)):
            kept.insert(0, value)
    return kept


def steps_axis(axes: matplotlib.axes.Axes, which: str) -> None:
    """A logarithmic scale of steps between the limits of the axes, with more ticks on a short one."""
    low, high = getattr(axes, f"get_{which}lim")()
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    if high < 30 * low:
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def draw_open(axes: matplotlib.axes.Axes, x: Sequence[float], y: Sequence[float], style: ArmStyle) -> None:
    """Open markers: what diverged, or never got there."""
    axes.plot(
        x, y, style.marker, color=style.color, markerfacecolor="white", markersize=7, markeredgewidth=1.6, zorder=4
    )


def top_of(comparison: Comparison) -> float:
    """The highest accuracy below 1 that the validation examples tell apart from it, by half of one."""
    return 1 - 0.5 / comparison.recipe.validation_examples


def strip(axes: matplotlib.axes.Axes, side: str, words: str, size: float = STRIP) -> matplotlib.axes.Axes:
    """A strip beside axes for what is infinite, with a scale from 0 to 1 across.

    Args:
        axes: The axes.
        side: `"top"` or `"right"`, beyond the axes, or `"bottom"`, within them, above the ticks.
        words: What it means to be there.
        size: The share of the axes that it takes.
    """
    bounds = {"top": (0, 1 + GAP, 1, size), "right": (1 + GAP, 0, size, 1), "bottom": (0, 0, 1, size)}[side]
    beside = axes.inset_axes(bounds, sharex=None if side == "right" else axes, facecolor=STRIP_COLOR)
    beside.spines[:].set_visible(False)
    beside.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False, which="both")
    beside.set_ylim(0, 1)
    if side == "right":
        beside.set_xlim(0, 1)
        place = {"x": 0.5, "y": 0.02, "rotation": 90, "ha": "center", "va": "bottom"}
    else:
        # In the column of the ticks, where no marker lies.
        place = {"x": -0.012, "y": 0.5, "ha": "right", "va": "center", "linespacing": 0.95}
    beside.text(s=words, transform=beside.transAxes, fontsize=SMALL, color=INK, **place)
    return beside


def strip_size(arms: int) -> float:
    """The size of a strip in which the markers of several arms do not touch."""
    return max(STRIP, STRIP_PER_ARM * arms)


def height_of(place: int, places: Collection) -> float:
    """Where an arm's markers are in a strip at the top or the bottom, the first one highest."""
    return 1 - (place + 1) / (len(places) + 1)


def wrapped(text: str, letters: int) -> str:
    """Text in lines of at most so many letters, about equally long.

    >>> wrapped("vgg_small on mnist: one trial is enough", 30)
    'vgg_small on mnist:\\none trial is enough'
    """
    return "\n".join(line for part in text.split("\n") for line in balanced(part, letters))


def balanced(text: str, letters: int) -> list[str]:
    """As few lines as `letters` allows, without a short last one."""
    lines = textwrap.wrap(text, letters)
    while letters > 1 and len(narrower := textwrap.wrap(text, letters - 1)) == len(lines):
        lines, letters = narrower, letters - 1
    return lines


def logit(accuracy: float) -> float:
    """The logarithm of the odds."""
    return math.log(accuracy / (1 - accuracy))


def expit(odds: float) -> float:
    """The accuracy of the logarithm of the odds."""
    return 1 / (1 + math.exp(-odds))

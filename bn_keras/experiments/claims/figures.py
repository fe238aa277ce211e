"""What the figures of claims share: size, heading, the style of an arm, and spreads over seeds."""

import math
import statistics
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure

from bn_keras.experiments.claims.claim import Form
from bn_keras.experiments.comparison.figure_style import FIGURE_LETTERS, SIZE, SMALL, WIDTH, wrapped
from bn_keras.lab.plot import INK, tidy


def new_figure(form: Form, heading: str, columns: int = 1, height: float = 4.0, rows: int = 1, **options):
    """A figure with a heading and its axes, row by row; a quick form is labelled as a sketch."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    panels = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axes in panels:
        tidy(axes)
        axes.tick_params(labelsize=SMALL)
    figure.suptitle(
        wrapped("Sketch: " * form.quick + heading, FIGURE_LETTERS), fontsize=SIZE, color=INK,
        fontweight="bold" if form.quick else "normal",
    )  # fmt: skip
    return figure, list(panels)


def draw_spread(
    axes: matplotlib.axes.Axes, x: Sequence[float], rows: Sequence[Sequence[float]], style, label: str | None = None
) -> None:
    """A line through the medians of several seeds, in a band from the lowest to the highest.

    Args:
        axes: The axes.
        x: The places.
        rows: The values of the seeds at each place.
        style: The `ArmStyle`.
        label: The words of the legend.
    """
    medians = [statistics.median(values) for values in rows]
    lows, highs = [min(values) for values in rows], [max(values) for values in rows]
    axes.fill_between(x, lows, highs, color=style.color, alpha=0.2, linewidth=0)
    axes.plot(
        x, medians, color=style.color, linestyle=style.line, marker=style.marker, markersize=5, linewidth=2, label=label
    )


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """The median and the range of the seeds in words.

    >>> spread([1.21, 1.20, 1.23])
    '1.210 (1.200–1.230)'
    """
    if not values:
        return "–"
    median, low, high = (written(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low}–{high})" if len(values) > 1 else median


def signed(value: float, form: str) -> str:
    """A difference in words, with its sign: a minus, where `format` writes a hyphen.

    >>> signed(0.24, ".1f"), signed(-0.6, ".1f")
    ('+0.2', '−0.6')
    """
    return format(value, f"+{form}").replace("-", "−")


def written(value: float, form: str) -> str:
    """A figure in words; the infinite one of a run that never got there is `never`."""
    return "never" if math.isinf(value) else format(value, form)

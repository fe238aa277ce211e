"""The figure of the speed-up against the target."""

from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison, Speedup
from bn_keras.experiments.comparison.figure_style import (
    SMALL,
    ArmStyle,
    accuracy_axis,
    draw_open,
    expit,
    height_of,
    label,
    legend,
    logit,
    new_figure,
    strip,
    strip_size,
    styles_of,
    top_of,
)
from bn_keras.experiments.comparison.plan import MOST_ACCURATE
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.lab.plot import INK

# Each target costs a bootstrap.
LEVELS = 24
# The share of the axes that a strip with two lines of words takes.
LOW_STRIP = 0.13


def speedup_over_target(comparison: Comparison) -> matplotlib.figure.Figure:
    """The speed-up in steps of each arm against the target accuracy."""
    styles = styles_of(comparison.recipe.arms)
    levels = target_levels(comparison)
    curves = {arm: comparison.speedup_curve(arm, levels) for arm in comparison.arms}
    pools = {arm: finite([comparison.pool_speedup(arm, level) for level in levels]) for arm in comparison.arms}
    spread = "95 % interval" if comparison.recipe.seeds > 1 else "one seed"
    figure, (axes,) = new_figure(comparison.recipe, f"speed-up by target, {spread}", 5.2)
    accuracy_axis(axes, "x", [*levels, comparison.target, comparison.hard_target], top_of(comparison))
    label(axes, x="target: validation accuracy", y=f"speed-up in steps over {BASELINE}")
    ratios = np.array([each.ratio for curve in curves.values() for each in curve])
    below = LOW_STRIP if 0 in ratios else 0.0
    ends = speedup_axis(axes, np.concatenate([finite(ratios), *pools.values()]), below)
    axes.axhline(1, color=styles[BASELINE].color, linestyle=styles[BASELINE].line, linewidth=1.5)
    for arm, curve in curves.items():
        draw_speedups(axes, curve, styles[arm], ends)
        axes.plot(levels, pools[arm], color=styles[arm].color, linestyle="--", linewidth=1, alpha=0.8)
    draw_infinite(axes, curves, styles)
    mark_targets(axes, comparison, below + 0.03)
    pool = matplotlib.lines.Line2D(
        [], [], color=INK, linestyle="--", linewidth=1, label="each arm's best trial for this target, one seed"
    )
    legend(figure, styles, [pool])
    return figure


def target_levels(comparison: Comparison) -> list[float]:
    """Both targets, and others from easy to the best run, evenly spaced in the logit.

    The easiest is half way between chance and the target. It is higher where guessing, or the first evaluation of the
    baseline, reaches that: such a target has no speed-up to show.
    """
    runs = [run for runs in (*comparison.seeds.values(), *comparison.plan.pools.values()) for run in runs]
    baseline = comparison.groups[BASELINE, MOST_ACCURATE].running_best
    first = float(np.median(baseline[:, :2], axis=0)[-1])
    reached = max(max(run.accuracy[0] for run in runs), first if first < comparison.target else 0.0)
    easy = max((comparison.chance + comparison.target) / 2, reached + 1 / comparison.recipe.validation_examples)
    top = top_of(comparison)
    low, high = logit(min(top, easy)), logit(min(top, max(run.best for run in runs)))
    between = np.linspace(low, max(high, low + 0.01), LEVELS)
    targets = {min(top, target) for target in (comparison.target, comparison.hard_target) if target >= easy}
    return sorted({expit(value) for value in between.tolist()} | targets)


def finite(ratios: Sequence[float]) -> np.ndarray:
    """The ratios, with NaN for those that are infinite, 0 or NaN; a line has gaps there."""
    ratios = np.array(ratios)
    return np.where(np.isfinite(ratios) & (ratios > 0), ratios, np.nan)


def speedup_axis(axes: matplotlib.axes.Axes, ratios: np.ndarray, below: float) -> tuple[float, float]:
    """A logarithmic scale of ratios with the base 2, over a strip that takes a share of it below.

    Returns:
        The ends of the part that holds the data.
    """
    known = np.log2(np.append(ratios[np.isfinite(ratios)], 1.0))
    low, high = np.floor(known.min() - 0.3), np.ceil(known.max() + 0.3)
    axes.set_yscale("log", base=2)
    axes.set_ylim(2 ** (low - below / (1 - below) * (high - low)), 2**high)
    ticks = np.arange(low + 1 if below else low, high + 1)
    axes.set_yticks(2**ticks, [ratio_words(tick) for tick in ticks])
    return 2**low, 2**high


def ratio_words(power: float) -> str:
    """A power of 2 as the factor of a speed-up."""
    return f"{2**power:g}×" if power >= 0 else {-1: "½×", -2: "¼×", -3: "⅛×"}.get(power, f"1/{2**-power:g}×")


def draw_speedups(
    axes: matplotlib.axes.Axes, curve: Sequence[Speedup], style: ArmStyle, ends: tuple[float, float]
) -> None:
    """The ratio over targets, with its interval as a band that is cut off at the ends of the axis."""
    levels = [each.target for each in curve]
    ratios = finite([each.ratio for each in curve])
    axes.plot(levels, ratios, color=style.color, linestyle=style.line, marker=style.marker, markersize=5, linewidth=2)
    low, high = np.clip([[each.low for each in curve], [each.high for each in curve]], *ends)
    known = np.isfinite(ratios) & np.isfinite(low)
    axes.fill_between(levels, low, high, where=known, color=style.color, alpha=0.15, linewidth=0)


def draw_infinite(
    axes: matplotlib.axes.Axes, curves: dict[str, Sequence[Speedup]], styles: dict[str, ArmStyle]
) -> None:
    """Strips for the targets that only the arm reaches, at the top, and only the baseline, at the bottom."""
    strips = (("top", "only this arm\ngets there", np.inf), ("bottom", f"only {BASELINE}\ngets there", 0.0))
    for side, words, ratio in strips:
        found = {arm: [each.target for each in curve if each.ratio == ratio] for arm, curve in curves.items()}
        found = {arm: levels for arm, levels in found.items() if levels}
        if found:
            size = LOW_STRIP if side == "bottom" else max(LOW_STRIP, strip_size(len(found)))
            beside = strip(axes, side, words, size)
            for place, (arm, levels) in enumerate(found.items()):
                draw_open(beside, levels, [height_of(place, found)] * len(levels), styles[arm])


def mark_targets(axes: matplotlib.axes.Axes, comparison: Comparison, height: float) -> None:
    """Vertical lines at both targets, with words from a height upwards; one line where they are the same."""
    targets = {comparison.hard_target: ("hard target", 4, "left"), comparison.target: ("target", -4, "right")}
    for target, (words, shift, side) in targets.items():
        level = min(target, top_of(comparison))
        axes.axvline(level, color=INK, linewidth=1.2, linestyle=":", zorder=1)
        axes.annotate(
            words, (level, height), xycoords=("data", "axes fraction"), xytext=(shift, 0),
            textcoords="offset points", rotation=90, ha=side, va="bottom", fontsize=SMALL, color=INK,
        )  # fmt: skip

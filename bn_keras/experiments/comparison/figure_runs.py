"""Figures of the runs as they are: accuracy over steps, and over the learning rate."""

import statistics
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison, ratio_of
from bn_keras.experiments.comparison.figure_style import (
    SMALL,
    ArmStyle,
    accuracy_axis,
    draw_open,
    label,
    legend,
    new_figure,
    steps_axis,
    strip,
    styles_of,
    top_of,
)
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.experiments.comparison.report import times
from bn_keras.experiments.comparison.runs import Run
from bn_keras.lab.plot import INK

# With so many seeds a band leaves out the lowest and the highest tenth.
MANY_SEEDS = 10
# The envelope over learning rates has a point for each half decade.
BINS_PER_DECADE = 2


def learning_curves(comparison: Comparison) -> matplotlib.figure.Figure:
    """Validation accuracy over steps: the fastest winners with the target, the most accurate with the harder one."""
    recipe = comparison.recipe
    styles = styles_of(recipe.arms)
    band = "10 to 90 %" if recipe.seeds >= MANY_SEEDS else "lowest to highest"
    spread = f"Median of {recipe.seeds} seeds, band: {band}" if recipe.seeds > 1 else "One seed"
    figure, row = new_figure(recipe, spread, 5.0, 2, sharey=True)
    panels = (
        (FASTEST, comparison.target, f"Fastest winners, target {comparison.target:.2%}"),
        (MOST_ACCURATE, comparison.hard_target, f"Most accurate winners, target {comparison.hard_target:.2%}"),
    )
    bests = [run.best for runs in comparison.seeds.values() for run in runs]
    accuracy_axis(row[0], "y", [comparison.chance, *bests], top_of(comparison))
    for axes, (role, target, title) in zip(row, panels, strict=True):
        runs = {arm: comparison.seeds[arm, role] for arm in recipe.arms}
        for arm, style in styles.items():
            draw_curve(axes, runs[arm], style, comparison.chance)
        axes.axhline(target, color=INK, linewidth=1.2, linestyle=":", zorder=3)
        axes.axhspan(target - comparison.error, target + comparison.error, color=INK, alpha=0.12, linewidth=0)
        draw_crossings(axes, runs, target, styles)
        steps_axis(axes, "x")
        axes.set_xlim(recipe.evaluate_every, comparison.plan.steps)
        label(axes, x="steps", title=f"{title}\nspeed-up: {gains(runs, target)}")
    label(row[0], x="steps", y="validation accuracy", title=row[0].get_title())
    legend(figure, styles)
    return figure


def draw_curve(axes: matplotlib.axes.Axes, runs: Sequence[Run], style: ArmStyle, chance: float) -> None:
    """The median over seeds and its band. A run that diverged guesses from then on."""
    steps = max((run.steps for run in runs), key=len)
    accuracy = np.full((len(runs), len(steps)), chance)
    for row, run in zip(accuracy, runs, strict=True):
        row[: len(run.steps)] = run.accuracy
    share = 0.1 if len(runs) >= MANY_SEEDS else 0.0
    low, median, high = np.quantile(accuracy, (share, 0.5, 1 - share), axis=0)
    axes.plot(steps, median, color=style.color, linestyle=style.line, linewidth=2)
    axes.fill_between(steps, low, high, color=style.color, alpha=0.18, linewidth=0)


def draw_crossings(
    axes: matplotlib.axes.Axes, runs: dict[str, Sequence[Run]], target: float, styles: dict[str, ArmStyle]
) -> None:
    """A marker where each seed reaches the target, and the number of seeds that never do."""
    misses = {}
    for arm, style in styles.items():
        crossings = np.array([run.crossing(target) for run in runs[arm]])
        reached = crossings[np.isfinite(crossings)]
        axes.plot(
            reached, np.full(len(reached), target), style.marker, color=style.color, markersize=6,
            markeredgecolor="white", markeredgewidth=0.6, zorder=4,
        )  # fmt: skip
        misses[arm] = len(crossings) - len(reached)
    if any(misses.values()):
        never = strip(axes, "right", "never")
        for place, (arm, count) in enumerate((arm, count) for arm, count in misses.items() if count):
            height = 0.95 - 0.11 * place
            draw_open(never, [0.28], [height], styles[arm])
            never.text(0.52, height, f"{count}", va="center_baseline", fontsize=SMALL, color=INK)


def gains(runs: dict[str, Sequence[Run]], target: float) -> str:
    """The speed-up of each arm in words."""
    medians = {arm: statistics.median(run.crossing(target) for run in runs[arm]) for arm in runs}
    found = [f"{arm} {times(ratio_of(medians[BASELINE], medians[arm]))}" for arm in runs if arm != BASELINE]
    lines = [", ".join(found[start : start + 3]) for start in range(0, len(found), 3)]
    return ",\n".join(lines)


def accuracy_over_rate(comparison: Comparison) -> matplotlib.figure.Figure:
    """The best validation accuracy of every trial over its learning rate."""
    styles = styles_of(comparison.recipe.arms)
    pools = comparison.plan.pools
    figure, (axes,) = new_figure(comparison.recipe, "Every trial of the tuning", 4.8)
    bests = [run.best for pool in pools.values() for run in pool]
    accuracy_axis(axes, "y", [comparison.chance, *bests], top_of(comparison))
    axes.set_xscale("log")
    axes.axhline(comparison.chance, color=INK, linewidth=1.2, linestyle=":", zorder=1)
    axes.annotate(
        "chance", (0.005, comparison.chance), xycoords=("axes fraction", "data"), xytext=(0, 5),
        textcoords="offset points", fontsize=SMALL, color=INK,
    )  # fmt: skip
    for arm, style in styles.items():
        kept = [run for run in pools[arm] if not run.diverged_at]
        diverged = [run.job.trial.learning_rate for run in pools[arm] if run.diverged_at]
        axes.plot(
            [run.job.trial.learning_rate for run in kept], [run.best for run in kept], style.marker,
            color=style.color, markersize=5, alpha=0.6, markeredgewidth=0,
        )  # fmt: skip
        draw_open(axes, diverged, [comparison.chance] * len(diverged), style)
        rates, accuracies = envelope(pools[arm])
        axes.plot(rates, accuracies, color=style.color, linestyle=style.line, linewidth=2)
    label(axes, x="learning rate", y="best validation accuracy")
    open_marker = matplotlib.lines.Line2D(
        [], [], color=INK, linestyle="", marker="o", markerfacecolor="white", markeredgewidth=1.6, label="diverged"
    )
    legend(figure, styles, [open_marker])
    return figure


def envelope(pool: Sequence[Run]) -> tuple[list[float], list[float]]:
    """The learning rate and the accuracy of the best trial in each half decade."""
    best = {}
    for run in sorted(pool, key=lambda run: run.best):
        best[np.floor(BINS_PER_DECADE * np.log10(run.job.trial.learning_rate))] = run
    runs = [best[place] for place in sorted(best)]
    return [run.job.trial.learning_rate for run in runs], [run.best for run in runs]

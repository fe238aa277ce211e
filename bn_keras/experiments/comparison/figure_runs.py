"""Figures of the runs as they are: accuracy over steps, and over the learning rate."""

import math
import statistics
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison, ratio_of
from bn_keras.experiments.comparison.figure_style import (
    PANEL_LETTERS,
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
    steps_axis,
    strip,
    strip_size,
    styles_of,
    top_of,
    wrapped,
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
    """The best validation accuracy so far over steps, to the target and to the harder target."""
    recipe = comparison.recipe
    styles = styles_of(recipe.arms)
    band = "10 to 90 %" if recipe.seeds >= MANY_SEEDS else "lowest to highest"
    spread = f"median of {recipe.seeds} seeds, band: {band}" if recipe.seeds > 1 else "one seed"
    figure, row = new_figure(recipe, spread, 5.0, 2, sharey=True)
    panels = (
        (FASTEST, comparison.target, f"Fastest winners, target {comparison.target:.2%}"),
        (MOST_ACCURATE, comparison.hard_target, f"Most accurate winners, target {comparison.hard_target:.2%}"),
    )
    # The step 0, at which all arms guess, is not on the logarithmic scale.
    steps = np.arange(recipe.evaluate_every, comparison.plan.steps + 1, recipe.evaluate_every)
    top = top_of(comparison)
    bands = {key: band_of(runs, len(steps), comparison.chance) for key, runs in comparison.seeds.items()}
    shown = np.concatenate([bands[arm, role].ravel() for arm in recipe.arms for role, _, _ in panels])
    accuracy_axis(row[0], "y", [*shown, comparison.target, comparison.hard_target], top)
    for axes, (role, target, title) in zip(row, panels, strict=True):
        runs = {arm: comparison.seeds[arm, role] for arm in recipe.arms}
        for arm, style in styles.items():
            low, median, high = np.minimum(bands[arm, role], top)
            axes.plot(steps, median, color=style.color, linestyle=style.line, linewidth=2)
            axes.fill_between(steps, low, high, color=style.color, alpha=0.18, linewidth=0)
        axes.axhline(min(target, top), color=INK, linewidth=1.2, linestyle=":", zorder=3)
        axes.axhspan(target - comparison.error, target + comparison.error, color=INK, alpha=0.12, linewidth=0)
        draw_crossings(axes, runs, target, top, styles)
        axes.set_xlim(recipe.evaluate_every, comparison.plan.steps)
        steps_axis(axes, "x")
        label(axes, x="steps", title=wrapped(f"{title}\nspeed-up: {gains(runs, target)}", PANEL_LETTERS))
    label(row[0], x="steps", y="best validation accuracy so far", title=row[0].get_title())
    line = matplotlib.lines.Line2D(
        [], [], color=INK, linestyle=":", label="target ± standard error; a marker is a seed"
    )
    legend(figure, styles, [line])
    return figure


def band_of(runs: Sequence[Run], evaluations: int, chance: float) -> np.ndarray:
    """The lower end, the median and the upper end over seeds of the best accuracy so far, from the first evaluation on.

    The crossings follow from the best so far. A run that diverged counts as chance from then on.
    """
    accuracy = np.full((len(runs), evaluations), chance)
    for row, run in zip(accuracy, runs, strict=True):
        row[: len(run.steps) - 1] = run.running_best[1:]
    share = 0.1 if len(runs) >= MANY_SEEDS else 0.0
    return np.quantile(accuracy, (share, 0.5, 1 - share), axis=0)


def draw_crossings(
    axes: matplotlib.axes.Axes, runs: dict[str, Sequence[Run]], target: float, top: float, styles: dict[str, ArmStyle]
) -> None:
    """A marker where each seed reaches the target, and the number of seeds that never do."""
    misses = {}
    for arm, style in styles.items():
        crossings = np.array([run.crossing(target) for run in runs[arm]])
        reached = crossings[np.isfinite(crossings)]
        axes.plot(
            reached, np.full(len(reached), min(target, top)), style.marker, color=style.color, markersize=6,
            markeredgecolor="white", markeredgewidth=0.6, zorder=4,
        )  # fmt: skip
        misses[arm] = len(crossings) - len(reached)
    if any(misses.values()):
        never = strip(axes, "right", "never")
        for place, (arm, count) in enumerate((arm, count) for arm, count in misses.items() if count):
            height = 0.95 - 0.11 * place
            draw_open(never, [0.25], [height], styles[arm])
            never.text(0.47, height, f"{count}", va="center_baseline", fontsize=SMALL, color=INK)


def gains(runs: dict[str, Sequence[Run]], target: float) -> str:
    """The speed-up of each arm in words."""
    medians = {arm: statistics.median(run.crossing(target) for run in runs[arm]) for arm in runs}
    if 0 in medians.values():
        return "none, as guessing gets there"
    ratios = {arm: ratio_of(medians[BASELINE], medians[arm]) for arm in runs if arm != BASELINE}
    words = {arm: "–" if math.isnan(ratio) else times(ratio) if ratio else "never" for arm, ratio in ratios.items()}
    return ", ".join(f"{arm}\N{NO-BREAK SPACE}{gain}" for arm, gain in words.items())


def accuracy_over_rate(comparison: Comparison) -> matplotlib.figure.Figure:
    """The best validation accuracy of every trial over its learning rate."""
    styles = styles_of(comparison.recipe.arms)
    pools = comparison.plan.pools
    figure, (axes,) = new_figure(comparison.recipe, "every trial, and the best of each half decade", 4.8)
    top = top_of(comparison)
    accuracy_axis(axes, "y", [comparison.chance, *(run.best for pool in pools.values() for run in pool)], top)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.axhline(comparison.chance, color=INK, linewidth=1.2, linestyle=":", zorder=1)
    axes.annotate(
        "chance", (1.005, comparison.chance), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
        color=INK, annotation_clip=False,
    )  # fmt: skip
    diverged = {arm: [run.job.trial.learning_rate for run in pools[arm] if run.diverged_at] for arm in styles}
    if any(diverged.values()):
        beside = make_room(axes, strip_size(len(styles)))
    for place, (arm, style) in enumerate(styles.items()):
        kept = [run for run in pools[arm] if not run.diverged_at]
        axes.plot(
            [run.job.trial.learning_rate for run in kept], [min(run.best, top) for run in kept], style.marker,
            color=style.color, markersize=5, alpha=0.6, markeredgewidth=0,
        )  # fmt: skip
        if diverged[arm]:
            draw_open(beside, diverged[arm], [height_of(place, styles)] * len(diverged[arm]), style)
        edges, accuracies = envelope(pools[arm])
        axes.stairs(
            np.minimum(accuracies, top), edges, baseline=None, color=style.color, linestyle=style.line, linewidth=2
        )
    label(axes, x="learning rate", y="best validation accuracy")
    legend(figure, styles)
    return figure


def make_room(axes: matplotlib.axes.Axes, size: float) -> matplotlib.axes.Axes:
    """A strip for trials that diverged, under a logit axis that is made longer for it."""
    low, high = (logit(end) for end in axes.get_ylim())
    axes.set_ylim(expit(low - 1.1 * size * (high - low)))
    return strip(axes, "bottom", "diverged", size)


def envelope(pool: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """The edges of half decades of learning rates, and the accuracy of the best trial in each; NaN without trials."""
    bins = np.floor([BINS_PER_DECADE * np.log10(run.job.trial.learning_rate) for run in pool])
    numbers = np.arange(bins.min(), bins.max() + 2)
    bests = np.array([run.best for run in pool])
    accuracies = [bests[bins == number].max(initial=-np.inf) for number in numbers[:-1]]
    return 10 ** (numbers / BINS_PER_DECADE), np.where(np.isfinite(accuracies), accuracies, np.nan)

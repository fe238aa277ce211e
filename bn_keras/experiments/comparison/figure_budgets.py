"""The figure of what each arm gets out of a number of trials."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import numpy as np

from bn_keras.experiments.comparison.analysis import Budget, Comparison
from bn_keras.experiments.comparison.figure_style import (
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
from bn_keras.experiments.comparison.recipe import BASELINE

# The factor between the arms' places at the same number of trials, so that their bars do not cover each other.
DODGE = 1.12


def speedup_over_budget(comparison: Comparison) -> matplotlib.figure.Figure:
    """What each arm gets out of 1, 2, 4, … trials: steps to the target, the share that gets there, and accuracy."""
    styles = styles_of(comparison.recipe.arms)
    budgets = comparison.budgets()
    figure, (steps, share, accuracy) = new_figure(comparison.recipe, worth(budgets), 4.4, 3)
    label(steps, x="trials", title=f"Steps to {comparison.target - comparison.error:.2%}")
    label(share, x="trials", title="Searches that get there")
    label(accuracy, x="trials", title="Best accuracy")
    for axes in (steps, share, accuracy):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(budgets) / 1.6, max(budgets) * 1.6)
        axes.set_xticks(list(budgets), [f"{size}" for size in budgets])
        axes.minorticks_off()
    draw_steps(steps, budgets, styles)
    draw_shares(share, budgets, styles)
    draw_accuracies(accuracy, budgets, styles, top_of(comparison))
    legend(figure, styles)
    return figure


def draw_steps(
    axes: matplotlib.axes.Axes, budgets: Mapping[int, Mapping[str, Budget]], styles: dict[str, ArmStyle]
) -> None:
    """Steps to the target; a median that is infinite is in the strip, an infinite quartile at the end of the axis."""
    found = {arm: quartiles([budget[arm].crossings for budget in budgets.values()]) for arm in styles}
    known = np.concatenate([each[np.isfinite(each)] for each in found.values()])
    low, high = (known.min(), known.max()) if len(known) else (1.0, 10.0)
    axes.set_ylim(max(low, 1) / 1.3, 1.3 * high)
    steps_axis(axes, "y")
    never = strip(axes, "top", "never") if any(np.isinf(each[1]).any() for each in found.values()) else None
    for place, (arm, style) in enumerate(styles.items()):
        sizes = dodged(budgets, place, len(styles))
        draw_quartiles(axes, sizes, np.minimum(found[arm], 10 * high), np.isfinite(found[arm][1]), style)
        missed = sizes[np.isinf(found[arm][1])]
        if len(missed):
            draw_open(never, missed, [1 - (place + 1) / (1 + len(styles))] * len(missed), style)


def draw_shares(
    axes: matplotlib.axes.Axes, budgets: Mapping[int, Mapping[str, Budget]], styles: dict[str, ArmStyle]
) -> None:
    """The share of subsets that hold a trial which reaches the target."""
    for arm, style in styles.items():
        shares = [100 * budget[arm].reached for budget in budgets.values()]
        axes.plot(
            list(budgets), shares, color=style.color, linestyle=style.line, marker=style.marker, markersize=6,
            linewidth=2, clip_on=False,
        )  # fmt: skip
    axes.set_ylim(0, 102)
    axes.yaxis.set_major_formatter("{x:g}%")


def draw_accuracies(
    axes: matplotlib.axes.Axes, budgets: Mapping[int, Mapping[str, Budget]], styles: dict[str, ArmStyle], top: float
) -> None:
    """The best accuracy."""
    found = {arm: quartiles([budget[arm].accuracies for budget in budgets.values()]) for arm in styles}
    accuracy_axis(axes, "y", np.ravel(list(found.values())), top)
    for place, (arm, style) in enumerate(styles.items()):
        sizes = dodged(budgets, place, len(styles))
        draw_quartiles(axes, sizes, found[arm], np.full(len(sizes), True), style)


def quartiles(samples: Sequence[np.ndarray]) -> np.ndarray:
    """The quartiles and the median of each sample, each a value of the sample, which may be infinite."""
    return np.stack([np.quantile(sample, (0.25, 0.5, 0.75), method="inverted_cdf") for sample in samples], axis=1)


def dodged(sizes: Sequence[int], place: int, places: int) -> np.ndarray:
    """The numbers of trials, a little to the side for each arm."""
    return np.array(list(sizes)) * DODGE ** (place - (places - 1) / 2)


def draw_quartiles(
    axes: matplotlib.axes.Axes, sizes: np.ndarray, found: np.ndarray, known: np.ndarray, style: ArmStyle
) -> None:
    """A line through the medians that are known, and a bar from the lower to the upper quartile."""
    low, median, high = found
    axes.vlines(sizes, low, high, color=style.color, linewidth=3, alpha=0.35)
    axes.plot(
        sizes, np.where(known, median, np.nan), color=style.color, linestyle=style.line, marker=style.marker,
        markersize=6, linewidth=2,
    )  # fmt: skip


def worth(budgets: Mapping[int, Mapping[str, Budget]]) -> str:
    """What tuning is worth, in words: how many trials of an arm are as accurate as all trials of the baseline."""
    most = max(budgets)
    median = {arm: {size: np.median(budgets[size][arm].accuracies) for size in budgets} for arm in budgets[most]}
    found = []
    for arm in median:
        if arm != BASELINE:
            enough = [size for size in budgets if median[arm][size] >= median[BASELINE][most]]
            found.append(f"{arm} with {trials(enough[0])}" if enough else f"not {arm}")
    return f"As accurate as {BASELINE} with {most}: {', '.join(found)}"


def trials(count: int) -> str:
    """A number of trials."""
    return f"{count} trial" + "s" * (count > 1)

"""The figure of what each arm gets out of a number of trials."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import numpy as np

from bn_keras.experiments.comparison.analysis import Budget, Comparison
from bn_keras.experiments.comparison.figure_style import (
    ArmStyle,
    accuracy_axis,
    draw_open,
    height_of,
    label,
    legend,
    new_figure,
    steps_axis,
    strip,
    strip_size,
    styles_of,
    top_of,
)
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.lab.plot import INK

NO_BREAK = "\N{NO-BREAK SPACE}"
# The factor between the arms' places at the same number of trials, so that their bars do not cover each other, and the
# one between the first and the last place at most.
DODGE, DODGE_ALL = 1.12, 1.5


def speedup_over_budget(comparison: Comparison) -> matplotlib.figure.Figure:
    """What each arm gets out of 1, 2, 4, … trials: steps to the target, the share that gets there, and accuracy."""
    styles = styles_of(comparison.recipe.arms)
    budgets = comparison.budgets()
    figure, (steps, share, accuracy) = new_figure(comparison.recipe, worth(budgets), 4.4, 3)
    for axes in (steps, share, accuracy):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(budgets) / 1.6, max(budgets) * 1.6)
        axes.set_xticks(list(budgets), [f"{size}" for size in budgets])
        axes.minorticks_off()
    raised = draw_steps(steps, budgets, styles, comparison)
    draw_shares(share, budgets, styles)
    draw_accuracies(accuracy, budgets, styles, top_of(comparison))
    label(steps, x="trials", title=f"Steps to {comparison.target - comparison.error:.2%}", raised=raised)
    label(share, x="trials", title="Searches that get there", raised=raised)
    label(accuracy, x="trials", title="Best accuracy", raised=raised)
    bars = matplotlib.lines.Line2D([], [], color=INK, linewidth=3, alpha=0.35, label="quartiles")
    legend(figure, styles, [bars])
    return figure


def draw_steps(
    axes: matplotlib.axes.Axes,
    budgets: Mapping[int, Mapping[str, Budget]],
    styles: dict[str, ArmStyle],
    comparison: Comparison,
) -> float:
    """Steps to the target; a median that is infinite is in the strip, an infinite quartile at the end of the axis.

    Returns:
        The height of the strip, 0 where there is none.
    """
    found = {arm: quartiles([budget[arm].crossings for budget in budgets.values()]) for arm in styles}
    known = np.concatenate([each[np.isfinite(each)] for each in found.values()])
    # A target that guessing reaches is crossed at step 0, which a logarithmic scale lacks.
    known = np.maximum(known, 1.0) if len(known) else [comparison.recipe.evaluate_every, comparison.plan.steps]
    low, high = min(known), max(known)
    axes.set_ylim(low / 1.3, 1.3 * high)
    steps_axis(axes, "y")
    missing = any(np.isinf(each[1]).any() for each in found.values())
    size = strip_size(len(styles)) if missing else 0.0
    never = strip(axes, "top", "never", size) if missing else None
    for place, (arm, style) in enumerate(styles.items()):
        sizes = dodged(budgets, place, len(styles))
        draw_quartiles(axes, sizes, np.clip(found[arm], 1.0, 10 * high), np.isfinite(found[arm][1]), style)
        missed = sizes[np.isinf(found[arm][1])]
        if len(missed):
            draw_open(never, missed, [height_of(place, styles)] * len(missed), style)
    return size


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
    found = {arm: quartiles([budget[arm].accuracies for budget in budgets.values()]).clip(max=top) for arm in styles}
    accuracy_axis(axes, "y", np.ravel(list(found.values())), top)
    for place, (arm, style) in enumerate(styles.items()):
        sizes = dodged(budgets, place, len(styles))
        draw_quartiles(axes, sizes, found[arm], np.full(len(sizes), True), style)


def quartiles(samples: Sequence[np.ndarray]) -> np.ndarray:
    """The quartiles and the median of each sample, each a value of the sample, which may be infinite."""
    return np.stack([np.quantile(sample, (0.25, 0.5, 0.75), method="inverted_cdf") for sample in samples], axis=1)


def dodged(sizes: Sequence[int], place: int, places: int) -> np.ndarray:
    """The numbers of trials, a little to the side for each arm."""
    return np.array(list(sizes)) * min(DODGE, DODGE_ALL ** (1 / (places - 1))) ** (place - (places - 1) / 2)


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
    goal = median.pop(BASELINE)[most]
    enough = {arm: [size for size in budgets if of[size] >= goal] for arm, of in median.items()}
    if len(enough) > 1:
        found = ", ".join(
            f"{arm}{NO_BREAK}with{NO_BREAK}{sizes[0]}" if sizes else f"not{NO_BREAK}{arm}"
            for arm, sizes in enough.items()
        )
        return f"as accurate as {BASELINE} with {most} trials: {found}"
    ((arm, sizes),) = enough.items()
    size = sizes[0] if sizes else most
    return (
        f"{arm} with {size} trial{'s' * (size > 1)} is {'' if sizes else 'not '}as accurate as {BASELINE} with {most}"
    )

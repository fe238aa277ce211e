"""The picture of a comparison."""

import pathlib

import matplotlib.figure
import numpy as np

from bn_keras.experiments.analysis import answers, curves, standard_error
from bn_keras.experiments.report import LABELS, gain
from bn_keras.lab.plot import BLUE, INK, VERMILION, save, tidy

# The two colours differ in print by their darkness; line style and marker repeat the difference.
STYLES = {
    "none": {"label": LABELS["none"], "color": VERMILION, "linestyle": "--", "marker": "s"},
    "batch": {"label": LABELS["batch"], "color": BLUE, "linestyle": "-", "marker": "o"},
}


def draw(results, path):
    """Draws both questions and the sweep into a PNG or SVG file.

    Args:
        results: What `compare` returns, with every run of the recipe.
        path: The file to write; its suffix is the format.

    Raises:
        ValueError: When runs are missing.
    """
    save(figure_of(results), pathlib.Path(path))


def figure_of(results):
    """The same picture as a figure of matplotlib."""
    figure = matplotlib.figure.Figure(figsize=(13, 5.2), layout="constrained")
    same, own, sweep = figure.subplots(1, 3, width_ratios=(1, 1, 0.85))
    recipe = results["recipe"]
    error = standard_error(results)
    lowered = answers(results, lowered_by=error)
    for axes, answer, lower in zip((same, own), answers(results), lowered, strict=True):
        draw_answer(axes, answer)
        draw_target(axes, answer.target, error)
        axes.set_title(
            f"At {answer.question}\nbatch norm: {gain(answer)}\n(target a standard error lower: {gain(lower)})",
            fontsize=10,
            color=INK,
        )
    own.sharey(same)
    draw_sweep(sweep, curves(results), results["data"]["classes"])
    figure.suptitle(
        f"{recipe['preset']} on {recipe['data']}: {len(recipe['seeds'])} seeds, {recipe['optimizer']}, "
        f"batch {recipe['batch_size']}. Lines: mean over seeds; bands: lowest to highest seed; "
        "grey: one standard error under the target.",
        fontsize=11,
        color=INK,
    )
    return figure


def draw_answer(axes, answer):
    """Accuracy over steps of both arms, and where each first reaches the target."""
    for curve, crossing in zip((answer.without, answer.with_norm), answer.crossings, strict=True):
        style = STYLES[curve.arm]
        line = {key: style[key] for key in ("color", "linestyle")}
        label = f"{style['label']}, lr {curve.learning_rate:g}"
        axes.plot(curve.steps, 100 * curve.mean, linewidth=2, label=label, **line)
        low, high = curve.accuracy.min(axis=0), curve.accuracy.max(axis=0)
        axes.fill_between(curve.steps, 100 * low, 100 * high, color=style["color"], alpha=0.18, linewidth=0)
        if crossing.step is not None:
            mark_crossing(axes, crossing, 100 * answer.target, style, lower=curve.arm == "batch")
    axes.set_xlabel("steps")
    axes.set_ylabel("test accuracy, %")
    axes.set_xlim(0, answer.without.steps[-1])
    axes.set_ylim(*accuracy_limits(answer))
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    tidy(axes)


def draw_target(axes, target, standard_error):
    target, error = 100 * target, 100 * standard_error
    axes.axhline(target, color=INK, linewidth=1, linestyle=":", zorder=1)
    axes.axhspan(target - error, target, color=INK, alpha=0.1, linewidth=0, zorder=0)
    axes.text(
        1.01, target, f"target\n{target:.1f}%", transform=axes.get_yaxis_transform(),
        va="center", fontsize=9, color=INK,
    )  # fmt: skip


def mark_crossing(axes, crossing, target, style, lower):
    """A marker on the target, a thin line down to the axis and the step and time beside it."""
    axes.plot(
        crossing.step, target, style["marker"], color=style["color"], markersize=9,
        markeredgecolor="white", markeredgewidth=1.2, zorder=5, clip_on=False,
    )  # fmt: skip
    axes.axvline(crossing.step, color=style["color"], linewidth=0.8, alpha=0.6, zorder=1)
    right_half = crossing.step > 0.5 * axes.get_xlim()[1]
    axes.annotate(
        f"{crossing.step:,} steps\n{crossing.seconds:.2g} s",
        (crossing.step, 0.27 if lower else 0.4),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if right_half else 6, 0),
        textcoords="offset points",
        ha="right" if right_half else "left",
        fontsize=9,
        color=style["color"],
        fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        zorder=6,
    )


def draw_sweep(axes, by_arm, classes):
    """The best accuracy at each learning rate; open markers where runs diverged."""
    for arm, by_rate in by_arm.items():
        style, rates = STYLES[arm], list(by_rate)
        best = [100 * curve.best for curve in by_rate.values()]
        axes.plot(rates, best, linewidth=2, **style)
        for curve in by_rate.values():
            if curve.diverged:
                axes.plot(
                    curve.learning_rate, 100 * curve.best, style["marker"], color=style["color"],
                    markerfacecolor="white", markeredgewidth=1.6,
                )  # fmt: skip
                axes.annotate(
                    f"{curve.diverged} of {len(curve.accuracy)}\ndiverged",
                    (curve.learning_rate, 100 * curve.best),
                    xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8,
                    color=style["color"],
                )  # fmt: skip
    axes.axhline(100 / classes, color=INK, linewidth=1, linestyle=":")
    axes.text(0.01, 100 / classes, "chance", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_ylim(0, 105)
    axes.set_title("Best accuracy at every learning rate\n\n", fontsize=10, color=INK)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("best test accuracy, %")
    axes.legend(loc="best", frameon=False, fontsize=9)
    tidy(axes)


def accuracy_limits(answer):
    """From a little under where the slower arm is early on, so that the target is well inside."""
    lines = [curve.mean for curve in (answer.without, answer.with_norm)]
    low = 100 * min(np.quantile(line, 0.1) for line in lines)
    high = 100 * max(curve.accuracy.max() for curve in (answer.without, answer.with_norm))
    return max(0, low - 0.15 * (high - low)), min(101, high + 0.12 * (high - low))

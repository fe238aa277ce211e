"""C6: with batch norm the distribution of a unit's input stays stable while the network trains."""

from collections.abc import Sequence

import numpy as np

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims import mnist_figure
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, Values
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.mnist_figure import OWN, SAME, SLOW, THIN
from bn_keras.experiments.claims.protocol import divergence_notes, edge_notes, fresh_runs, within_the_sweep
from bn_keras.experiments.claims.two_arms import ARM_STYLES, ARMS, BATCH, NONE, WORDS, final_accuracy, words_of_arm
from bn_keras.experiments.comparison.figure_style import STYLES, ArmStyle, label, legend

SETTINGS = (SLOW, SAME, OWN)
# How many times less the inputs have to drift.
FACTOR = 1.5
BY_CONSTRUCTION = (
    "Batch norm fixes the mean and the variance of these inputs by construction, up to the trained scale and offset. "
    "The figures say how little the scale, the offset and the shape move, not why training is faster."
)


def data(form: Form) -> list[str]:
    """The digits."""
    return [mnist_figure.data_of(form)]


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweep, and then the fresh seeds."""
    return mnist_figure.cells(form, found, SETTINGS)


def runs_of(form: Form, found: Found) -> dict[str, dict[str, list[Values]]]:
    """The fresh runs by setting and arm."""
    pairs = mnist_figure.pairs_of(form, found, SETTINGS)
    return {setting: {arm: fresh_runs(found, **pair[arm]) for arm in ARMS} for setting, pair in pairs.items()}


def drifts(runs: Sequence[Values], name: str = "drift") -> list[float]:
    """The drift of each run; ∞ for one that diverged."""
    return [float("inf") if run["diverged_at"] else run[name] for run in runs]


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    pairs, runs = mnist_figure.pairs_of(form, found, SETTINGS), runs_of(form, found)
    calmer = [
        setting for setting in SETTINGS
        if FACTOR * max(drifts(runs[setting][BATCH])) < min(drifts(runs[setting][NONE]))
    ]  # fmt: skip
    words = "; ".join(calmer)
    edges = edge_notes(found, mnist_figure.sweeps(form, found))
    verdict = HOLDS if {SAME, OWN} <= {*calmer} else CONDITIONALLY if calmer else FAILS
    verdict, conditions = within_the_sweep(verdict, f"at {words}" if verdict == CONDITIONALLY else "", edges)
    return Finding(
        verdict,
        number=f"drift in widths, at each arm's best rate: {spread(drifts(runs[OWN][NONE]), '.2f')} without norm, "
        f"{spread(drifts(runs[OWN][BATCH]), '.2f')} with batch norm",
        because=f"Batch norm drifts at least {FACTOR} times less in every seed at: {words or 'no setting'}.",
        columns=("setting", "arm", "learning rate", "drift", "way", "test accuracy"),
        rows=tuple(
            (setting, WORDS[arm], f"{pairs[setting][arm]['learning_rate']:g}", spread(drifts(row), ".2f"),
             spread(drifts(row, "variation"), ".2f"), spread([final_accuracy(run) for run in row]))
            for setting, arms in runs.items() for arm, row in arms.items()
        ),
        conditions=conditions,
        notes=(BY_CONSTRUCTION, *edges, *divergence_notes(found, words_of_arm)),
    )  # fmt: skip


def draw(form: Form, found: Found):
    """The paper's figure 1 at the slow rate and at each arm's best one: accuracy, and the percentiles of each arm."""
    heading = "the paper's MNIST figure, at the rate 0.01 and at each arm's best rate"
    figure, panels = new_figure(form, heading, columns=3, rows=2, height=6.4)
    runs, pairs = runs_of(form, found), mnist_figure.pairs_of(form, found, SETTINGS)
    for setting, (left, *others), title in ((SLOW, panels[:3], "accuracy, rate 0.01"), (OWN, panels[3:], "best rates")):
        for arm in ARMS:
            draw_accuracy(left, runs[setting][arm], STYLES[arm])
        left.set_ylim(0, 1)
        label(left, x="steps", y="validation accuracy", title=title)
        for axes, arm in zip(others, ARMS, strict=True):
            own = runs[setting][arm]
            draw_percentiles(axes, own, STYLES[arm])
            rate = pairs[setting][arm]["learning_rate"]
            label(axes, x="steps", y="input", title=f"{WORDS[arm]}, rate {rate:g}\ndrift {spread(drifts(own), '.2f')}")
    for axes in panels:
        axes.locator_params(axis="x", nbins=3)
    legend(figure, ARM_STYLES)
    return figure


def draw_accuracy(axes, runs: Sequence[Values], style: ArmStyle) -> None:
    """The median and the range of the seeds that did not diverge."""
    curves = [run for run in runs if not run["diverged_at"]]
    if curves:
        rows = list(zip(*(curve["accuracy"] for curve in curves), strict=True))
        draw_spread(axes, curves[0]["steps"], rows, ArmStyle(style.color, style.line, ""))


def draw_percentiles(axes, runs: Sequence[Values], style: ArmStyle) -> None:
    """The percentiles of the typical unit of the first seed that did not diverge."""
    for run in [run for run in runs if not run["diverged_at"]][:1]:
        steps, (low, median, high) = run["steps"][::THIN], np.array(run["typical"]).T
        axes.fill_between(steps, low, high, color=style.color, alpha=0.2, linewidth=0)
        axes.plot(steps, median, color=style.color, linestyle=style.line, linewidth=2)


CLAIM = Claim(
    id="C6",
    title=CLAIMS["C6"],
    question="How far does the distribution of a unit's input move while the network trains?",
    method=f"{mnist_figure.METHOD} At 201 times: the 15th, 50th and 85th percentiles of the input of each of the 100 "
    "sigmoids of the last hidden layer, on the same 1,000 validation examples, in training mode. Width: the 85th minus "
    "the 15th percentile. Drift: how far a percentile moves after the first tenth of training, in widths of the unit; "
    "the mean of the three percentiles. Way: the length of its path, in the same unit. A run's drift is that of its "
    "median unit. Learning rates: 0.01, the best one without norm for both arms, and each arm's best. The quick form: "
    "the digits, 800 steps, 81 times, three seeds.",
    rule="Batch norm is calmer in a setting if the largest drift of its seeds is less than the smallest one without "
    "norm over 1.5. There are three contrasts. Holds if it is calmer at the best rate without norm and at each arm's "
    "best rate, and no best rate lies at an edge of the sweep. Holds under conditions if it is calmer in one setting "
    "at least. Does not hold otherwise. A run that diverges has an infinite drift.",
    refuted_by="The same drift with and without batch norm.",
    literature="Figure 1b and 1c of the paper: a picture of one unit, without a number and without a learning rate.",
    source="Ioffe & Szegedy 2015, section 4.1, arXiv 1502.03167",
    caption="Left: the validation accuracy; median and range of the seeds. Middle and right: the median, and the band "
    "from the 15th to the 85th percentile, of the input of the unit of median drift, first fresh seed; the drift is "
    "that of all seeds. Upper row: the rate 0.01. Lower row: each arm's best rate.",
    data=data,
    cells=cells,
    measure=mnist_figure.measure,
    judge=judge,
    draw=draw,
    settings={"section 4.1": mnist_figure.FIXED},
)

"""C6: with batch norm the distribution of a unit's input stays stable while the network trains."""

import functools
import statistics
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import new_figure, spread
from bn_keras.experiments.claims.protocol import distinct, divergence_notes, edge_notes, fresh_cells, fresh_runs
from bn_keras.experiments.claims.training import best_rate, train_curve, tuning_cells
from bn_keras.experiments.claims.two_arms import (
    ARM_STYLES,
    ARMS,
    BATCH,
    NONE,
    WITH,
    WORDS,
    final_accuracy,
    norm_of,
    words_of_arm,
)
from bn_keras.experiments.comparison.figure_style import STYLES, label, legend
from bn_keras.experiments.training_recipe import TrainingRecipe

PERCENTILES = (15, 50, 85)
# The paper's figure shows a slow run; 0.01 is the rate of its common re-implementations.
SLOW, SAME, OWN = "the rate 0.01", "the best rate without norm", "each arm's best rate"
# The first steps are left out.
START = 0.1
EXAMPLES = 1_000
# How many times less the inputs have to drift.
FACTOR = 1.5
BY_CONSTRUCTION = (
    "Batch norm fixes the mean and the variance of these inputs by construction, up to the trained scale and offset. "
    "The figures say how little the scale, the offset and the shape move, not why training is faster."
)


def data(form: Form) -> list[str]:
    """The digits."""
    return ["digits" if form.quick else "mnist"]


def rates(form: Form) -> tuple[float, ...]:
    """The learning rates of the sweep."""
    return (0.3, 1.0, 3.0) if form.quick else (0.1, 0.3, 1.0, 3.0, 10.0)


def arm_of(form: Form, arm: str) -> Cell:
    """The settings that all runs of an arm share."""
    return {"data": data(form)[0], "norm": arm, "steps": 400 if form.quick else 12_000}


def settings(form: Form, found: Found) -> dict[str, dict[str, float]]:
    """The learning rate of both arms, by the name of the setting."""
    best = {arm: best_rate(found, rates(form), **arm_of(form, arm)) for arm in ARMS}
    return {SLOW: dict.fromkeys(ARMS, 0.01), SAME: dict.fromkeys(ARMS, best[NONE]), OWN: best}


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweeps, and then the fresh seeds."""
    tuning = tuning_cells([arm_of(form, arm) for arm in ARMS], rates(form))
    if not found.has(tuning):
        return tuning
    runs = [
        cell
        for pair in settings(form, found).values()
        for arm in ARMS
        for cell in fresh_cells(arm_of(form, arm), pair[arm], 3 if form.quick else 5)
    ]
    return distinct(tuning + runs)


def measure(cell: Cell, load) -> dict:
    """The curve of a run, and how the inputs of the last hidden sigmoids move while it trains."""
    digits = cell["data"] == "digits"
    recipe = TrainingRecipe(
        preset="mlp_sigmoid", data=cell["data"], norm=norm_of(cell), optimizer="sgd", batch_size=60,
        learning_rate=cell["learning_rate"], steps=cell["steps"],
        evaluate_every=cell["steps"] // (20 if digits else 50), seed=cell["seed"],
        validation_examples=300 if digits else 2_000,
    )  # fmt: skip
    moments = []

    def observe(trainer, evaluation):
        moments.append(percentiles(trainer.model, trainer.data.validation.inputs[:EXAMPLES]))
        return {}

    curve = train_curve(recipe, load(cell["data"]), observe=observe)
    if curve["diverged_at"]:
        return curve | {"drift": None, "variation": None, "typical": None}
    return curve | drift(np.stack(moments), np.array(curve["steps"]))


def percentiles(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """The percentiles of the input of each sigmoid of the last hidden layer, shape (percentile, unit).

    The network is in training mode, as in the paper: these are the inputs that training sees. The moving statistics
    stay as they were.
    """
    states = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
    values = last_inputs(model)(tf.cast(inputs, model.inputs[0].dtype)).numpy()
    for variable, value in states:
        variable.assign(value)
    return np.percentile(values, PERCENTILES, axis=0)


@functools.lru_cache(maxsize=1)
def last_inputs(model: keras.Model) -> Callable:
    """A compiled function from the images to the inputs of the last hidden sigmoids, in training mode."""
    part = keras.Model(model.inputs, model.get_layer("hidden_3_sigmoid").input)
    return tf.function(lambda images: part(images, training=True))


def drift(curves: np.ndarray, steps: np.ndarray) -> dict:
    """How far the percentiles move after the first steps, in widths of the distribution.

    Args:
        curves: Percentiles of the shape (step, percentile, unit).
        steps: The step of each row.

    Returns:
        `drift`: the distance from the lowest to the highest value, `variation`: the length of the way; each the mean
        over the percentiles in the unit's mean width, and of the units the median one. `typical`: the percentiles of
        the unit of the median drift.
    """
    late = curves[steps >= START * steps[-1]]
    width = np.maximum((late[:, -1] - late[:, 0]).mean(0), 1e-12)
    distance = np.ptp(late, axis=0).mean(0) / width
    length = np.abs(np.diff(late, axis=0)).sum(0).mean(0) / width
    unit = np.argsort(distance)[len(distance) // 2]
    return {
        "drift": round(float(np.median(distance)), 5),
        "variation": round(float(np.median(length)), 5),
        "typical": [[float(f"{value:.5g}") for value in row] for row in curves[:, :, unit]],
    }


def runs_of(form: Form, found: Found, setting: str, arm: str) -> list[dict]:
    """The fresh runs of an arm in a setting."""
    return fresh_runs(found, **arm_of(form, arm), learning_rate=settings(form, found)[setting][arm])


def drifts(runs: list[dict], name: str = "drift") -> list[float]:
    """The drift of each run; ∞ for one that diverged."""
    return [float("inf") if run["diverged_at"] else run[name] for run in runs]


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    pairs = settings(form, found)
    runs = {(setting, arm): runs_of(form, found, setting, arm) for setting in pairs for arm in ARMS}
    calmer = {
        setting: FACTOR * max(drifts(runs[setting, BATCH])) < min(drifts(runs[setting, NONE])) for setting in pairs
    }
    verdict = HOLDS if calmer[SAME] and calmer[OWN] else CONDITIONALLY if any(calmer.values()) else FAILS
    words = "; ".join(f"at {setting}: {'yes' if calmer[setting] else 'no'}" for setting in pairs)
    return Finding(
        verdict,
        number=f"drift in widths, at each arm's best rate: {spread(drifts(runs[OWN, NONE]), '.2f')} without norm, "
        f"{spread(drifts(runs[OWN, BATCH]), '.2f')} with batch norm",
        because=f"Less drift by a factor of {FACTOR} in all seeds {words}.",
        columns=("setting", "arm", "learning rate", "drift", "way", "test accuracy"),
        rows=tuple(
            (setting, WORDS[arm], f"{pairs[setting][arm]:g}", spread(drifts(row), ".2f"),
             spread(drifts(row, "variation"), ".2f"), spread([final_accuracy(run) for run in row]))
            for (setting, arm), row in runs.items()
        ),
        conditions=words if verdict == CONDITIONALLY else "",
        notes=(
            BY_CONSTRUCTION,
            *edge_notes(found, {WITH[arm]: (arm_of(form, arm), rates(form)) for arm in ARMS}),
            *divergence_notes(found, words_of_arm),
        ),
    )  # fmt: skip


def draw(form: Form, found: Found):
    """The percentiles of a typical unit of each arm, and the drift in every setting."""
    figure, (*panels, right) = new_figure(form, "the input of a sigmoid of the last hidden layer", 3)
    for axes, arm in zip(panels, ARMS, strict=True):
        runs = [run for run in runs_of(form, found, SAME, arm) if not run["diverged_at"]]
        for run in runs[:1]:
            low, median, high = np.array(run["typical"]).T
            axes.fill_between(run["steps"], low, high, color=STYLES[arm].color, alpha=0.2, linewidth=0)
            axes.plot(run["steps"], median, color=STYLES[arm].color, linestyle=STYLES[arm].line, linewidth=2)
        rate = settings(form, found)[SAME][arm]
        label(axes, x="steps", y="input" * (arm == NONE), title=f"{WORDS[arm]}, rate {rate:g}")
        axes.locator_params(axis="x", nbins=4)
    for shift, arm in zip((-0.1, 0.1), ARMS, strict=True):
        for place, setting in enumerate(settings(form, found)):
            values = [value for value in drifts(runs_of(form, found, setting, arm)) if np.isfinite(value)]
            style = STYLES[arm]
            right.plot([place + shift] * len(values), values, style.marker, color=style.color, alpha=0.6)
            if values:
                right.plot(place + shift, statistics.median(values), "_", color=style.color, markersize=16)
    right.set_xticks(range(3), ["0.01", "best\nwithout", "each\nbest"])
    right.set(xlim=(-0.5, 2.5), ylim=(0, None))
    label(right, x="learning rate", y="drift, in widths")
    legend(figure, ARM_STYLES)
    return figure


CLAIM = Claim(
    id="C6",
    title="With batch norm the distribution of a unit's input stays stable while the network trains",
    question="How far does the distribution of a unit's input move while the network trains?",
    method="The paper's network on MNIST, plain SGD, batch 60, 12,000 steps. At 51 times the 15th, 50th and 85th "
    "percentiles of the input of all 100 sigmoids of the last hidden layer, on the same 1,000 validation examples in "
    "training mode. The drift of a unit is the range of a percentile after the first tenth of the steps over the "
    "mean width (85th less 15th percentile), mean of the three; a run's drift is that of its median unit. Learning "
    "rates: 0.01, the best one without norm for both arms, and each arm's best of five from 0.1 to 10. Five fresh "
    "seeds. The quick form: the digits, 400 steps, 21 times, three rates, three seeds.",
    rule="Batch norm is calmer in a setting if the largest drift of its seeds is less than the smallest one without "
    "norm over 1.5. Holds if it is calmer at the best rate without norm and at each arm's best rate. Holds under "
    "conditions if it is calmer in one setting at least. Does not hold otherwise. A run that diverges has an "
    "infinite drift.",
    refuted_by="The same drift with and without batch norm.",
    literature="Figure 1b and 1c of the paper: a picture of one unit, without a number and without a learning rate.",
    source="Ioffe & Szegedy 2015, section 4.1, arXiv 1502.03167",
    caption="Left and middle: the median, and the band from the 15th to the 85th percentile, of the input of the unit "
    "of median drift, first fresh seed, at the best rate without norm. Right: the drift of each seed.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)

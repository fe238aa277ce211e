"""Half-spaces for C9: gradient descent on a logistic loss, with batch norm and without."""

import functools
import math

import matplotlib.axes
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.claim import Cell, Form, Found, Values
from bn_keras.experiments.claims.figures import spread
from bn_keras.experiments.comparison.figure_style import ArmStyle, label
from bn_keras.models import norm

ARMS = ("batch", "none")
EXAMPLES, DIMENSIONS, MARGIN = 1000, 20, 3.0
# The best rate is near the edge of stability, which differs between data: a rate has to do for several seeds.
TUNING_SEEDS = (0, 1, 2)
EVERY = 10
TARGETS = (1e-2, 1e-4, 1e-6)
TARGET = TARGETS[-1]
# How many points of a curve are stored.
POINTS = 40
SETTINGS = {"examples": EXAMPLES, "dimensions": DIMENSIONS, "margin": MARGIN, "targets": TARGETS}


def conditions(form: Form) -> tuple[int, ...]:
    """The condition numbers of the inputs' covariance."""
    return (10, 100) if form.quick else (1, 10, 100, 1000)


def rates(form: Form) -> tuple[float, ...]:
    """The learning rates that both arms try."""
    return (4.0, 8.0, 16.0, 32.0) if form.quick else (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def arm_cells(form: Form) -> list[Cell]:
    """The arms at each condition number."""
    steps = 1500 if form.quick else 10_000
    return [
        {"part": "half-space", "arm": arm, "condition": condition, "steps": steps}
        for condition in conditions(form)
        for arm in ARMS
    ]


def cells(form: Form, found: Found) -> list[Cell]:
    """The tuning of each arm, and fresh seeds at the best rate when it is complete."""
    tuning = [
        arm | {"learning_rate": rate, "seed": seed}
        for arm in arm_cells(form)
        for rate in rates(form)
        for seed in TUNING_SEEDS
    ]
    if not found.has(tuning):
        return tuning
    fresh = range(len(TUNING_SEEDS), len(TUNING_SEEDS) + (3 if form.quick else 7))
    return tuning + [
        arm | {"learning_rate": best_rate(form, found, arm), "seed": seed} for arm in arm_cells(form) for seed in fresh
    ]


def tuning_curves(form: Form, found: Found, arm: Cell) -> dict[float, list[Values]]:
    """The curves of the tuning seeds, by learning rate."""
    return {rate: [found[arm | {"learning_rate": rate, "seed": seed}] for seed in TUNING_SEEDS] for rate in rates(form)}


def best_rate(form: Form, found: Found, arm: Cell) -> float:
    """The rate whose slowest tuning seed is the fastest, or ends closest; the lower one of two equal ones."""
    runs = tuning_curves(form, found, arm)
    return min(runs, key=lambda rate: (max(map(steps_to, runs[rate])), max(map(final, runs[rate])), rate))


def final(curve: Values) -> float:
    """The last distance from the optimum; ∞ for a run that diverged."""
    return curve["gap"][-1] if math.isfinite(curve["gap"][-1]) else math.inf


def steps_to(curve: Values, target: float = TARGET) -> float:
    """The first step with a distance from the optimum of at most the target; ∞ for a run that never gets there."""
    return next((step for step, gap in zip(curve["steps"], curve["gap"], strict=True) if gap <= target), math.inf)


def thinned(gaps: list[float]) -> Values:
    """A curve of few points: the first ones that reach each target, and some between."""
    places = {round(place) for place in np.linspace(0, len(gaps) - 1, POINTS)}
    for target in TARGETS:
        places |= set([place for place, gap in enumerate(gaps) if gap <= target][:1])
    return {"steps": [place * EVERY for place in sorted(places)], "gap": [gaps[place] for place in sorted(places)]}


def measure(cell: Cell) -> Values:
    """The distance of the loss from its optimum, every ten steps."""
    inputs, signs, weights = half_space(cell["condition"], cell["seed"])
    optimum = lowest_loss(inputs, signs)
    start, descend = descent(cell["arm"])
    start(weights)
    gaps = []
    for _ in range(0, cell["steps"] + 1, EVERY):
        loss = float(descend(tf.constant(inputs), tf.constant(signs), tf.constant(cell["learning_rate"], tf.float64)))
        gaps.append(float(f"{loss - optimum:.4g}"))
        if not math.isfinite(loss) or gaps[-1] <= TARGET / 10:
            break
    return thinned(gaps)


def half_space(condition: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred Gaussian inputs, noisy signs of one side or the other, and the weights to start from."""
    random = np.random.default_rng([seed, condition])
    deviations = np.geomspace(1.0, condition**-0.5, DIMENSIONS)
    inputs = random.normal(size=(EXAMPLES, DIMENSIONS)) * deviations
    inputs -= inputs.mean(0)
    # The direction is random for inputs of unit covariance.
    margins = (inputs / deviations) @ random.normal(size=DIMENSIONS) / math.sqrt(DIMENSIONS)
    positive = random.uniform(size=EXAMPLES) < 1 / (1 + np.exp(-MARGIN * margins))
    return inputs, np.where(positive, 1.0, -1.0), random.normal(size=DIMENSIONS) / math.sqrt(DIMENSIONS)


def lowest_loss(inputs: np.ndarray, signs: np.ndarray) -> float:
    """The minimum of the logistic loss, by Newton's method with halved steps."""
    signed = inputs * signs[:, np.newaxis]
    weights = np.zeros(inputs.shape[1])

    def loss(at):
        return float(np.logaddexp(0, -signed @ at).mean())

    for _ in range(100):
        wrong = 1 / (1 + np.exp(signed @ weights))
        gradient = -(signed * wrong[:, np.newaxis]).mean(0)
        hessian = (signed * (wrong * (1 - wrong))[:, np.newaxis]).T @ signed / len(signed)
        step = np.linalg.solve(hessian, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-14:
            step = step / 2
        weights = weights - step
        if np.abs(gradient).max() < 1e-14:
            break
    return loss(weights)


@functools.cache
def descent(arm: str):
    """Two functions: one sets the weights, the other takes ten steps and returns the loss before them."""
    weights = tf.Variable(tf.zeros((DIMENSIONS, 1), tf.float64))
    layer = norm("batch", center=False, dtype="float64") if arm == "batch" else None
    if layer:
        layer.build((EXAMPLES, 1))
    variables = [weights, layer.gamma.value] if layer else [weights]

    def start(values):
        weights.assign(values[:, np.newaxis])
        if layer:
            layer.gamma.assign([1.0])

    def loss_and_gradients(inputs, signs):
        with tf.GradientTape() as tape:
            scores = inputs @ weights
            scores = layer(scores, training=True) if layer else scores
            loss = tf.reduce_mean(tf.nn.softplus(-signs[:, tf.newaxis] * scores))
        return loss, tape.gradient(loss, variables)

    @tf.function
    def descend(inputs, signs, learning_rate):
        first, _ = loss_and_gradients(inputs, signs)
        for _ in tf.range(EVERY):
            _, gradients = loss_and_gradients(inputs, signs)
            for variable, gradient in zip(variables, gradients, strict=True):
                variable.assign_sub(learning_rate * gradient)
        return first

    return start, descend


def fresh_curves(form: Form, found: Found, arm: Cell) -> list[Values]:
    """The curves of the fresh seeds."""
    runs = found.where(**arm, learning_rate=best_rate(form, found, arm))
    return [values for cell, values in runs if cell["seed"] not in TUNING_SEEDS]


def steps_of(form: Form, found: Found) -> dict[int, dict[str, list[float]]]:
    """The steps of the fresh seeds, by condition number and arm."""
    by_condition: dict[int, dict[str, list[float]]] = {}
    for arm in arm_cells(form):
        steps = [steps_to(curve) for curve in fresh_curves(form, found, arm)]
        by_condition.setdefault(arm["condition"], {})[arm["arm"]] = steps
    return by_condition


def speedups(form: Form, found: Found) -> dict[int, list[float]]:
    """The steps without norm over those with batch norm, seed by seed; 0 where batch norm never gets there."""
    return {
        condition: [
            0.0 if math.isinf(fast) else plain / fast for fast, plain in zip(arms["batch"], arms["none"], strict=True)
        ]
        for condition, arms in steps_of(form, found).items()
    }


def times(ratios: list[float]) -> str:
    """A speed-up in words; ∞ where only batch norm gets there."""
    return f"{spread(ratios, '.2f')}×".replace("never", "∞")


def tail(curve: Values) -> float:
    """The steps from 1e-4 to 1e-6 over those from 1e-2 to 1e-4: 1 for linear convergence, 100 for 1 / steps."""
    first, second, third = (steps_to(curve, target) for target in TARGETS)
    return math.inf if math.isinf(third) else (third - second) / max(second - first, EVERY)


def usable_rates(form: Form, found: Found, condition: int) -> dict[str, str]:
    """How many learning rates reach the target with every tuning seed, by arm."""
    usable = {}
    for arm in arm_cells(form):
        if arm["condition"] == condition:
            runs = tuning_curves(form, found, arm).values()
            usable[arm["arm"]] = f"{sum(max(map(steps_to, curves)) < math.inf for curves in runs)} of {len(runs)}"
    return usable


def rows(form: Form, found: Found) -> list[tuple[str, ...]]:
    """Rows of the table: the steps to the target, and how they spread over its decades."""
    result = []
    for condition, arms in steps_of(form, found).items():
        steps = {arm: spread(values, ",.0f") for arm, values in arms.items()}
        at = f"condition number {condition}"
        result.append((f"{at}: steps", steps["batch"], "–", steps["none"]))
        tails = {
            arm["arm"]: spread([tail(curve) for curve in fresh_curves(form, found, arm)], ".1f")
            for arm in arm_cells(form)
            if arm["condition"] == condition
        }
        result.append((f"{at}: steps 1e-4 to 1e-6, over 1e-2 to 1e-4", tails["batch"], "–", tails["none"]))
        usable = usable_rates(form, found, condition)
        result.append((f"{at}: learning rates that reach the target", usable["batch"], "–", usable["none"]))
    return result


def notes(form: Form, found: Found) -> list[str]:
    """The best rates at an edge of the grid, and runs that did not reach the target."""
    result = []
    for arm in arm_cells(form):
        words = f"{'batch norm' if arm['arm'] == 'batch' else 'no norm'} at condition number {arm['condition']}"
        rate = best_rate(form, found, arm)
        if rate in (rates(form)[0], rates(form)[-1]):
            result.append(f"The best learning rate with {words} is {rate:g}, an edge of the grid.")
        reached = [steps_to(curve) < math.inf for curve in fresh_curves(form, found, arm)]
        if not all(reached):
            missed = f"{reached.count(False)} of {len(reached)} runs"
            result.append(f"With {words}, {missed} did not reach the target in {arm['steps']:,} steps.")
    return result


def draw(axes: matplotlib.axes.Axes, form: Form, found: Found, styles: dict[str, ArmStyle]) -> None:
    """The distance from the optimum over the steps, at the largest condition number."""
    condition = conditions(form)[-1]
    for arm in arm_cells(form):
        if arm["condition"] != condition:
            continue
        style = styles[arm["arm"]]
        for curve in fresh_curves(form, found, arm):
            gaps = np.maximum(curve["gap"], TARGET / 100)
            axes.plot(curve["steps"], gaps, color=style.color, linestyle=style.line, linewidth=1.5)
    axes.axhline(TARGET, color="#000000", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    label(axes, x="step", y="loss − optimum", title=f"half-space, condition number {condition}")

"""C9: norm decouples the length of weights from their direction, and learning half-spaces becomes faster."""

import math

import keras
import numpy as np
import tensorflow as tf

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims import halfspaces
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.lab.plot import BLUE, ORANGE, VERMILION
from bn_keras.models import norm

# Relative differences that float64 leaves after some dozen steps.
EXACT = 1e-8
FACTORS = (0.01, 0.1, 10.0, 100.0)
STEPS, LEARNING_RATE = 30, 0.5
MEASURED = {
    "output": "output with scaled weights",
    "gradient": "gradient × factor",
    "orthogonality": "cosine of weights and gradient",
    "path": "path at learning rate × factor²",
    "growth": "‖w‖² against ‖w‖² + lr²‖g‖²",
}
LENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEFAULT_EPSILON = 1e-3
STYLES = {
    "batch": ArmStyle(BLUE, "-", "o"),
    "layer": ArmStyle(ORANGE, "-.", "^"),
    "none": ArmStyle(VERMILION, "--", "s"),
}


def cells(form: Form, found: Found) -> list[Cell]:
    """The identities, the bias of ε, and the half-spaces: tuning first, then new seeds."""
    seeds = 3 if form.quick else 10
    exact = [{"part": "identities", "arm": arm, "seed": seed} for arm in STYLES for seed in range(seeds)]
    bias = [{"part": "epsilon", "arm": arm, "seed": seed} for arm in ("batch", "layer") for seed in range(seeds)]
    return exact + bias + halfspaces.cells(form, found)


def measure(cell: Cell, load) -> dict:
    """One of the three experiments."""
    if cell["part"] == "half-space":
        return halfspaces.measure(cell)
    problem = Problem(cell["arm"], cell["seed"], 0.0 if cell["part"] == "identities" else DEFAULT_EPSILON)
    return identities(problem) if cell["part"] == "identities" else {"cosine": cosines_over_length(problem)}


class Problem:
    """A layer of weights, a norm and a random smooth loss, in float64."""

    def __init__(self, arm: str, seed: int, epsilon: float):
        random = np.random.default_rng(seed)
        self.inputs = tf.constant(random.normal(size=(64, 20)))
        self.signs = tf.constant(np.sign(random.normal(size=(64, 8))))
        self.weights = tf.constant(random.normal(size=(20, 8)) / math.sqrt(20))
        # Batch norm sees the weights of a unit as one vector, layer norm the whole matrix.
        self.axis = None if arm == "layer" else 0
        self.layer = (
            keras.layers.Identity(dtype="float64") if arm == "none" else norm(arm, epsilon=epsilon, dtype="float64")
        )

    def output(self, weights: tf.Tensor) -> tf.Tensor:
        return self.layer(self.inputs @ weights, training=True)

    def gradient(self, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean(tf.nn.softplus(self.signs * self.output(weights)))
        return tape.gradient(loss, weights)

    def descend(self, weights: tf.Tensor, learning_rate: float) -> list[tf.Tensor]:
        """The weights of each step of plain gradient descent."""
        path = [weights]
        for _ in range(STEPS):
            path.append(path[-1] - learning_rate * self.gradient(path[-1]))
        return path

    def cosine(self, weights: tf.Tensor) -> float:
        """The largest absolute cosine between a weight vector and its gradient."""
        gradient = self.gradient(weights)
        dot = tf.reduce_sum(weights * gradient, self.axis)
        lengths = tf.norm(weights, axis=self.axis) * tf.norm(gradient, axis=self.axis)
        return float(tf.reduce_max(tf.abs(dot / lengths)))


def identities(problem: Problem) -> dict:
    """How far each identity is from being true, as a relative difference."""
    weights = problem.weights
    path = problem.descend(weights, LEARNING_RATE)
    squares = [float(tf.reduce_sum(each**2)) for each in path]
    steps = [LEARNING_RATE**2 * float(tf.reduce_sum(problem.gradient(each) ** 2)) for each in path[:-1]]
    return {
        "output": max(relative(problem.output(c * weights), problem.output(weights)) for c in FACTORS),
        "gradient": max(relative(c * problem.gradient(c * weights), problem.gradient(weights)) for c in FACTORS),
        "orthogonality": problem.cosine(weights),
        "path": max(
            relative(problem.output(problem.descend(c * weights, c**2 * LEARNING_RATE)[-1]), problem.output(path[-1]))
            for c in FACTORS[1:3]
        ),
        "growth": max(
            abs(after / (before + step) - 1)
            for before, after, step in zip(squares[:-1], squares[1:], steps, strict=True)
        ),
        "length": squares[-1] / squares[0],
    }


def cosines_over_length(problem: Problem) -> list[float]:
    """The cosine with the default ε, over the factor on the weights."""
    return [problem.cosine(length * problem.weights) for length in LENGTHS]


def relative(after: tf.Tensor, before: tf.Tensor) -> float:
    """The size of a difference, over the size of what was there."""
    return float(tf.norm(after - before) / tf.norm(before))


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    worst = {arm: {name: max(found.values(name, part="identities", arm=arm)) for name in MEASURED} for arm in STYLES}
    exact = all(value <= EXACT for arm in ("batch", "layer") for value in worst[arm].values())
    coupled = all(worst["none"][name] > 0.01 for name in ("output", "gradient", "orthogonality"))
    speedups = halfspaces.speedups(form, found)
    faster = [condition for condition, ratios in speedups.items() if min(ratios) > 1]
    verdict = FAILS if not (exact and coupled and faster) else HOLDS if len(faster) == len(speedups) else CONDITIONALLY
    rows = [(words, *(f"{float(f'{worst[arm][name]:.2g}'):g}" for arm in STYLES)) for name, words in MEASURED.items()]
    rows += halfspaces.rows(form, found)
    hardest = max(speedups)
    usable = halfspaces.usable_rates(form, found, hardest)
    tiny = max(max(run) for run in found.values("cosine", part="epsilon", arm="batch"))
    return Finding(
        verdict,
        number=f"decoupled to {max(max(worst[arm].values()) for arm in ('batch', 'layer')):.1g}; half-spaces "
        f"{halfspaces.times(speedups[hardest])} as fast at condition number {hardest}",
        because="The identities of scaled weights hold to "
        f"{max(worst['batch'].values()):.1g} with batch norm and {max(worst['layer'].values()):.1g} with layer norm. "
        "Half-spaces: "
        + ", ".join(
            f"{halfspaces.times(ratios)} as fast at condition number {condition}"
            for condition, ratios in speedups.items()
        )
        + f". At condition number {hardest}, {usable['batch']} learning rates reach the target with batch norm, "
        f"{usable['none']} without.",
        columns=("measured", *STYLES),
        rows=tuple(rows),
        conditions=f"half-spaces are learned faster in every run only at condition number {', '.join(map(str, faster))}"
        if verdict == CONDITIONALLY
        else "",
        notes=(
            f"With the default ε of 0.001, short weights are coupled again: the cosine reaches {tiny:.2g}.",
            *halfspaces.notes(form, found),
        ),
    )


def draw(form: Form, found: Found):
    """The bias of ε, a half-space at the largest condition number, and the speed-ups."""
    figure, (left, right) = new_figure(form, "length and direction of weights", 2)
    for arm in ("batch", "layer"):
        runs = found.values("cosine", part="epsilon", arm=arm)
        draw_spread(left, LENGTHS, np.maximum(np.transpose(runs), 1e-17), STYLES[arm])
    left.set(xscale="log", yscale="log")
    label(left, x="factor on the weights", y="|cosine| of weights and gradient", title="ε = 0.001")
    halfspaces.draw(right, form, found, STYLES)
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C9",
    title=CLAIMS["C9"],
    question="Do the output and the path of training depend on the length of the weights before a norm?",
    method="Part 1, in float64 with ε = 0: the output, the gradient and 30 steps of gradient descent with weights "
    "times factors from 0.01 to 100. Part 2: a half-space with logistic noise from 1,000 Gaussian inputs of 20 "
    "dimensions and a given condition number; gradient descent on all examples with batch norm and without. Both start "
    "from the same weights, and each takes the learning rate of one grid that is best for three tuning seeds. Fresh "
    "seeds count the steps until the loss is within 1e-6 of the optimum, which Newton's method finds.",
    rule="Decoupled: in every run with batch norm and layer norm the output, c times the gradient, the path at c² "
    "times the learning rate and the growth of ‖w‖² agree to 1e-8, and the cosine of weights and gradient is below "
    "1e-8; without norm, output, gradient and cosine are off by more than 0.01. Faster: every seed needs fewer steps "
    "with batch norm; with 7 seeds (sketch: 3) chance does this once in 128 times. Holds if decoupled, and faster at "
    "all condition numbers. Holds under conditions if decoupled, and faster at one of them or more. Does not hold "
    "otherwise.",
    refuted_by="A gradient with a part along the weights although ε is 0, or half-spaces that are learned no faster at "
    "any condition number.",
    literature="The identities are exact. With Gaussian inputs normalized gradient descent converges linearly on "
    "half-spaces, where the bound for plain gradient descent is sublinear.",
    source="Kohler et al. 2018, Exponential convergence rates for Batch Normalization, arXiv 1805.10694",
    caption="Left: the largest cosine between the weights of a unit (layer norm: all weights) and their gradient. "
    "Median and range of the seeds. Right: the distance of the loss from its optimum over the steps, at the largest "
    "condition number; a line for each seed.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={
        "factors": FACTORS, "steps": STEPS, "learning rate": LEARNING_RATE, "lengths": LENGTHS,
        "epsilon": DEFAULT_EPSILON, **halfspaces.SETTINGS,
    },
)  # fmt: skip

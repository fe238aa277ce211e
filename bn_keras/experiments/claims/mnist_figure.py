"""The runs of the paper's MNIST figure (section 4.1), which C1, C4 and C6 share."""

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.claim import SHARED, Cell, Form, Found, Values
from bn_keras.experiments.claims.protocol import distinct, fresh_cells, swept_rates
from bn_keras.experiments.claims.training import best_rate, train_curve, tuning_cells
from bn_keras.experiments.claims.two_arms import ARMS, NONE, WITH, norm_of
from bn_keras.experiments.training_recipe import TrainingRecipe

# The paper's figure gives no learning rate; 0.01 is that of Udacity's re-implementation.
SLOW, SAME, OWN = "the rate 0.01", "the best rate without norm", "each arm's best rate"
SLOW_RATE = 0.01
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
PERCENTILES = (15, 50, 85)
# The percentiles are those of so many validation examples.
EXAMPLES = 1_000
# The first steps do not count as drift.
START = 0.1
# The percentiles of every fourth evaluation are kept.
THIN = 4
BATCH_SIZE = 60
# What changes a run and is not in its cell.
FIXED = {"batch": BATCH_SIZE, "percentiles": PERCENTILES, "examples": EXAMPLES, "drift after": START, "thin": THIN}
METHOD = (
    "The paper's network on MNIST: three hidden layers of 100 sigmoids, plain SGD, batch 60, 50,000 steps (55 epochs). "
    "Each arm tries five learning rates from 0.1 to 10, one run of 10,000 steps each, and more where the best rate of "
    "either arm lies at an edge. Five fresh seeds. C1, C4 and C6 read the same runs."
)


def data_of(form: Form) -> str:
    """The digits."""
    return "digits" if form.quick else "mnist"


def arm_of(form: Form, arm: str, tuning: bool = False) -> Cell:
    """The settings that all runs of an arm share."""
    steps, tuning_steps = (800, 400) if form.quick else (50_000, 10_000)
    size = {"data": data_of(form), "steps": tuning_steps if tuning else steps}
    return {SHARED: "section 4.1", "network": "mlp_sigmoid", "norm": arm} | size


def rates_of(form: Form, found: Found) -> tuple[float, ...]:
    """The learning rates that both arms try."""
    return swept_rates(found, [arm_of(form, arm, tuning=True) for arm in ARMS], RATES)


def sweeps(form: Form, found: Found) -> dict[str, tuple[Cell, tuple[float, ...]]]:
    """The settings and the learning rates of the tuning of each arm, by its name in words."""
    return {f"the MLP {WITH[arm]}": (arm_of(form, arm, tuning=True), rates_of(form, found)) for arm in ARMS}


def pairs_of(form: Form, found: Found, settings: Sequence[str]) -> dict[str, dict[str, Cell]]:
    """By setting and arm: what the fresh runs share, with their learning rate."""
    rates = rates_of(form, found)
    best = {arm: best_rate(found, rates, **arm_of(form, arm, tuning=True)) for arm in ARMS}
    chosen = {SLOW: dict.fromkeys(ARMS, SLOW_RATE), SAME: dict.fromkeys(ARMS, best[NONE]), OWN: best}
    return {
        setting: {arm: arm_of(form, arm) | {"learning_rate": chosen[setting][arm]} for arm in ARMS}
        for setting in settings
    }


def cells(form: Form, found: Found, settings: Sequence[str]) -> list[Cell]:
    """The sweep, and then the fresh seeds."""
    tuning = tuning_cells([arm_of(form, arm, tuning=True) for arm in ARMS], rates_of(form, found))
    if not found.has(tuning):
        return tuning
    runs = [run for pair in pairs_of(form, found, settings).values() for run in pair.values()]
    seeds = 3 if form.quick else 5
    return distinct([*tuning, *(cell for run in runs for cell in fresh_cells(run, run["learning_rate"], seeds))])


def measure(cell: Cell, load: Callable) -> Values:
    """The curve of a run, and how the inputs of the last hidden sigmoids move while it trains."""
    recipe, moments = recipe_of(cell), []

    def observe(trainer, evaluation):
        moments.append(percentiles(trainer.model, trainer.data.validation.inputs[:EXAMPLES]))
        return {}

    curve = train_curve(recipe, load(cell["data"]), observe=observe)
    if curve["diverged_at"]:
        return curve | {"drift": None, "variation": None, "typical": None}
    return curve | drift(np.stack(moments), np.array(curve["steps"]))


def recipe_of(cell: Cell) -> TrainingRecipe:
    """The recipe of a run."""
    digits = cell["data"] == "digits"
    return TrainingRecipe(
        preset=cell["network"], data=cell["data"], norm=norm_of(cell), optimizer="sgd", batch_size=BATCH_SIZE,
        learning_rate=cell["learning_rate"], steps=cell["steps"], evaluate_every=10 if digits else 250,
        validation_examples=300 if digits else 5_000, seed=cell["seed"],
    )  # fmt: skip


def percentiles(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """The percentiles of the input of each sigmoid of the last hidden layer, shape (percentile, unit).

    The network is in training mode: these are the inputs that training sees. The moving statistics stay as they were.
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


def drift(curves: np.ndarray, steps: np.ndarray) -> Values:
    """How far the percentiles move after the first steps, in widths of the distribution.

    Args:
        curves: Percentiles of the shape (step, percentile, unit).
        steps: The step of each row.

    Returns:
        `drift`: the distance from the lowest to the highest value, `variation`: the length of the way; each the mean
        over the percentiles in the unit's mean width, and of the units the median one. `typical`: the percentiles of
        the unit of the median drift at every `THIN`th step.
    """
    late = curves[steps >= START * steps[-1]]
    width = np.maximum((late[:, -1] - late[:, 0]).mean(0), 1e-12)
    distance = np.ptp(late, axis=0).mean(0) / width
    length = np.abs(np.diff(late, axis=0)).sum(0).mean(0) / width
    unit = np.argsort(distance)[len(distance) // 2]
    return {
        "drift": round(float(np.median(distance)), 5),
        "variation": round(float(np.median(length)), 5),
        "typical": [[float(f"{value:.4g}") for value in row] for row in curves[::THIN, :, unit]],
    }

"""The networks of the batch normalization paper's section 4.2, as far as their changes apply to a small network."""

import dataclasses
import functools
from collections.abc import Callable

import keras

from bn_keras.experiments.claims.claim import Cell
from bn_keras.experiments.claims.training import train_curve
from bn_keras.experiments.claims.two_arms import BATCH, NONE, build_sigmoid_network, norm_of
from bn_keras.experiments.comparison.figure_style import ArmStyle
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

DROPOUT = 0.2
WEIGHT_DECAY = 0.005
FEWER = 5  # times less weight decay
FASTER = 6  # times faster decay of the learning rate
WIDTH, BATCH_SIZE = 0.125, 32
# What changes a run and is not in its cell.
FIXED = {"width": WIDTH, "batch": BATCH_SIZE, "dropout": DROPOUT, "weight decay": WEIGHT_DECAY, "fewer": FEWER,
         "faster": FASTER}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PaperArm:
    """An arm of section 4.2.

    Attributes:
        norm: `"none"` or `"batch"`; a str.
        rate: The learning rate, in those of Inception; a float. `None` for the best one of a sweep of its own.
        changed: Whether the changes of section 4.2.1 that go with batch norm apply: no dropout, a fifth of the weight
            decay, a six times faster decay of the learning rate, and no photometric augmentation; a bool.
        sigmoid: Whether sigmoids stand in the place of ReLU; a bool.
        style: How the arm is drawn.
    """

    norm: str
    rate: float | None
    changed: bool
    sigmoid: bool
    style: ArmStyle


INCEPTION, CHANGED = "Inception", "Inception, changed"
BASELINE, X5, TUNED = "BN-Baseline", "BN-x5", "BN-Inception, best rate"
PAPER_ARMS = {
    INCEPTION: PaperArm(NONE, 1, False, False, ArmStyle(VERMILION, "--", "s")),
    "Inception-x5": PaperArm(NONE, 5, False, False, ArmStyle(SKY, (0, (6, 1, 1, 1, 1, 1)), "P")),
    CHANGED: PaperArm(NONE, 1, True, False, ArmStyle(BLACK, (0, (5, 1)), "p")),
    BASELINE: PaperArm(BATCH, 1, False, False, ArmStyle(BLUE, "-", "o")),
    TUNED: PaperArm(BATCH, None, False, False, ArmStyle(BLUE, (0, (1, 1)), "X")),
    X5: PaperArm(BATCH, 5, True, False, ArmStyle(ORANGE, "-.", "^")),
    "BN-x30": PaperArm(BATCH, 30, True, False, ArmStyle(GREEN, (0, (7, 2)), "D")),
    "BN-x5-Sigmoid": PaperArm(BATCH, 5, True, True, ArmStyle(PURPLE, (0, (3, 1, 1, 1)), "v")),
}


def train_paper_arm(cell: Cell, load: Callable) -> dict:
    """The curve of a run of an arm."""
    arm = PAPER_ARMS[cell["arm"]]
    recipe = recipe_of(cell, arm)
    data = load(cell["data"], image_size=cell["image_size"])
    make_network = functools.partial(make_paper_network, sigmoid=arm.sigmoid, dropout=not arm.changed)
    return train_curve(recipe, data, make_network=make_network, last_step=cell["steps"])


def recipe_of(cell: Cell, arm: PaperArm) -> TrainingRecipe:
    """The recipe of an arm. Its rate decays to a hundredth; the slow decay has gone a sixth of that way at the end."""
    digits = cell["data"] == "digits"
    # Digits are gray and small, and they must not be mirrored.
    augment = () if digits else ("flip",) if arm.changed else ("flip", "contrast", "brightness")
    size = {"options": {"depth": 5}} if cell["network"] == "mlp_relu_deep" else {"width": WIDTH}
    return TrainingRecipe(
        preset=cell["network"], **size, data=cell["data"], image_size=cell["image_size"], norm=norm_of(cell),
        optimizer="momentum", learning_rate=cell["learning_rate"], schedule="exponential", batch_size=BATCH_SIZE,
        weight_decay=WEIGHT_DECAY / FEWER if arm.changed else WEIGHT_DECAY, augment=augment,
        steps=cell["steps"] * (1 if arm.changed else FASTER), evaluate_every=cell["steps"] // 40,
        validation_examples=300 if digits else 2_000, evaluation_examples=2_000, seed=cell["seed"],
    )  # fmt: skip


def make_paper_network(recipe: TrainingRecipe, data: Data, *, sigmoid: bool, dropout: bool) -> keras.Model:
    """The network of a recipe, with sigmoids or with dropout before its last layer."""
    model = (build_sigmoid_network if sigmoid else build_network)(recipe, data)
    if not dropout:
        return model
    last = model.get_layer("logits")
    x = keras.layers.Dropout(DROPOUT, name="dropout")(last.input)
    return keras.Model(model.inputs, last(x), name=model.name)

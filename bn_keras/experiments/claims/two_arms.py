"""The two arms, without norm and with batch norm: their words and styles, their norm and their accuracy."""

import keras

from bn_keras.experiments.claims.claim import Cell, Values
from bn_keras.experiments.comparison.figure_style import STYLES
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe

NONE, BATCH = "none", "batch"
ARMS = (NONE, BATCH)
WORDS = {NONE: "without norm", BATCH: "batch norm"}
WITH = {NONE: "without norm", BATCH: "with batch norm"}
ARM_STYLES = {WORDS[arm]: STYLES[arm] for arm in ARMS}


def norm_of(cell: Cell) -> tuple[str, dict] | None:
    """The norm of a cell for a recipe.

    The runs are short, and moving averages with the usual momentum of 0.99 would lag behind them.
    """
    return None if cell["norm"] == NONE else (cell["norm"], {"momentum": 0.9})


def final_accuracy(values: Values) -> float:
    """The final test accuracy of a run; 0 for one that diverged."""
    return 0.0 if values["diverged_at"] else values["test_accuracy"]


def words_of_arm(cell: Cell) -> str:
    """The arm of a cell in words."""
    return WITH[cell["norm"]]


def build_sigmoid_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """The network of a recipe with a sigmoid in the place of every ReLU."""
    return keras.models.clone_model(build_network(recipe, data), clone_function=with_sigmoid)


def with_sigmoid(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer like this one; a sigmoid for a ReLU."""
    if isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu:
        return keras.layers.Activation("sigmoid", name=layer.name)
    return type(layer).from_config(layer.get_config())

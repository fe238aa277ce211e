"""Two arms that sweep the same learning rates: their words, their fresh seeds, and notes on sweeps and divergence."""

import collections
from collections.abc import Iterable, Sequence

import keras

from bn_keras.experiments.claims.claim import Cell, Found, Values, key_of
from bn_keras.experiments.claims.training import TUNING_SEED
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


def fresh_cells(arm: Cell, learning_rate: float, seeds: int) -> list[Cell]:
    """Runs of an arm with seeds that the tuning has not seen."""
    return [arm | {"learning_rate": learning_rate, "seed": TUNING_SEED + 1 + seed} for seed in range(seeds)]


def fresh(found: Found, **settings) -> list[Values]:
    """The values of the runs with fresh seeds."""
    return [values for cell, values in found.where(**settings) if cell["seed"] != TUNING_SEED]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once: two arms may share a run."""
    return list({key_of(cell): cell for cell in cells}.values())


def test_accuracy(values: Values) -> float:
    """The final test accuracy of a run; 0 for one that diverged."""
    return 0.0 if values["diverged_at"] else values["test_accuracy"]


def edge_notes(best: dict[str, float], rates: Sequence[float]) -> tuple[str, ...]:
    """A note for each arm whose best rate lies at an end of the sweep."""
    return tuple(
        f"The best learning rate {words} is {rate:g}, at the end of the sweep." for words, rate in best.items()
        if rate in (min(rates), max(rates))
    )  # fmt: skip


def divergence_notes(found: Found) -> tuple[str, ...]:
    """A note that counts the runs that diverged, by arm and learning rate."""
    counts = collections.Counter(
        (cell["norm"], cell["learning_rate"]) for cell, values in found.pairs.values() if values["diverged_at"]
    )
    words = ", ".join(
        f"{WORDS[arm]} at {rate:g} ({count} run{'s' * (count > 1)})" for (arm, rate), count in sorted(counts.items())
    )
    return (f"Diverged: {words}.",) if counts else ()


def build_sigmoid_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """The network of a recipe with a sigmoid in the place of every ReLU."""
    return keras.models.clone_model(build_network(recipe, data), clone_function=with_sigmoid)


def with_sigmoid(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer like this one; a sigmoid for a ReLU."""
    if isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu:
        return keras.layers.Activation("sigmoid", name=layer.name)
    return type(layer).from_config(layer.get_config())

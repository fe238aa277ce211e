"""Refuses networks and batches that the memory of this machine cannot hold, before they fill it."""

import math

import keras
import tensorflow as tf

from bn_keras.choices.fields import RecipeError, require
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.experiments.workers import worker_count
from bn_keras.lab.machine import memory_bytes

WIDE = 2.0
COPIES = 4  # of the weights in training: the weights, their first values, their gradients, the optimizer's moments
BYTES = {"float16": 2, "bfloat16": 2, "float64": 8}


def check_width(recipe: TrainingRecipe, weights_at_width_1: int) -> None:
    """Refuses a width whose weights do not fit: their number grows with the square of the width.

    Raises:
        RecipeError: When the copies of the weights that training needs are larger than the memory.
    """
    needed = COPIES * 4 * weights_at_width_1 * recipe.width**2
    require("width", needed <= memory_bytes(), f"smaller: {too_much('the weights', needed)}", recipe.width)


def check_batch_memory(recipe: TrainingRecipe, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Refuses a batch for which the outputs of the layers do not fit; a machine with GPUs knows its own limits.

    Raises:
        RecipeError: When the outputs of all layers, for the examples of one step, are larger than the memory.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    examples = recipe.batch_size // (recipe.accumulate * worker_count(strategy))
    needed = examples * bytes_of_outputs(model)
    if needed > memory_bytes():
        expected = f"smaller: {too_much('the outputs of the layers', needed)}. Or raise accumulate"
        raise RecipeError("batch_size", expected, recipe.batch_size)


def bytes_of_outputs(model: keras.Model) -> int:
    """The size of the outputs of all layers for one example."""
    total = 0
    for layer in model.layers:
        if not hasattr(layer, "output"):  # called within a subclassed model, where its shapes are unknown
            continue
        for output in tf.nest.flatten(layer.output):
            values = math.prod(size for size in output.shape[1:] if size is not None)
            total += values * BYTES.get(keras.backend.standardize_dtype(output.dtype), 4)
    return total


def too_much(what: str, needed: float) -> str:
    """What does not fit, in words."""
    return f"{what} need about {gibibytes(needed)} in training, and this machine has {gibibytes(memory_bytes())}"


def gibibytes(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:,.1f} GiB"

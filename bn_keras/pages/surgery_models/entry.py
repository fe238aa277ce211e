"""An entry of the catalogue: a model, its random weights and its inputs."""

import dataclasses
import typing

import keras
import numpy as np
import tensorflow as tf

BATCH = 4


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model and its inputs.

    Attributes:
        build: Returns a new model with weights.
        inputs: Takes a `np.random.Generator` and returns inputs for `BATCH` examples.
        needs_hub: Whether KerasHub builds the model.
    """

    build: typing.Callable[[], keras.Model]
    inputs: typing.Callable[[np.random.Generator], typing.Any]
    needs_hub: bool = False

    def made(self) -> tuple[keras.Model, typing.Any]:
        """A model with non-trivial weights, and inputs. Every call returns the same values."""
        keras.utils.set_random_seed(0)
        random = np.random.default_rng(0)
        model, x = self.build(), self.inputs(random)
        call(model, x)  # gives a subclassed model its weights
        randomize(model, x, random)
        return model, x


def call(model, x, **arguments):
    return model(keras.tree.map_structure(tf.constant, x), **arguments)


def randomize(model, x, random):
    """Assigns random scales, offsets and biases to constant weights, then statistics near those of the inputs.

    Kernels keep their initial values. With statistics far from those of the inputs, a deep network gives the same
    outputs for all inputs.
    """
    for weight in model.weights:
        constant = np.ptp(keras.ops.convert_to_numpy(weight)) == 0
        fixed = weight.name.startswith("moving_") or weight.path.split("/")[-2:-1] == ["standardize"]
        if constant and not fixed and keras.backend.is_float_dtype(weight.dtype):
            positive = weight.name in ("gamma", "scale", "lambda") or "layer_scale" in weight.path
            values = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.2, weight.shape)
            weight.assign(values)
    kind = keras.layers.BatchNormalization
    norms = [layer for layer in layers_inside(model) if isinstance(layer, kind) and layer.built]
    momentum = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.momentum = 0.0
    call(model, x, training=True)
    for norm in norms:
        norm.momentum = momentum[norm]
        norm.moving_mean.assign_add(random.normal(0, 0.1, norm.moving_mean.shape))
        norm.moving_variance.assign(norm.moving_variance * random.uniform(0.8, 1.5, norm.moving_variance.shape) + 1e-3)


def layers_inside(model) -> list[keras.layers.Layer]:
    """Every layer that Keras tracks in a model.

    A private name of Keras finds them, because the page must not rely on the search of bn_keras that it checks.
    """
    return list(model._flatten_layers())


def images(side, channels=3):
    return lambda random: random.normal(0.3, 1.0, (BATCH, side, side, channels)).astype("float32")


def tokens(*names, length=5, vocabulary=10):
    """Token ids, and the named inputs beside them: a padding mask, or ids of two segments."""

    def make(random):
        x = {"token_ids": random.integers(1, vocabulary, (BATCH, length)).astype("int32")}
        mask = np.ones((BATCH, length), "int32")
        mask[1, length // 2 + 1 :] = 0
        x |= {"padding_mask": mask, "segment_ids": random.integers(0, 2, (BATCH, length)).astype("int32")}
        return {name: x[name] for name in ("token_ids", *names)}

    return make


def vectors(size):
    return lambda random: random.normal(size=(BATCH, size)).astype("float32")

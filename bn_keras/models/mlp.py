"""Fully connected networks."""

import functools
import math

import keras

from bn_keras.models.blocks import MOST_DEPTH, begin, check_count, check_weights, has_bias, scaled
from bn_keras.models.norms import linear_norm
from bn_keras.models.preset import Preset


def mlp_sigmoid(*, norm, classes, input_shape, width, preprocessing, name):
    """Three hidden layers of 100 sigmoid units; 784-100-100-100-10 for 28×28 images.

    The paper draws the first weights from a small Gaussian and does not give its width; 0.1
    is 1/√100, which keeps the variance of a layer of 100 inputs.
    """
    check_size(input_shape, 3, scaled(100, width))
    inputs, x = begin(input_shape, preprocessing)
    x = keras.layers.Flatten(name="flatten")(x)
    for i in (1, 2, 3):
        dense = keras.layers.Dense(
            scaled(100, width),
            use_bias=has_bias(norm),
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
            name=f"hidden_{i}",
        )
        x = linear_norm(x, dense, norm=norm, name=f"hidden_{i}_norm")
        x = keras.layers.Activation("sigmoid", name=f"hidden_{i}_sigmoid")(x)
    outputs = keras.layers.Dense(
        classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.1), name="logits"
    )(x)
    return keras.Model(inputs, outputs, name=name)


def deep(activation, initializer, *, norm, classes, input_shape, width, preprocessing, name, depth, units):
    """`depth` hidden layers of `units` units; the initializer keeps the variance of their inputs from layer to layer.

    Without an activation, the norm is the only nonlinearity.
    """
    check_count("depth", depth, MOST_DEPTH)
    check_count("units", units)
    check_size(input_shape, depth, scaled(units, width))
    inputs, x = begin(input_shape, preprocessing)
    x = keras.layers.Flatten(name="flatten")(x)  # 784
    for i in range(1, depth + 1):  # 100 each
        dense = keras.layers.Dense(
            scaled(units, width), use_bias=has_bias(norm), kernel_initializer=initializer, name=f"hidden_{i}"
        )
        x = linear_norm(x, dense, norm=norm, name=f"hidden_{i}_norm")
        if activation:
            x = keras.layers.Activation(activation, name=f"hidden_{i}_{activation}")(x)
    outputs = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def check_size(input_shape, depth: int, units: int) -> None:
    """Refuses hidden layers with too many weights."""
    inputs = math.prod(input_shape)
    check_weights(inputs * units + (depth - 1) * units**2, f"{inputs:,} inputs and {depth} layers of {units:,} units")


PRESETS = [
    Preset(
        name="mlp_sigmoid",
        summary="three hidden layers of 100 sigmoid units: the paper's MNIST network",
        source="Ioffe and Szegedy 2015, section 4.1",
        builder=mlp_sigmoid,
        classes=10,
        input_shape=(28, 28, 1),
    ),
    Preset(
        name="mlp_relu_deep",
        summary="fifty hidden layers of 100 ReLU units, to watch gradients grow with depth",
        source="Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv 1902.08129; sizes of our own",
        builder=functools.partial(deep, "relu", "he_normal"),
        classes=10,
        input_shape=(28, 28, 1),
        options={"depth": 50, "units": 100},
    ),
    Preset(
        name="linear_deep",
        summary="fifty hidden layers of 100 linear units, to watch gradients grow with depth",
        source="Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv 1902.08129; sizes of our own",
        builder=functools.partial(deep, None, "lecun_normal"),
        classes=10,
        input_shape=(28, 28, 1),
        options={"depth": 50, "units": 100},
    ),
]

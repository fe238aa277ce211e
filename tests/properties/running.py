"""One training step of a layer, with the ops one by one or compiled."""

import contextlib

import tensorflow as tf

from tests.properties.strategies import random_weights


@contextlib.contextmanager
def eagerly():
    """Runs the ops one by one: the arithmetic is the same, and a new shape need not be traced first."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def built(layer, case, positive=("moving_variance",)):
    """The layer with random weights, and those as float64, by name and after they were rounded."""
    layer.build(case.shape)
    values = random_weights(case, [weight.shape for weight in layer.weights])
    names = [weight.name for weight in layer.weights]
    layer.set_weights([abs(each) if name in positive else each for name, each in zip(names, values, strict=True)])
    return dict(zip(names, (each.astype("float64") for each in layer.get_weights()), strict=True))


def step(layer, x, dy, **call):
    """The output, and the gradients of the input and the trainable weights, by what they are of."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **call)
    dx, *gradients = tape.gradient(y, [x, *layer.trainable_variables], tf.convert_to_tensor(dy))
    names = [f"d{weight.name}".replace("dscale", "dgamma") for weight in layer.trainable_variables]
    return {"y": y, "dx": dx} | dict(zip(names, gradients, strict=True))

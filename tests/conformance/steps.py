"""One step of a layer, and whether two of them are the same."""

import numpy as np
import tensorflow as tf

from tests.layers.test_batch_norm import close


def data(case, random, dtype=tf.float32, shape=None):
    """An input and the gradient of a loss by the output."""
    return [tf.constant(random.normal(mean, 2, shape or case.shape), dtype) for mean in (3, 0)]


def outcome(layer, x, dy, training):
    """The output, the gradients of the input and of the weights, and the statistics after the step."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
    gradients = tape.gradient(y, [x, *layer.trainable_variables], dy)
    return y, *gradients, *map(tf.convert_to_tensor, layer.non_trainable_variables)


def all_close(ours, truth, tolerance):
    for one, other in zip(ours, truth, strict=True):
        close(one, other, tolerance)


def all_equal(ours, truth):
    for one, other in zip(ours, truth, strict=True):
        np.testing.assert_array_equal(one, other)


def learned(layer):
    """The weights without the number of batches so far, as a batch of nothing is a batch too."""
    return [weight.numpy() for weight in layer.weights if weight.name != "accumulated_batches"]


def ready(layer, case, random):
    """The layer, built, with weights that are not 1 and 0."""
    if not layer.built:
        layer.build(case.shape)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer

"""Normalized kernels and their gradients against the float64 reference."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.ops.kernel_norm import weight_norm, weight_standardization
from tests import reference
from tests.layers.test_batch_norm import close

KERNELS = [
    ((5, 4), (0,)),
    ((3, 3, 6, 4), (0, 1, 2)),
    ((3, 3, 4, 6), (0, 1, 3)),  # transposed: the output channels are the last but one
    ((3, 3, 4, 2), (0, 1)),  # depthwise
    ((4, 2, 5), (0,)),  # einsum
]
EPSILON = 1e-2  # large enough to be seen


def drawn(random, shape, axes, dtype):
    """A kernel, a number per channel, and the gradient of a loss by the result; with the NumPy of the first two."""
    kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
    v, g, dw = random.normal(3, 2, shape), random.uniform(0.5, 2, kept), random.normal(size=shape)
    v, g, dw = (tf.constant(each, dtype) for each in (v, g, dw))
    return v, tf.reshape(g, [size for i, size in enumerate(shape) if i not in axes]), dw, kept


def compare(function, v, g, dw, truth, gradients, tolerance):
    with tf.GradientTape() as tape:
        tape.watch([v, g])
        w = function(v, g)
    dv, dg = tape.gradient(w, [v, g], tf.cast(dw, w.dtype))
    close(w, truth, tolerance)
    close(dv, gradients[0], 4 * tolerance)
    close(dg, np.reshape(gradients[1], dg.shape), 4 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axes"), KERNELS)
def test_weight_norm_is_the_equation(random, shape, axes, dtype):
    v, g, dw, kept = drawn(random, shape, axes, dtype)
    numbers = (np.float64(v), np.reshape(np.float64(g), kept))
    truth = reference.weight_norm(*numbers, axes, EPSILON)
    gradients = reference.weight_norm_gradient(*numbers, np.float64(dw), axes, EPSILON)
    compare(lambda v, g: weight_norm(v, g, axes, EPSILON), v, g, dw, truth, gradients, 1e-5)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("shape", "axes"), KERNELS)
def test_weight_standardization_is_the_equation(random, shape, axes, scaled):
    v, g, dw, kept = drawn(random, shape, axes, "float32")
    numbers = (np.float64(v), np.reshape(np.float64(g), kept))
    truth = reference.weight_standardization(*numbers, axes, EPSILON, scaled)
    gradients = reference.weight_standardization_gradient(*numbers, np.float64(dw), axes, EPSILON, scaled)
    function = lambda v, g: weight_standardization(v, g, axes, EPSILON, scaled)  # noqa: E731
    compare(function, v, g, dw, truth, gradients, 2e-5)


def test_half_precision_is_summed_in_float32(random):
    """The sum of squares overflows float16, and the variance of a kernel far from 0 cancels in it."""
    v = tf.constant(random.normal(100, 1, (300, 2)), "float16")
    g = tf.constant([0.5, 2.0], "float16")
    w = weight_norm(v, g, (0,), 0.0)
    assert w.dtype == "float32"
    close(w, reference.weight_norm(np.float64(v), np.float64(g), (0,), 0.0), 1e-5)
    w = weight_standardization(v, g, (0,), 0.0)
    close(w, reference.weight_standardization(np.float64(v), np.float64(g)[None], (0,), 0.0, False), 1e-4)

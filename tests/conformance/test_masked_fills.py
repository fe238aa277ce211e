"""What stands in masked elements changes nothing: not the statistics, nor a gradient, nor another output."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import FIRST, MAIN, WITH_MASK
from tests.conformance.steps import data, ready
from tests.conformance.test_masks import mask_of_positions
from tests.exhaustive import marked
from tests.layers.test_batch_norm import close

FILLS = [np.nan, np.inf, -np.inf, np.finfo(np.float32).min, 1e30]
DTYPES = ["float32", "float16", "bfloat16"]


def filled(x, present, fill):
    return tf.where(present, x, tf.cast(tf.constant(fill), x.dtype))


def step(layer, x, dy, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, mask=mask)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], dy)


def penalty(layer, x, dy, mask):
    """The gradient of the size of a gradient."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, *gradients = step(layer, x, dy, mask)
        size = tf.add_n([tf.reduce_sum(tf.square(each)) for each in gradients])
    gradients = tape.gradient(size, [x, *layer.trainable_variables])
    return [each for each in gradients if each is not None]  # an offset may have none


def setting(case, random, dtype="float32"):
    """A layer, its weights, an input, a gradient that is 0 where the mask is, the mask, and where it is true."""
    (x, dy), mask = data(case, random, dtype), mask_of_positions(case, random)
    present = np.broadcast_to(mask[..., np.newaxis], case.shape)
    layer = ready(case.make(dtype=dtype), case, random)
    return layer, layer.get_weights(), x, filled(dy, present, 0.0), tf.constant(mask), present


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    ("case", "dtype", "jit_compile"),
    marked(
        [
            (case, dtype, jit_compile)
            for case, dtype, jit_compile in itertools.product(WITH_MASK, DTYPES, [False, True])
            if not (case.variant and jit_compile and dtype != "float32")  # which takes long
        ],
        lambda case, dtype, jit_compile: (
            (case in FIRST and (dtype != "float16" or not jit_compile))
            or (case in MAIN and dtype == "float32" and (not jit_compile or not case.variant))
        ),
    ),
    ids=str,
)
def test_a_step(random, case, dtype, jit_compile):
    layer, weights, x, dy, mask, present = setting(case, random, dtype)
    run = tf.function(step, jit_compile=jit_compile)

    def outcome(fill):
        layer.set_weights(weights)
        y, dx, *gradients = run(layer, filled(x, present, fill), dy, mask)
        return [y[present], dx[present], *gradients, *map(tf.convert_to_tensor, layer.non_trainable_variables)], dx

    clean, _ = outcome(0.0)
    for fill in FILLS:
        values, dx = outcome(fill)
        assert np.isfinite(dx).all(), fill
        for one, other in zip(values, clean, strict=True):
            close(tf.cast(one, tf.float32), tf.cast(other, tf.float32), 1e-6 if dtype == "float32" else 1e-2)


@pytest.mark.slow
@pytest.mark.sample(2)
@pytest.mark.parametrize("case", marked(WITH_MASK, FIRST.__contains__), ids=str)
def test_second_derivatives(random, case):
    layer, weights, x, dy, mask, present = setting(case, random)

    def gradients(fill):
        layer.set_weights(weights)
        return penalty(layer, filled(x, present, fill), dy, mask)

    clean = gradients(0.0)
    for fill in FILLS:
        for one, other in zip(gradients(fill), clean, strict=True):
            if one.shape == x.shape:
                one, other = one[present], other[present]
            close(one, other, 1e-5)


@pytest.mark.sample(14)
@pytest.mark.parametrize(
    ("case", "fill"),
    marked(
        [
            (case, fill)
            for case, fill in itertools.product(WITH_MASK, FILLS)
            if case.layer.__name__ != "DecorrelatedBatchNorm"
        ],
        lambda case, fill: case in FIRST or (case in MAIN and np.isnan(fill)),
    ),
    ids=str,
)
def test_outputs_at_masked_elements_are_those_of_their_values(random, case, fill):
    """As Keras gives them: what is not finite is not hidden."""
    layer, _, x, _, mask, present = setting(case, random)
    y = layer(filled(x, present, fill), training=True, mask=mask)
    assert np.isfinite(y[present]).all()
    if not np.isfinite(fill):
        assert not np.isfinite(y[~present]).any()


@pytest.mark.parametrize("fill", FILLS[:3])
def test_a_channel_that_is_masked_alone_does_not_reach_the_others(random, fill):
    """Whitening mixes the channels of a group: what is not finite counts as the mean."""
    case = next(case for case in WITH_MASK if case.name == "decorrelated")
    x, _ = data(case, random)
    mask = np.ones(case.shape, bool)
    mask[2, 3, 1] = False
    layer = ready(case.make(), case, random)
    assert np.isfinite(layer(filled(x, mask, fill), training=True, mask=tf.constant(mask))).all()
    assert all(np.isfinite(each).all() for each in layer.get_weights())

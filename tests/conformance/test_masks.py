"""Masks: every layer passes one on, and statistics heed it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, WITH_MASK, convolution, every
from tests.conformance.steps import all_equal, data, learned, ready


class Probe(keras.layers.Layer):
    """Keeps the mask that reaches it."""

    supports_masking = True

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs


@every(CASES)
def test_a_mask_passes_through(random, case):
    if case.needs_the_kernel:
        pytest.skip("fused=True is refused with a mask: the kernel counts every element")
    if case.wrapped is convolution:
        pytest.skip("Keras' convolutions pass no mask on")
    x = random.normal(size=case.shape).astype(np.float32)
    x[1:3] = 0
    layer, probe = case.make(), Probe()
    keras.Sequential([keras.layers.Masking(), layer, probe])(x, training=True)
    assert layer.supports_masking
    np.testing.assert_array_equal(probe.seen, np.any(x != 0, -1))
    assert layer.compute_mask(x, probe.seen) is probe.seen


def mask_of_positions(case, random):
    """One for all channels of a position, as a layer may mix them in its output."""
    rank = len(case.shape)
    channels = {axis % rank for axis in case.axes}
    return random.uniform(size=[1 if i in channels else case.shape[i] for i in range(rank - 1)]) > 0.4


@every(WITH_MASK)
def test_statistics_ignore_what_is_masked(random, case):
    (x, _), mask = data(case, random), mask_of_positions(case, random)
    present = np.broadcast_to(mask[..., np.newaxis], case.shape)
    other = tf.where(present, x, x + 100)
    layer = ready(case.make(), case, random)
    weights = layer.get_weights()

    def train(values, mask):
        layer.set_weights(weights)
        return layer(values, training=True, mask=mask).numpy(), layer.get_weights()

    (y, masked), (other_y, other_masked), (_, unmasked) = train(x, mask), train(other, mask), train(other, None)
    all_equal(masked, other_masked)
    np.testing.assert_array_equal(y[present], other_y[present])
    assert not all(np.allclose(*each) for each in zip(masked, unmasked, strict=True))


@every(WITH_MASK)
def test_a_mask_of_zeros_changes_no_statistics(random, case):
    x, _ = data(case, random)
    layer = ready(case.make(), case, random)
    before = learned(layer)
    y = layer(x, training=True, mask=tf.zeros(case.shape[:-1], bool))
    assert np.isfinite(y).all()
    all_equal(learned(layer), before)

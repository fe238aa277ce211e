"""Moments, Bessel's correction and moving averages."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.ops import moments as ops


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
def test_moments_do_not_cancel(random, offset):
    x = random.normal(offset, 1.0, (64, 7, 5)).astype(np.float32)
    count, mean, variance = ops.moments(tf.constant(x), [0, 1])
    truth = x.astype(np.float64)
    assert int(count) == 64 * 7
    np.testing.assert_allclose(mean[0, 0], truth.mean((0, 1)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(variance[0, 0], truth.var((0, 1)), rtol=1e-4)
    if offset >= 1e3:
        short = np.mean(x * x, (0, 1)) - np.mean(x, (0, 1)) ** 2
        assert np.abs(short / truth.var((0, 1)) - 1).max() > 1e-2, "the short formula was meant to cancel"


@pytest.mark.slow
def test_the_mean_of_many_large_values_is_not_off_by_their_sum(random):
    x = random.normal(1e4, 1.0, (65536, 8)).astype(np.float32)
    truth = x.mean(0, dtype=np.float64)
    _, mean, _ = ops.moments(tf.constant(x), [0])
    np.testing.assert_allclose(mean[0], truth, atol=1e-3)  # float32 holds 1e4 to half of that
    assert np.abs(tf.reduce_mean(x, 0) - truth).max() > 2e-3, "a plain mean was meant to be off"


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 1, 1), (1, 5, 1), (6, 5, 4)])
def test_weights_count_as_repetitions(random, shape):
    x = random.normal(3, 2, (6, 5, 4))
    weights = random.integers(0, 3, shape).astype(np.float64)
    count, mean, variance = ops.moments(tf.constant(x), [0, 1], tf.constant(weights))
    repeats = np.broadcast_to(weights, x.shape).astype(int)
    for channel in range(4):
        values = np.repeat(x[..., channel].ravel(), repeats[..., channel].ravel())
        at = (0, 0, channel if shape[-1] == 4 else 0)
        assert float(count[at]) == len(values)
        np.testing.assert_allclose(mean[0, 0, channel], values.mean())
        np.testing.assert_allclose(variance[0, 0, channel], values.var())


@pytest.mark.parametrize(
    ("examples", "weights"), [(0, None), (2, tf.zeros([2, 1])), (0, tf.ones([0, 1])), (0, tf.ones([1, 1]))]
)
def test_nothing_to_count_gives_zeros(examples, weights):
    x = tf.ones([examples, 3])
    for moment in ops.moments(x, [0], weights):
        np.testing.assert_array_equal(moment, np.zeros(moment.shape))


def test_unbiased_variance_is_that_of_numpy(random):
    x = random.normal(size=7)
    unbiased = ops.unbiased_variance(tf.constant(x.var()), tf.constant(7.0, tf.float64))
    np.testing.assert_allclose(unbiased, x.var(ddof=1))
    assert float(ops.unbiased_variance(tf.constant(0.0), tf.constant(1.0))) == 0.0


def test_count_of_an_unknown_batch():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])])
    def count(x):
        return ops.element_count(x, [0, 1], tf.float32)

    assert float(count(tf.ones([4, 5, 3]))) == 20


def test_the_variance_of_a_constant_is_never_negative():
    """Both terms of it are then roundings: the difference was −10⁻³ here, more than ε, and the output NaN."""
    constants = tf.constant([-10577.9287109375, 6011.25732421875, 0.1, 1e4])
    for count in (65537, 4097, 3):
        x = tf.repeat(constants[tf.newaxis], count, axis=0)
        _, mean, variance = ops.moments(x, axes=[0])
        assert np.all(variance >= 0)
        np.testing.assert_allclose(mean[0], constants, rtol=1e-6)

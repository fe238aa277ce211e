"""Masks and empty batches in `DecorrelatedBatchNorm`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import DecorrelatedBatchNorm
from tests import reference
from tests.layers.test_batch_norm import close, step
from tests.layers.test_decorrelated_batch_norm import correlated, randomized, settings_of


@pytest.mark.slow
@pytest.mark.sample(5)
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("mask_shape", [(8,), (8, 6), (8, 1), (1, 6), (8, 6, 4), (8, 1, 4), (1, 1, 4)])
def test_masks_of_every_shape(random, axis, mask_shape):
    """A channel without an element keeps its mean, and its group the whitening."""
    shape = (8, 6, 4)
    layer = randomized(DecorrelatedBatchNorm(axis, groups=2, momentum=0.5, epsilon=1e-2), shape, random)
    gamma, beta, moving_mean, moving_whitening = layer.get_weights()
    x = tf.constant(correlated(random, shape, axis), tf.float32)
    dy = tf.constant(random.normal(2, 3, shape), tf.float32)
    mask = random.uniform(size=mask_shape) > 0.3
    weights = mask.reshape(mask_shape + (1,) * (3 - len(mask_shape)))
    y, *gradients = step(layer, x, dy, mask=tf.constant(mask))
    assert all(np.isfinite(each).all() for each in (y, *gradients))

    settings = settings_of(layer)
    with np.errstate(invalid="ignore"):
        truth, count, mean, whitening = reference.decorrelated_batch_norm(x, gamma, beta, *settings, weights)
    close(layer.moving_mean, np.where(count > 0, 0.5 * moving_mean + 0.5 * np.nan_to_num(mean), moving_mean), 5e-6)
    here = count.reshape(2, -1).min(1) > 0
    expected = 0.5 * moving_whitening + 0.5 * whitening
    close(layer.moving_whitening, np.where(here[:, None, None], expected, moving_whitening), 5e-5)
    if here.all():
        close(y, truth, 5e-5)
        true_gradients = reference.decorrelated_batch_norm_gradient(x, gamma, dy, *settings, weights)
        for ours, true in zip(gradients, true_gradients, strict=True):
            close(ours, true, 2e-4)


def unchanged(layer):
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(4))
    np.testing.assert_array_equal(layer.moving_whitening, np.broadcast_to(np.eye(2), (2, 2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
def test_a_mask_of_zeros_changes_nothing(random, epsilon):
    layer = DecorrelatedBatchNorm(groups=2, epsilon=epsilon)
    x = tf.constant(random.normal(size=(2, 3, 4)), tf.float32)
    layer.build(x.shape)
    for each in step(layer, x, x, mask=tf.zeros((2, 3), bool)):
        assert np.isfinite(each).all()
    unchanged(layer)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(0, 4), (0, 5, 4), (3, 0, 4)])
def test_an_empty_batch_changes_nothing(shape):
    layer = DecorrelatedBatchNorm(groups=2)
    layer.build(shape)
    y, dx, dgamma, dbeta = step(layer, tf.zeros(shape), tf.zeros(shape))
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros((2, 4)))
    unchanged(layer)


def test_a_mask_travels_through_a_model(random):
    x = random.normal(size=(4, 6, 3)).astype(np.float32)
    x[:, 4:] = 0
    layer = DecorrelatedBatchNorm(momentum=0.0)
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    model(x, training=True)
    seen = DecorrelatedBatchNorm(momentum=0.0)
    seen(x[:, :4], training=True)
    np.testing.assert_allclose(layer.moving_mean, seen.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_whitening, seen.moving_whitening, atol=1e-5)


@pytest.mark.slow
def test_weights_may_be_fractions(random):
    """An element of weight 2 counts as two; halving all weights changes nothing."""
    x = tf.constant(correlated(random, (8, 4), -1), tf.float32)
    twice, weights = tf.concat([x, x[:3]], 0), tf.constant([2.0] * 3 + [1.0] * 5)
    layers = [DecorrelatedBatchNorm(momentum=0.0) for _ in range(3)]
    truth = layers[0](twice, training=True)[:8]
    np.testing.assert_allclose(layers[1](x, training=True, mask=weights), truth, atol=1e-5)
    np.testing.assert_allclose(layers[2](x, training=True, mask=weights / 2), truth, atol=1e-5)
    np.testing.assert_allclose(layers[1].moving_whitening, layers[0].moving_whitening, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (3,), (2, 4)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="`mask` must have the sizes of the input along its leading axes"):
        DecorrelatedBatchNorm()(tf.ones((2, 3, 4)), training=True, mask=tf.ones(shape, bool))

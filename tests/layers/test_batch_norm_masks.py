"""Masks of every shape in `BatchNorm`: what they weigh, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from tests import reference
from tests.layers.test_batch_norm import close, randomized, step


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_mask_weighs_statistics_and_gradients(random, axis):
    shape = (6, 5, 4)
    layer = randomized(BatchNorm(axis, momentum=0.5), shape, random)
    gamma, beta, moving_mean, moving_variance = layer.get_weights()
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    mask = random.uniform(size=shape[:-1]) > 0.4
    y, dx, dgamma, dbeta = step(layer, x, dy, mask=tf.constant(mask))
    weights = mask[..., np.newaxis]
    truth, count, mean, variance = reference.batch_norm(x, gamma, beta, axis, 1e-3, weights)
    close(y, truth, 5e-5)
    for ours, true in zip(
        (dx, dgamma, dbeta), reference.batch_norm_gradient(x, gamma, dy, axis, 1e-3, weights), strict=True
    ):
        close(ours, true, 2e-4)
    close(layer.moving_mean, 0.5 * moving_mean + 0.5 * mean, 5e-6)
    close(layer.moving_variance, 0.5 * moving_variance + 0.5 * variance * count / (count - 1), 5e-6)


def test_a_mask_is_heeded_by_every_implementation(random, implementation):
    shape = (64, 32, 40)
    x = tf.constant(random.normal(2, 3, shape), tf.float32)
    mask = random.uniform(size=shape[:-1]) > 0.4
    layer = BatchNorm(momentum=0.0)
    y = layer(x, training=True, mask=tf.constant(mask))
    truth = reference.batch_norm(x, np.ones(40), np.zeros(40), -1, 1e-3, mask[..., np.newaxis])
    close(y, truth[0], 5e-5)
    close(layer.moving_mean, truth[2], 5e-6)


def test_a_mask_of_zeros_changes_nothing(random):
    layer = BatchNorm()
    y = layer(tf.constant(random.normal(size=(2, 3, 4)), tf.float32), training=True, mask=tf.zeros((2, 3), bool))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(4))
    np.testing.assert_array_equal(layer.moving_variance, np.ones(4))

    keras_layer = keras.layers.BatchNormalization()
    keras_layer(tf.ones((2, 3, 4)), training=True, mask=tf.zeros((2, 3), bool))
    assert np.any(keras_layer.moving_variance != 1), "Keras was meant to drag its statistics"


def test_a_nan_in_the_padding_reaches_nothing(random):
    x, mask = random.normal(size=(2, 3, 4)).astype("float32"), tf.constant([[True, True, False]] * 2)
    x[:, 2] = np.nan

    def gradient_of_the_scale(layer):
        with tf.GradientTape() as tape:
            y = layer(tf.constant(x), training=True, mask=mask)
            loss = tf.reduce_sum(tf.where(mask[..., tf.newaxis], y, 0) ** 3)
        return tape.gradient(loss, layer.gamma.value)

    layer = randomized(BatchNorm(), x.shape, random)
    assert np.isfinite(gradient_of_the_scale(layer)).all()
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())
    keras_layer = keras.layers.BatchNormalization()
    assert np.isnan(gradient_of_the_scale(keras_layer)).all(), "Keras was meant to let the NaN into the gradient"


def test_a_mask_travels_through_a_model(random):
    x = random.normal(size=(4, 6, 3)).astype(np.float32)
    x[:, 4:] = 0
    layer = BatchNorm(momentum=0.0)
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    model(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, x[:, :4].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x[:, :4].var((0, 1)) * 16 / 15, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (3,), (2, 4), (2, 3, 5)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="`mask` must have the sizes of the input along its leading axes"):
        BatchNorm()(tf.ones((2, 3, 4)), training=True, mask=tf.ones(shape, bool))


@pytest.mark.parametrize("axis", [-1, 1, [1, 2]])
@pytest.mark.parametrize("mask_shape", [(6,), (6, 5), (6, 1), (1, 5), (6, 5, 4), (6, 1, 4), (1, 1, 4)])
def test_masks_of_every_shape(random, axis, mask_shape):
    shape = (6, 5, 4)
    layer = randomized(BatchNorm(axis, momentum=0.5), shape, random)
    gamma, beta, moving_mean, _ = layer.get_weights()
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    mask = random.uniform(size=mask_shape) > 0.3
    weights = mask.reshape(mask_shape + (1,) * (3 - len(mask_shape)))
    _, count, mean, _ = reference.batch_norm(x, gamma, beta, axis, 1e-3, weights)
    here = count > 0
    y, *gradients = step(layer, x, dy, mask=tf.constant(mask))
    assert all(np.isfinite(each).all() for each in (y, *gradients))
    expected = np.where(here, 0.5 * moving_mean + 0.5 * np.nan_to_num(mean), moving_mean)
    close(layer.moving_mean, expected, 5e-6)
    if here.all():
        close(y, reference.batch_norm(x, gamma, beta, axis, 1e-3, weights)[0], 5e-5)
        truth = reference.batch_norm_gradient(x, gamma, dy, axis, 1e-3, weights)
        for ours, true in zip(gradients, truth, strict=True):
            close(ours, true, 2e-4)

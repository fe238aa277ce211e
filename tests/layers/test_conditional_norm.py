"""`ConditionalNorm` against the equation, and in models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, ConditionalNorm, InstanceNorm, LayerNorm, RMSNorm
from bn_keras.layers.kinds import KINDS
from tests import reference
from tests.layers.test_batch_norm import TOLERANCES, close

SHAPES_AND_AXES = [((5, 4), -1), ((5, 3, 4), -1), ((5, 4, 3, 2), 1), ((5, 3, 2, 4), [1, 3])]


def randomized(layer, shapes, random):
    layer.build(shapes)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def conditions(random, classes, size=5):
    """A condition as the layer takes it, and the same as a vector per example."""
    if classes:
        numbers = random.integers(0, classes, size)
        return tf.constant(numbers, tf.int32), np.eye(classes)[numbers]
    values = random.normal(size=(size, 3))
    return tf.constant(values), values


def modulated(normalized, vectors, gamma, beta, gamma_kernel, beta_kernel, axis):
    """The equation, example by example."""
    rows = []
    for example, vector in zip(normalized, vectors, strict=True):
        scale, offset = (np.tensordot(vector, each, 1) for each in (gamma_kernel, beta_kernel))
        scale, offset = (
            reference.per_channel(base + each, normalized.ndim, axis)[0]
            for base, each in ((gamma, scale), (beta, offset))
        )
        rows.append(scale * example + offset)
    return np.stack(rows)


@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize("classes", [None, 4])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_training_and_inference_are_the_equation(random, shape, axis, classes, policy):
    layer = ConditionalNorm(("batch", {"epsilon": 0.01}), classes, axis, dtype=policy)
    condition, vectors = conditions(random, classes)
    randomized(layer, [shape, condition.shape], random)
    assert layer.norm.dtype_policy == layer.dtype_policy
    x = tf.constant(random.normal(2, 3, shape), layer.compute_dtype)
    gamma, beta, gamma_kernel, beta_kernel, mean, variance = (np.float64(each) for each in layer.get_weights())
    plain = np.ones_like(mean), np.zeros_like(mean)
    weights = gamma, beta, gamma_kernel, beta_kernel, axis

    inference = reference.batch_norm_inference(x, *plain, mean, variance, axis, 0.01)
    y = layer([x, condition])
    assert y.dtype == layer.compute_dtype
    close(y, modulated(inference, vectors, *weights), 2 * TOLERANCES[policy])
    training = reference.batch_norm(x, *plain, axis, 0.01)[0]
    close(layer([x, condition], training=True), modulated(training, vectors, *weights), 2 * TOLERANCES[policy])
    assert not np.allclose(layer.norm.moving_mean, mean)


@pytest.mark.parametrize("name", KINDS)
def test_it_starts_as_the_plain_norm(random, name):
    options = {"groups": 2} if name == "group" else {}
    layer, plain = ConditionalNorm((name, options)), KINDS[name][0](**KINDS[name][1] | options)
    x = tf.constant(random.normal(3, 2, (6, 5, 4)), tf.float32)
    condition = tf.constant(random.normal(size=(6, 3)), tf.float32)
    for training in (True, False):
        close(layer([x, condition], training=training), plain(x, training=training), 1e-6)
    assert type(layer.norm) is type(plain)
    assert not {"gamma", "beta"} & {weight.name for weight in layer.norm.weights}


def test_without_a_norm_it_is_film(random):
    layer, x = ConditionalNorm(None, scale=False), tf.constant(random.normal(size=(5, 3)), tf.float32)
    condition, vectors = conditions(random, None)
    randomized(layer, [(5, 3), (5, 3)], random)
    beta, beta_kernel = layer.get_weights()
    close(layer([x, condition]), x + beta + vectors @ beta_kernel, 1e-6)


@pytest.mark.slow
def test_it_learns_what_the_condition_says(random):
    """Two classes whose targets differ by their scale and offset alone."""
    label = random.integers(0, 2, 256)
    x = tf.constant(random.normal(5, 3, (256, 1)), tf.float32)
    target = np.where(label == 1, 3, -1)[:, np.newaxis] * (x - 5) / 3 + np.where(label == 1, 4, 0)[:, np.newaxis]
    layer = ConditionalNorm("batch", classes=2)
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer([x, tf.constant(label)], training=True) - target) ** 2)
        gradients = tape.gradient(loss, [each.value for each in layer.trainable_weights])
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
            weight.assign_sub(0.3 * gradient)
    close(layer.gamma.numpy() + layer.gamma_kernel.numpy()[:, 0], [-1, 3], 0.1)
    close(layer.beta.numpy() + layer.beta_kernel.numpy()[:, 0], [0, 4], 0.1)


def test_a_mask_reaches_the_norm_and_a_masked_nan_no_gradient(random):
    layer = ConditionalNorm(("batch", {"momentum": 0.0}))
    x, condition = random.normal(size=(4, 6, 3)).astype(np.float32), tf.ones((4, 2))
    mask = np.arange(6) < [[4]] * 4
    x[~mask] = np.nan
    with tf.GradientTape() as tape:
        y = layer([tf.constant(x), condition], training=True, mask=tf.constant(mask))
        loss = tf.reduce_sum(tf.where(mask[..., np.newaxis], y, 0) ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    assert all(np.isfinite(each).all() for each in gradients)
    np.testing.assert_allclose(layer.norm.moving_mean, x[mask].mean(0), rtol=1e-5)


def test_a_mask_travels_through_a_model(random):
    x = random.normal(size=(4, 6, 3)).astype(np.float32)
    x[:, 4:] = 0
    layer, inputs = ConditionalNorm(("batch", {"momentum": 0.0})), [keras.Input((6, 3)), keras.Input((2,))]
    outputs = layer([keras.layers.Masking()(inputs[0]), inputs[1]])
    keras.Model(inputs, outputs)([x, np.ones((4, 2))], training=True)
    np.testing.assert_allclose(layer.norm.moving_mean, x[:, :4].mean((0, 1)), rtol=1e-5)


def test_a_class_out_of_range_is_seen(random):
    layer = randomized(ConditionalNorm("layer", classes=2), [(3, 4), (3, 1)], random)
    for jit_compile in (False, True):
        y = tf.function(layer, jit_compile=jit_compile)([tf.ones((3, 4)), tf.constant([[1], [2], [-1]])])
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[1:]).all()


def test_one_condition_holds_for_the_batch(random):
    layer = randomized(ConditionalNorm("instance"), [(2, 5, 4), (1, 3)], random)
    x, condition = tf.constant(random.normal(size=(2, 5, 4)), tf.float32), tf.ones((1, 3))
    close(layer([x, condition]), layer([x, tf.ones((2, 3))]), 1e-6)


def test_a_given_layer_keeps_its_own(random):
    norm = LayerNorm(axis=[1, 2], epsilon=0.1, dtype="float64")
    layer = ConditionalNorm(norm, axis=-1)
    layer.build([(None, 5, 4), (None, 3)])
    assert layer.norm is norm
    assert layer.gamma.shape == (4,)
    assert layer.get_config()["axis"] == -1
    again = ConditionalNorm.from_config(layer.get_config())
    assert again.norm.get_config() == norm.get_config()
    assert ConditionalNorm(BatchNorm(axis=1)).axis == 1
    assert not ConditionalNorm(InstanceNorm(), trainable=False).norm.trainable
    assert ConditionalNorm("rms", trainable=False).norm.trainable is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"norm": "bach"}, "`norm` must be None, one of 'batch'.*Received: norm='bach'"),
        ({"norm": BatchNorm}, "`norm` must be None.*Make the layer"),
        ({"norm": ("batch", {"activation": "relu"})}, "no activation"),
        ({"classes": 0}, "`classes` must be an int ≥ 1"),
        ({"center": False, "scale": False}, "`center`, `scale` or both"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ConditionalNorm(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shapes", "words"),
    [
        ({}, (None, 4), r"`layer\(\[x, condition\]\)`"),
        ({}, [(None, 4), (None, 3, 3)], r"shape \(batch, features\)"),
        ({}, [(None, 4), (None, None)], "known number of features"),
        ({"classes": 3}, [(None, 4), (None, 2)], r"\(batch,\) or \(batch, 1\)"),
        ({"axis": 0}, [(6, 4), (6, 2)], "batch axis"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments, shapes, words):
    with pytest.raises(ValueError, match=words):
        ConditionalNorm(**arguments).build(shapes)


@pytest.mark.parametrize(("classes", "dtype", "words"), [(3, "float32", "must be ints"), (None, "int32", "be floats")])
def test_a_condition_of_another_dtype_is_refused(classes, dtype, words):
    layer = ConditionalNorm(RMSNorm(), classes)
    with pytest.raises(TypeError, match=words):
        layer([tf.ones((2, 4)), tf.ones((2, 1), dtype)])


def test_a_tensor_in_the_place_of_the_list_is_refused_however_many_rows_it_has(random):
    layer = randomized(ConditionalNorm("instance"), [(2, 4, 3), (2, 3)], random)
    with pytest.raises(ValueError, match=r"`layer\(\[x, condition\]\)`.*shape \(2, 5, 4, 3\)"):
        layer(tf.ones((2, 5, 4, 3)))
    with pytest.raises(ValueError, match="a row for each of the 1 examples"):
        layer([tf.ones((1, 4, 3)), tf.ones((4, 3))])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64"])
def test_classes_of_any_int_dtype(random, dtype):
    layer = randomized(ConditionalNorm("instance", classes=300), [(2, 4, 3), (2,)], random)
    x = tf.constant(random.normal(size=(2, 4, 3)), tf.float32)
    close(layer([x, tf.constant([1, 120], dtype)]), layer([x, tf.constant([1, 120])]), 1e-6)


def test_the_two_kernels_start_with_different_numbers():
    """An initializer without a seed draws the same in every call."""
    layer = ConditionalNorm("instance", kernel_initializer="glorot_uniform")
    layer.build([(None, 4, 3), (None, 5)])
    assert np.abs(layer.gamma_kernel - layer.beta_kernel).max() > 0.1

"""`DecorrelatedBatchNorm` against the float64 reference, and in models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, DecorrelatedBatchNorm
from tests import reference
from tests.layers.test_batch_norm import close, step

# Shape, axis, groups.
CASES = [
    ((16, 4), -1, 1),
    ((16, 4), -1, 2),
    ((7, 1), -1, 1),
    ((3, 12), 0, 1),
    ((3, 6), -1, 1),
    ((6, 5, 6), -1, 3),
    ((6, 4, 5), 1, 2),
    ((6, 4, 5), 1, -1),
    ((2, 4, 5, 6), -1, 2),
    ((4, 6, 3, 3), 1, 3),
    ((2, 3, 4, 5), -2, 1),
    ((2, 3, 2, 3, 4), -1, 2),
    ((2, 4, 3, 2, 3), 1, 1),
    ((16, 8, 8, 32), -1, 2),
]
# Relative to the size of the values: a half precision rounds the output to 5e-4 or 4e-3. Gradients get 4 times that.
TOLERANCES = {"float64": 1e-12, "float32": 5e-6, "mixed_float16": 1e-3, "mixed_bfloat16": 8e-3}


def correlated(random, shape, axis):
    """Channels of different means and deviations, each with a part of the others in it."""
    channels = shape[axis]
    mixing = np.eye(channels) + random.normal(0, 0.5 / channels**0.5, (channels, channels))
    x = random.normal(size=(*np.delete(shape, axis), channels)) @ (mixing * random.uniform(1, 3, channels))
    return np.moveaxis(x + random.normal(2, 1, channels), -1, axis)


def randomized(layer, shape, random):
    """Builds the layer with γ, β and moving statistics that are not 1, 0 and the identity."""
    layer.build(shape)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def settings_of(layer):
    return layer.axis, layer.moving_whitening.shape[0], layer.iterations, layer.epsilon


def covariance_error(y):
    """How far the covariance of the last axis is from the identity, in the Frobenius norm."""
    vectors = np.reshape(np.asarray(y, np.float64), (-1, y.shape[-1]))
    return np.linalg.norm(np.cov(vectors, rowvar=False, bias=True) - np.eye(y.shape[-1]))


@pytest.mark.slow
@pytest.mark.sample(8)
@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_training_and_inference_are_the_equations(random, shape, axis, groups, policy):
    layer = DecorrelatedBatchNorm(axis, groups, momentum=0.7, epsilon=1e-2, dtype=policy)
    randomized(layer, shape, random)
    x = tf.constant(correlated(random, shape, axis), layer.compute_dtype)
    dy = tf.constant(random.normal(2, 3, shape), layer.compute_dtype)
    gamma, beta, moving_mean, moving_whitening = (np.asarray(weight, np.float64) for weight in layer.get_weights())
    settings = settings_of(layer)

    moving = (moving_mean, moving_whitening, *settings[:2])
    close(layer(x), reference.decorrelated_batch_norm_inference(x, gamma, beta, *moving), TOLERANCES[policy])

    y, *gradients = step(layer, x, dy)
    assert y.dtype == gradients[0].dtype == x.dtype
    truth, _, mean, whitening = reference.decorrelated_batch_norm(x, gamma, beta, *settings)
    close(y, truth, TOLERANCES[policy])
    true_gradients = reference.decorrelated_batch_norm_gradient(x, gamma, dy, *settings)
    for ours, true in zip(gradients, true_gradients, strict=True):
        close(ours, true, 4 * TOLERANCES[policy])

    close(layer.moving_mean, 0.7 * moving_mean + 0.3 * mean, 5e-6)
    close(layer.moving_whitening, 0.7 * moving_whitening + 0.3 * whitening, 5e-6)


def test_weights_and_their_dtypes():
    layer = DecorrelatedBatchNorm(groups=2, dtype="bfloat16")
    layer.build((None, 6))
    assert [(weight.name, weight.shape) for weight in layer.weights] == [
        ("gamma", (6,)),
        ("beta", (6,)),
        ("moving_mean", (6,)),
        ("moving_whitening", (2, 3, 3)),
    ]
    assert layer.moving_mean.dtype == layer.moving_whitening.dtype == "float32"
    np.testing.assert_array_equal(layer.moving_whitening, np.broadcast_to(np.eye(3), (2, 3, 3)))
    assert [weight.name for weight in layer.trainable_weights] == ["gamma", "beta"]


@pytest.mark.slow
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_center_and_scale(random, center, scale):
    layer = randomized(DecorrelatedBatchNorm(center=center, scale=scale), (16, 4), random)
    x, dy = (tf.constant(correlated(random, (16, 4), -1), tf.float32) for _ in range(2))
    gamma = layer.gamma.numpy() if scale else np.ones(4)
    beta = layer.beta.numpy() if center else np.zeros(4)
    y, _, *parameters = step(layer, x, dy)
    close(y, reference.decorrelated_batch_norm(x, gamma, beta, *settings_of(layer))[0], 5e-5)
    assert len(parameters) == center + scale


def test_a_group_per_channel_is_batch_norm(random):
    x = tf.constant(correlated(random, (32, 5, 6), -1), tf.float32)
    layer, plain = DecorrelatedBatchNorm(groups=-1, momentum=0.0), BatchNorm(momentum=0.0, unbiased=False)
    np.testing.assert_allclose(layer(x, training=True), plain(x, training=True), atol=1e-5)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "at_most"), [(2, 0.02), (4, 0.1), (8, 0.5), (16, 1.3)])
def test_the_covariance_is_nearer_to_the_identity_than_that_of_batch_norm(random, channels, at_most):
    x = tf.constant(correlated(random, (256, 4, channels), -1), tf.float32)
    ours = covariance_error(DecorrelatedBatchNorm()(x, training=True))
    theirs = covariance_error(BatchNorm()(x, training=True))
    assert ours < at_most
    assert ours < theirs / 1.5
    assert covariance_error(DecorrelatedBatchNorm(iterations=12)(x, training=True)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_a_large_offset(random, offset):
    """float32 holds values of 1e4 to 5e-4; the truth is that of the values as they are held."""
    x = tf.constant(correlated(random, (256, 8, 6), -1) + offset, tf.float32)
    layer = DecorrelatedBatchNorm(groups=2, momentum=0.0)
    truth, _, mean, whitening = reference.decorrelated_batch_norm(x, np.ones(6), np.zeros(6), -1, 2, 5, 1e-3)
    np.testing.assert_allclose(layer(x, training=True), truth, atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-7)
    np.testing.assert_allclose(layer.moving_whitening, whitening, atol=2e-6)
    moving = (layer.moving_mean, layer.moving_whitening, -1, 2)
    inference = reference.decorrelated_batch_norm_inference(x, np.ones(6), np.zeros(6), *moving)
    np.testing.assert_allclose(layer(x), inference, atol=2e-5)


@pytest.mark.slow
def test_inference_does_what_training_taught(random):
    x = tf.constant(correlated(random, (64, 6), -1), tf.float32)
    layer = DecorrelatedBatchNorm(groups=2, momentum=0.5)
    for _ in range(30):
        y = layer(x, training=True)
    np.testing.assert_allclose(layer(x), y, atol=1e-5)
    np.testing.assert_allclose(layer(x[:1]), y[:1], atol=1e-5)


def test_trainable_false_means_inference(random):
    x = tf.constant(correlated(random, (8, 3), -1), tf.float32)
    layer = randomized(DecorrelatedBatchNorm(), x.shape, random)
    before = layer.get_weights()
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_integers_are_normalized_as_float32():
    y = DecorrelatedBatchNorm()(tf.constant([[1], [3]]), training=True)
    assert y.dtype == tf.float32
    np.testing.assert_allclose(y, [[-1], [1]], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, 4), (None, None, None, 4), (None, 4, None)])
def test_unknown_sizes(random, shape):
    axis = shape.index(4)
    model = keras.Sequential([keras.Input(shape[1:]), DecorrelatedBatchNorm(axis, groups=2)])
    assert model.output_shape == shape
    for size in (6, 9):
        x = correlated(random, [size if n is None else n for n in shape], axis).astype(np.float32)
        truth = reference.decorrelated_batch_norm(x, np.ones(4), np.zeros(4), axis, 2, 5, 1e-3)[0]
        np.testing.assert_allclose(model(x, training=True), truth, atol=1e-4)


@pytest.mark.slow
def test_channels_that_a_trace_does_not_know(random):
    layer = DecorrelatedBatchNorm()
    layer.build((6, 3))
    x = correlated(random, (6, 3), -1).astype(np.float32)
    train = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec([None, None])])
    truth = reference.decorrelated_batch_norm(x, np.ones(3), np.zeros(3), -1, 1, 5, 1e-3)[0]
    np.testing.assert_allclose(train(x), truth, atol=1e-4)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_evaluate_save_and_export(random, tmp_path, jit_compile):
    labels = random.integers(0, 2, 50)
    images = (random.normal(size=(50, 8, 8, 3)) + 3 * labels[:, None, None, None]).astype(np.float32)
    inputs = keras.Input((8, 8, 3))
    norm = DecorrelatedBatchNorm(groups=2)
    x = keras.layers.ReLU()(norm(keras.layers.Conv2D(8, 3, use_bias=False)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    model.fit(images, labels, batch_size=16, epochs=20, verbose=0)  # an uneven last batch of 2
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] > 0.9
    assert np.any(norm.moving_whitening != np.eye(4))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(images), model(images), atol=1e-5)


def test_config_round_trip():
    layer = DecorrelatedBatchNorm(
        axis=1,
        groups=4,
        iterations=7,
        momentum=0.5,
        epsilon=1e-5,
        moving_mean_initializer="ones",
        gamma_initializer="he_normal",
        beta_regularizer="l2",
        gamma_constraint="non_neg",
        name="norm",
        dtype="mixed_bfloat16",
    )
    config = layer.get_config()
    again = DecorrelatedBatchNorm.from_config(config)
    assert again.get_config() == config
    for name in ("axis", "groups", "iterations", "momentum", "epsilon"):
        assert getattr(again, name) == getattr(layer, name)
    again.build((2, 8))
    np.testing.assert_array_equal(again.moving_mean, np.ones(8))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: DecorrelatedBatchNorm(axis=[1]), TypeError, r"`axis` must be an int, .* Received: axis=\[1\]"),
        (lambda: DecorrelatedBatchNorm(axis="last"), TypeError, "Expected an int"),
        (lambda: DecorrelatedBatchNorm(groups=0), ValueError, "argument `groups` must be an int ≥ 1, or -1"),
        (lambda: DecorrelatedBatchNorm(iterations=0), ValueError, "`iterations` must be an int ≥ 1"),
        (lambda: DecorrelatedBatchNorm(iterations=True), ValueError, "`iterations` must be an int ≥ 1"),
        (lambda: DecorrelatedBatchNorm(iterations=2.5), ValueError, "Received: iterations=2.5"),
        (lambda: DecorrelatedBatchNorm(momentum=1.5), ValueError, r"`momentum` must be in \[0, 1\]"),
        (lambda: DecorrelatedBatchNorm(momentum=None), TypeError, r"`momentum` must be in \[0, 1\]"),
        (lambda: DecorrelatedBatchNorm(epsilon=-1), ValueError, "`epsilon` must be a number ≥ 0"),
        (lambda: DecorrelatedBatchNorm(groups=5).build((2, 4)), ValueError, "more than the number of channels, 4"),
        (lambda: DecorrelatedBatchNorm(groups=3).build((2, 4)), ValueError, "must divide the number of channels, 4"),
        (lambda: DecorrelatedBatchNorm(3).build((2, 3)), ValueError, r"`axis` must be in \[-2, 1\]"),
        (lambda: DecorrelatedBatchNorm().build((2, None)), ValueError, "should have a defined dimension"),
        (lambda: DecorrelatedBatchNorm().build((2,)), ValueError, "rank ≥ 2"),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()

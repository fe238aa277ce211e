"""`BatchNorm` against the float64 reference, against Keras, and in every kind of model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from tests import reference
from tests.exhaustive import marked

SHAPES_AND_AXES = [
    ((8, 3), -1),
    ((7, 1), -1),
    ((3, 5), 0),
    ((4, 5, 3), -1),
    ((4, 5, 3), 1),
    ((1, 4, 4, 3), -1),
    ((2, 3, 4, 5), 1),
    ((2, 3, 4, 5), -2),
    ((2, 3, 2, 3, 4), -1),
    ((2, 3, 2, 3, 4), 1),
    ((2048, 40), -1),
    ((64, 64, 20), -1),
    ((64, 64, 20), 1),
    ((32, 8, 8, 40), -1),
    ((16, 20, 16, 16), 1),
    ((8, 4, 8, 8, 40), -1),
    ((8, 4, 8, 8, 40), 2),
    ((2, 3, 4, 5), [1, 3]),
    ((2, 3, 4, 5), [-1, -2]),
    ((3, 5), [0]),
    ((16, 20, 16, 16), [1, 3]),
    ((16, 20, 16, 16), [1, 2]),
    ((64, 16, 8, 10), [2, 3]),
]
# Relative to the size of the values: inputs of a half precision are rounded to 1e-3 and 8e-3.
TOLERANCES = {"float64": 1e-9, "float32": 5e-5, "mixed_float16": 2e-3, "mixed_bfloat16": 1.6e-2}


def step(layer, x, dy, **call):
    """The output of a training step and the gradients of the input and the trainable weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, **call)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], dy)


def randomized(layer, shape, random):
    """Builds the layer with γ, β and moving statistics that are not 1 and 0."""
    layer.build(shape)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def close(ours, truth, tolerance):
    truth = np.asarray(truth, np.float64)
    np.testing.assert_allclose(
        np.asarray(ours, np.float64), truth, rtol=0, atol=tolerance * max(1, np.abs(truth).max())
    )


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("policy", "shape", "axis"),
    marked(
        [(policy, *shape_and_axis) for policy in TOLERANCES for shape_and_axis in SHAPES_AND_AXES],
        lambda policy, *shape_and_axis: policy == "float32" or shape_and_axis in SHAPES_AND_AXES[3::4],
    ),
    ids=str,
)
def test_training_and_inference_are_the_equations(random, shape, axis, policy):
    layer = randomized(BatchNorm(axis, momentum=0.7, epsilon=1e-2, dtype=policy), shape, random)
    tolerance = TOLERANCES[policy]
    x, dy = (tf.constant(random.normal(2, 3, shape), layer.compute_dtype) for _ in range(2))
    gamma, beta, moving_mean, moving_variance = (np.asarray(weight, np.float64) for weight in layer.get_weights())

    inference = reference.batch_norm_inference(x, gamma, beta, moving_mean, moving_variance, axis, 1e-2)
    close(layer(x), inference, tolerance)

    y, dx, dgamma, dbeta = step(layer, x, dy)
    assert y.dtype == dx.dtype == x.dtype
    truth, count, mean, variance = reference.batch_norm(x, gamma, beta, axis, 1e-2)
    close(y, truth, tolerance)
    for ours, true in zip((dx, dgamma, dbeta), reference.batch_norm_gradient(x, gamma, dy, axis, 1e-2), strict=True):
        close(ours, true, 4 * tolerance)

    bessel = count / np.maximum(count - 1, 1)
    close(layer.moving_mean, 0.7 * moving_mean + 0.3 * mean, 5e-6)
    close(layer.moving_variance, 0.7 * moving_variance + 0.3 * variance * bessel, 5e-6)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_center_and_scale(random, implementation, center, scale):
    shape = (16, 8, 8, 10)
    layer = randomized(BatchNorm(center=center, scale=scale), shape, random)
    assert [weight.name for weight in layer.weights] == ["gamma"] * scale + ["beta"] * center + [
        "moving_mean",
        "moving_variance",
    ]
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    gamma = layer.gamma.numpy() if scale else np.ones(shape[-1])
    beta = layer.beta.numpy() if center else np.zeros(shape[-1])
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    close(layer(x), reference.batch_norm_inference(x, gamma, beta, mean, variance, -1, 1e-3), 5e-5)
    y, dx, *others = step(layer, x, dy)
    close(y, reference.batch_norm(x, gamma, beta, -1, 1e-3)[0], 5e-5)
    true_dx, dgamma, dbeta = reference.batch_norm_gradient(x, gamma, dy, -1, 1e-3)
    close(dx, true_dx, 2e-4)
    for ours, true in zip(others, [dgamma] * scale + [dbeta] * center, strict=True):
        close(ours, true, 2e-4)


@pytest.mark.parametrize("shape", [(64, 6), (128, 16, 32), (64, 16, 16, 8)])
def test_a_large_offset(random, shape):
    """Mean 1e3, deviation 1: float32 holds such values to 3e-5, and a sum of n of them to n times less."""
    x = tf.constant(random.normal(1e3, 1, shape), tf.float32)
    layer = BatchNorm(momentum=0.0)
    y = layer(x, training=True)
    truth, count, mean, variance = reference.batch_norm(x, np.ones(shape[-1]), np.zeros(shape[-1]), -1, 1e-3)
    np.testing.assert_allclose(y, truth, atol=5e-3)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=5e-6)
    np.testing.assert_allclose(layer.moving_variance, variance * count / (count - 1), rtol=1e-4)
    inference = reference.batch_norm_inference(
        x, np.ones(shape[-1]), np.zeros(shape[-1]), layer.moving_mean, layer.moving_variance, -1, 1e-3
    )
    np.testing.assert_allclose(layer(x), inference, atol=5e-4)


@pytest.mark.parametrize(("shape", "axis"), [((8, 3), -1), ((4, 5, 3), 1), ((32, 8, 8, 40), -1)])
def test_keras_gives_the_same(random, shape, axis):
    settings = {"axis": axis, "momentum": 0.8, "epsilon": 1e-2}
    keras_layer = randomized(keras.layers.BatchNormalization(**settings), shape, random)
    layer = BatchNorm(**settings, unbiased=False)
    layer.build(shape)
    layer.set_weights(keras_layer.get_weights())
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    for ours, theirs in zip(step(layer, x, dy), step(keras_layer, x, dy), strict=True):
        close(ours, theirs, 2e-4)
    for ours, theirs in zip(layer.weights, keras_layer.weights, strict=True):
        assert ours.name == theirs.name
        close(ours, theirs, 5e-6)
    close(layer(x), keras_layer(x), 5e-5)


def test_a_step_moves_the_statistics_as_keras_2_did(random):
    """By TensorFlow's kernel, which Keras 2 took; Keras 3 averages the biased variance."""
    x = tf.constant(random.normal(2, 3, (2, 2, 1, 3)), tf.float32)
    scale, offset, mean, variance = (tf.constant(random.uniform(0.5, 2, 3), tf.float32) for _ in range(4))
    truth = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, 1e-3, exponential_avg_factor=0.4)
    ours, theirs = BatchNorm(momentum=0.6), keras.layers.BatchNormalization(momentum=0.6)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([scale, offset, mean, variance])
        close(layer(x, training=True), truth[0], 1e-5)
        close(layer.moving_mean, truth[1], 1e-6)
    close(ours.moving_variance, truth[2], 1e-6)
    assert np.max(np.abs(theirs.moving_variance / truth[2] - 1)) > 0.05, "Keras 3 was meant to average another variance"


def test_every_argument_of_keras_is_there():
    import inspect

    theirs = inspect.signature(keras.layers.BatchNormalization.__init__).parameters
    ours = inspect.signature(BatchNorm.__init__).parameters
    assert [name for name in ours if name in theirs] == list(theirs)
    assert {name: ours[name].default for name in theirs} == {name: each.default for name, each in theirs.items()}
    call = inspect.signature(keras.layers.BatchNormalization.call).parameters
    assert list(inspect.signature(BatchNorm.call).parameters) == list(call)


def test_trainable_false_means_inference(random):
    x = tf.constant(random.normal(5, 2, (8, 3)), tf.float32)
    layer = randomized(BatchNorm(), x.shape, random)
    before = layer.get_weights()
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_statistics_do_not_stall_in_half_precision(random):
    x = tf.constant(random.normal(1, 0.01, (64, 4)), tf.bfloat16)
    ours, theirs = BatchNorm(dtype="bfloat16"), keras.layers.BatchNormalization(dtype="bfloat16")
    for _ in range(1000):
        ours(x, training=True)
        theirs(x, training=True)
    assert ours.moving_mean.dtype == ours.moving_variance.dtype == "float32"
    np.testing.assert_allclose(ours.moving_mean, np.ones(4), atol=0.01)
    assert np.max(theirs.moving_mean) < 0.9, "Keras' bfloat16 average was meant to stall"


def test_integers_are_normalized_as_float32():
    y = BatchNorm()(tf.constant([[1], [3]]), training=True)
    np.testing.assert_allclose(y, [[-1], [1]], atol=1e-3)


@pytest.mark.parametrize("shape", [(None, 3), (None, None, None, 3)])
def test_unknown_sizes(random, shape):
    model = keras.Sequential([keras.Input(shape[1:]), BatchNorm()])
    assert model.output_shape == shape
    for size in (2, 5):
        x = random.normal(size=[size if n is None else n for n in shape]).astype(np.float32)
        truth = reference.batch_norm(x, np.ones(3), np.zeros(3), -1, 1e-3)[0]
        np.testing.assert_allclose(model(x, training=True), truth, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 3), (32, 8, 8, 3)])
def test_channels_that_a_trace_does_not_know(random, implementation, shape):
    layer = BatchNorm()
    layer.build(shape)
    x = random.normal(5, 2, shape).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None] * len(shape))])
    def train(x):
        return layer(x, training=True)

    np.testing.assert_allclose(train(x), reference.batch_norm(x, np.ones(3), np.zeros(3), -1, 1e-3)[0], atol=1e-4)


def test_regularizers_and_constraints_act():
    layer = BatchNorm(gamma_regularizer=keras.regularizers.L2(0.1), beta_constraint="non_neg")
    layer(tf.ones((2, 3)))
    np.testing.assert_allclose(sum(layer.losses), 0.3, rtol=1e-6)
    assert layer.beta.constraint is not None


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"axis": "last"}, TypeError, "Expected an int or a list/tuple of ints for the argument 'axis'"),
        ({"axis": 1.5}, TypeError, "Expected an int"),
        ({"axis": [1, True]}, TypeError, "Expected an int"),
        ({"axis": []}, TypeError, "Expected an int"),
        ({"momentum": 1.5}, ValueError, r"`momentum` must be in \[0, 1\]. Received: momentum=1.5"),
        ({"momentum": "fast"}, TypeError, "`momentum` must be in"),
        ({"momentum": float("nan")}, ValueError, "`momentum` must be in"),
        ({"epsilon": -1e-3}, ValueError, "`epsilon` must be a number ≥ 0. Received: epsilon=-0.001"),
        ({"epsilon": "small"}, TypeError, "`epsilon` must be a number"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        BatchNorm(**arguments)


@pytest.mark.parametrize(
    ("axis", "shape", "words"),
    [
        (-1, (3,), "rank ≥ 2"),
        (4, (2, 3), r"`axis` must be in \[-2, 1\]"),
        (-1, (2, None), "should have a defined dimension"),
        ([1, -1], (2, 3), "must name different axes"),
    ],
)
def test_an_input_that_cannot_be_normalized_is_refused(axis, shape, words):
    with pytest.raises(ValueError, match=words):
        BatchNorm(axis).build(shape)

"""`LayerNorm`, `GroupNorm`, `InstanceNorm` and `RMSNorm` against the float64 reference and Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from tests import reference
from tests.layers.test_batch_norm import TOLERANCES, close, randomized

SHAPES_AND_AXES = [
    ((4, 7), -1),
    ((3, 1), -1),
    ((2, 5, 6), -1),
    ((2, 5, 6), 1),
    ((2, 5, 6), [1, 2]),
    ((2, 5, 6), [-1, -2]),
    ((2, 3, 4, 5), [1, 3]),
    ((2, 3, 2, 3, 4), -1),
    ((256, 300), -1),
    ((32, 64, 48), [1, 2]),
]


def step(layer, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], dy)


def parameters_along(layer, shape, axis):
    """γ and β of a layer (1 and 0 where it has none), shaped to broadcast."""
    return [reference.per_channel(weight, len(shape), axis) for weight in layer.get_weights()]


def compare(ours, truth, layer, tolerance):
    """The output and the gradients of a step with the reference's."""
    (y, dx, *parameters), (true_y, (true_dx, *true_parameters)) = ours, truth
    assert y.dtype == layer.compute_dtype
    close(y, true_y, tolerance)
    close(dx, true_dx, 4 * tolerance)
    for gradient, true in zip(parameters, true_parameters[: len(parameters)], strict=True):
        close(gradient, np.reshape(true, gradient.shape), 4 * tolerance)


@pytest.mark.sample(14)
@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_layer_norm_is_the_equation(random, shape, axis, policy):
    layer = randomized(LayerNorm(axis, epsilon=1e-2, dtype=policy), shape, random)
    x, dy = (tf.constant(random.normal(2, 3, shape), layer.compute_dtype) for _ in range(2))
    gamma, beta = parameters_along(layer, shape, axis)
    axes = tuple(reference.axes_of(axis, len(shape))[0])
    truth = (
        reference.layer_norm(x, gamma, beta, axes, 1e-2),
        reference.layer_norm_gradient(x, gamma, beta, dy, axes, 1e-2),
    )
    compare(step(layer, x, dy), truth, layer, TOLERANCES[policy])


@pytest.mark.sample(20)
@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_rms_norm_is_the_equation(random, shape, axis, policy):
    layer = randomized(RMSNorm(axis, epsilon=1e-2, dtype=policy), shape, random)
    x, dy = (tf.constant(random.normal(2, 3, shape), layer.compute_dtype) for _ in range(2))
    (gamma,) = parameters_along(layer, shape, axis)
    axes = tuple(reference.axes_of(axis, len(shape))[0])
    none = np.zeros_like(gamma)
    truth = (
        reference.layer_norm(x, gamma, none, axes, 1e-2, centered=False),
        reference.layer_norm_gradient(x, gamma, none, dy, axes, 1e-2, centered=False),
    )
    compare(step(layer, x, dy), truth, layer, TOLERANCES[policy])


@pytest.mark.sample(12)
@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [
        ((4, 6), -1, 2),
        ((4, 6), -1, 1),
        ((2, 5, 6), -1, 3),
        ((2, 5, 6), -1, -1),
        ((2, 6, 5), 1, 3),
        ((2, 3, 4, 8), -1, 2),
        ((2, 8, 3, 4), 1, 2),
        ((2, 3, 8, 4), 2, 8),
        ((8, 16, 16, 32), -1, 8),
    ],
)
def test_group_norm_is_the_equation(random, shape, axis, groups, policy):
    layer = randomized(GroupNorm(groups, axis, epsilon=1e-2, dtype=policy), shape, random)
    x, dy = (tf.constant(random.normal(2, 3, shape), layer.compute_dtype) for _ in range(2))
    axis %= len(shape)
    groups = shape[axis] if groups == -1 else groups
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    gamma, beta = (
        weight.reshape([1] * axis + [groups, -1] + [1] * (len(shape) - axis - 1)).astype(np.float64)
        for weight in layer.get_weights()
    )
    axes = tuple(i for i in range(1, len(split)) if i != axis)
    grouped_x, grouped_dy = (np.reshape(np.asarray(each, np.float64), split) for each in (x, dy))
    dx, *parameters = reference.layer_norm_gradient(grouped_x, gamma, beta, grouped_dy, axes, 1e-2)
    truth = (
        reference.layer_norm(grouped_x, gamma, beta, axes, 1e-2).reshape(shape),
        (dx.reshape(shape), *parameters),
    )
    compare(step(layer, x, dy), truth, layer, TOLERANCES[policy])


PEERS = [
    (LayerNorm, keras.layers.LayerNormalization, {}),
    (LayerNorm, keras.layers.LayerNormalization, {"axis": [1, 2], "center": False}),
    (LayerNorm, keras.layers.LayerNormalization, {"scale": False}),
    (GroupNorm, keras.layers.GroupNormalization, {"groups": 4}),
    (GroupNorm, keras.layers.GroupNormalization, {"groups": -1, "scale": False}),
    (GroupNorm, keras.layers.GroupNormalization, {"groups": 5, "axis": 1}),
]
if hasattr(keras.layers, "RMSNormalization"):  # not in the oldest supported Keras
    PEERS += [(RMSNorm, keras.layers.RMSNormalization, {}), (RMSNorm, keras.layers.RMSNormalization, {"axis": [1, 2]})]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), PEERS)
def test_keras_gives_the_same(random, ours, theirs, arguments):
    shape = (6, 5, 8)
    peer = randomized(theirs(**arguments), shape, random)
    layer = ours(**arguments)
    layer.build(shape)
    layer.set_weights(peer.get_weights())
    assert [weight.name for weight in layer.weights] == [weight.name for weight in peer.weights]
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    for mine, yours in zip(step(layer, x, dy), step(peer, x, dy), strict=True):
        close(mine, yours, 1e-4)
    assert ours.from_config(theirs(**arguments).get_config()).epsilon == peer.epsilon


def test_instance_norm_is_group_norm_with_a_group_per_channel(random):
    x = tf.constant(random.normal(2, 3, (4, 5, 6, 3)), tf.float32)
    np.testing.assert_array_equal(InstanceNorm()(x), GroupNorm(-1)(x))
    layer = InstanceNorm(axis=1, center=False)
    again = InstanceNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.groups == -1


@pytest.mark.parametrize("layer", [LayerNorm(), GroupNorm(2), InstanceNorm()], ids=lambda layer: layer.name)
def test_a_large_offset(random, layer):
    x = random.normal(1e3, 1, (4, 64, 8)).astype(np.float32)
    exact = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
    np.testing.assert_allclose(layer(x), exact(x.astype(np.float64)), atol=1e-3)


def test_the_output_does_not_depend_on_the_scale_of_the_input(random):
    x = random.normal(size=(4, 64)).astype(np.float32)
    for layer in (LayerNorm(epsilon=0.0), RMSNorm(epsilon=0.0)):
        np.testing.assert_allclose(layer(1000 * x), layer(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer", [LayerNorm(), LayerNorm([1, 2]), GroupNorm(2), RMSNorm()], ids=lambda layer: layer.name
)
def test_gradients_are_those_of_numerical_differences(random, layer):
    shape = (3, 4, 6)
    layer = randomized(type(layer).from_config(layer.get_config() | {"dtype": "float64"}), shape, random)
    x, dy = (tf.constant(random.normal(size=shape)) for _ in range(2))
    theoretical, numerical = tf.test.compute_gradient(lambda x: tf.reduce_sum(dy * layer(x)), [x], delta=1e-5)
    np.testing.assert_allclose(theoretical[0], numerical[0], rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.sample(2)
@pytest.mark.parametrize("make", [LayerNorm, lambda: GroupNorm(4), InstanceNorm, RMSNorm])
def test_models_are_saved_and_exported(random, tmp_path, make):
    model = keras.Sequential([keras.Input((None, 8)), make(), keras.layers.Dense(2)])
    x = random.normal(size=(5, 7, 8)).astype(np.float32)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((5, 7, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), model(x), atol=1e-6)


@pytest.mark.parametrize("make", [lambda **options: GroupNorm(2, **options), InstanceNorm, LayerNorm])
def test_inputs_beyond_float16_are_normalized_in_float32(random, make):
    """Keras' group norm gave NaN: the input was cast to float16, whose largest number is 65504, before the moments."""
    x = random.uniform(60000, 70000, (2, 8, 4)).astype(np.float32)
    y = make(epsilon=1e-12, dtype="mixed_float16")(x)
    assert y.dtype == tf.float16
    close(y, make(epsilon=1e-12, dtype="float64")(x.astype(np.float64)), 2e-3)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LayerNorm(axis={"axis": -1}), TypeError, "Expected an int or a list/tuple of ints"),
        (lambda: LayerNorm(epsilon=-1), ValueError, "`epsilon` must be a number ≥ 0"),
        (lambda: RMSNorm(epsilon="x"), TypeError, "`epsilon` must be a number"),
        (lambda: GroupNorm(0), ValueError, "argument `groups` must be an int ≥ 1"),
        (lambda: GroupNorm(2, axis=[1]), TypeError, "`axis` must be an int"),
        (lambda: GroupNorm(5).build((2, 3, 4)), ValueError, "cannot be more than the number of channels, 4"),
        (lambda: GroupNorm(3).build((2, 3, 4)), ValueError, "must divide the number of channels, 4"),
        (lambda: RMSNorm(3).build((2, 3)), ValueError, r"`axis` must be in \[-2, 1\]"),
        (lambda: LayerNorm().build((2, None)), ValueError, "should have a defined dimension"),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()

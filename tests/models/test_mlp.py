"""Deep fully connected networks: their size, their options, and how gradients grow with depth."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.models import build

DEEP = ["mlp_relu_deep", "linear_deep"]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("norm", [None, "batch"])
def test_depth_and_units_set_the_size(name, norm):
    per_unit = 4 if norm else 1
    assert build(name, norm=norm).count_params() == 784 * 100 + 49 * 100**2 + 50 * 100 * per_unit + 1010
    small = build(name, norm=norm, depth=3, units=8, classes=2, input_shape=(2, 2, 1))
    assert small.count_params() == 4 * 8 + 2 * 8**2 + 3 * 8 * per_unit + 18


def test_linear_deep_has_no_nonlinearity(random):
    model = build("linear_deep", norm=None, depth=4, units=8)
    a, b = (random.normal(size=(3, 28, 28, 1)).astype("float32") for _ in "ab")
    np.testing.assert_allclose(model(a + b), model(a) + model(b), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(layer, keras.layers.Activation) for layer in model.layers)


def growth_per_layer(name, norm, examples, random):
    """By how much the gradient of a kernel grows from one hidden layer to the one before it, on average."""
    model = build(name, norm=norm, depth=20, input_shape=(10, 10, 1))
    images, labels = random.normal(size=(examples, 10, 10, 1)).astype("float32"), random.integers(10, size=examples)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    kernels = [model.get_layer(f"hidden_{i}").kernel.value for i in (5, 15)]
    early, late = (float(tf.norm(gradient)) for gradient in tape.gradient(loss, kernels))
    return (early / late) ** (1 / 10)


@pytest.mark.slow
def test_behind_batch_norm_relu_layers_grow_the_gradient_by_the_published_factor(random):
    assert growth_per_layer("mlp_relu_deep", "batch", 128, random) == pytest.approx(
        (np.pi / (np.pi - 1)) ** 0.5, abs=0.03
    )
    assert growth_per_layer("mlp_relu_deep", None, 128, random) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_behind_batch_norm_of_a_small_batch_linear_layers_grow_the_gradient_too(random):
    assert growth_per_layer("linear_deep", "batch", 5, random) > 1.1
    assert growth_per_layer("linear_deep", None, 5, random) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("option", ["depth", "units"])
@pytest.mark.parametrize("value", [0, 2.5, True])
def test_options_must_be_counts(option, value):
    with pytest.raises(ValueError, match=f"`{option}` must be an int ≥ 1. Received: {option}={value}"):
        build("linear_deep", **{option: value})

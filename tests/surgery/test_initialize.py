"""Weight norm started from data: every layer of a network gives mean 0 and variance 1, and nothing else moves."""

import keras
import numpy as np
import pytest

from bn_keras import WeightNorm
from bn_keras.surgery import initialize_weight_norm, report

layers = keras.layers


def network():
    x = inputs = keras.Input((8, 8, 3))
    x = WeightNorm(layers.Conv2D(6, 3, activation="relu"), name="conv")(x)
    x = WeightNorm(layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), name="depthwise")(x)
    x = WeightNorm(layers.SeparableConv2D(5, 2, activation="tanh"), name="separable")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, WeightNorm(layers.Dense(4), name="dense")(x))


def test_each_layer_gives_mean_0_and_variance_1_before_its_activation(random):
    model, x = network(), random.normal(2, 3, (50, 8, 8, 3)).astype("float32")
    before = model.get_weights()
    new = initialize_weight_norm(model, x, report=None, strict=True)
    assert {row.outcome for row in report(new).rows} == {"initialized"}
    for old, kept in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, kept)
    for name in ("conv", "depthwise", "separable", "dense"):
        wrapper = new.get_layer(name)
        np.testing.assert_array_equal(wrapper.layer.weights[0], model.get_layer(name).layer.weights[0])
        seen = keras.Model(new.input, wrapper.input)(x)
        activation, wrapper.layer.activation = wrapper.layer.activation, keras.activations.linear
        y = wrapper(seen).numpy().reshape(-1, wrapper.output.shape[-1])
        wrapper.layer.activation = activation
        np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)
        if name != "depthwise":  # it has no bias
            np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)


def test_the_copy_trains_on_as_the_model_would(random):
    model, x = network(), random.normal(2, 3, (50, 8, 8, 3)).astype("float32")
    new = initialize_weight_norm(model, x, report=None)
    first = new.get_weights()
    new(x + 1, training=True)  # a later call initializes nothing
    for old, kept in zip(first, new.get_weights(), strict=True):
        np.testing.assert_array_equal(old, kept)


def test_what_is_refused_and_what_stays(random):
    x = random.normal(size=(9, 4, 3)).astype("float32")
    plain = keras.Sequential([keras.Input((4, 3)), layers.Dense(2)])
    with pytest.raises(ValueError, match="has no WeightNorm"):
        initialize_weight_norm(plain, x)
    dense = keras.Sequential([keras.Input((4, 3)), WeightNorm(layers.Dense(2), name="wrapped")])
    with pytest.raises(ValueError, match="'wrapped' have a channel that is constant"):
        initialize_weight_norm(dense, np.ones_like(x))
    einsum = WeightNorm(layers.EinsumDense("abc,cd->abd", (None, 2)))
    with pytest.raises(ValueError, match="EinsumDense has channels of several axes"):
        initialize_weight_norm(keras.Sequential([keras.Input((4, 3)), einsum]), x, strict=True)

"""The doctor leaves a model as it was: weights, statistics, seeds, optimizer and metrics, also after an error."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.doctor import examine, watching
from tests.doctor import networks


def everything(model):
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return [np.asarray(each) for each in variables] + [tf.random.get_global_generator().state.numpy()]


def small(*layers):
    rows = [keras.layers.Dense(6, name="first"), BatchNorm(momentum=0.8, name="norm"), *layers]
    model = keras.Sequential([keras.Input((4,)), *rows, keras.layers.Dense(3, name="last")])
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.3), networks.loss(), metrics=["accuracy"])
    random = np.random.default_rng(0)
    data = random.normal(2, 3, (96, 4)).astype("float32"), random.integers(0, 3, 96)
    model.fit(*data, epochs=2, verbose=0)
    return model, data


@pytest.mark.slow
def test_a_model_stays_as_it_is():
    model, data = small(keras.layers.Dropout(0.5, seed=3))
    before, state = everything(model), np.random.get_state()[1].copy()
    examine(model, data)
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(state, np.random.get_state()[1])
    assert not any("call" in vars(layer) for layer in model.layers)


class Failing(keras.layers.Layer):
    """Fails in training when it is armed, after the batch norm before it has moved its statistics."""

    armed = False

    def call(self, inputs, training=None):
        if training and self.armed:
            raise RuntimeError("the layer fails")
        return inputs


@pytest.mark.slow
def test_a_model_stays_as_it_is_after_an_error():
    failing = Failing(name="failing")
    model, data = small(failing)
    before, failing.armed = everything(model), True
    with pytest.raises(RuntimeError, match="the layer fails"):
        examine(model, data)
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_the_private_name_of_a_mask():
    x = keras.ops.convert_to_tensor(np.array([[[1.0], [0.0]]]))
    assert watching.mask_of(x) is None
    assert watching.mask_of(keras.layers.Masking()(x)).numpy().tolist() == [[True, False]]


def test_untouched_puts_back_the_global_seeds():
    def drawn():
        return random.random(), np.random.random(), tf.random.get_global_generator().uniform([]).numpy()

    random.seed(1)
    np.random.seed(1)
    tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    with watching.untouched():
        before = drawn()
    assert drawn() == before


def test_untouched_puts_back_weights_that_a_layer_assigns():
    layer = BatchNorm(momentum=0.5)
    layer(np.ones((2, 3), "float32"))

    def change():
        layer.gamma.assign([2.0, 3.0, 4.0])
        layer(np.random.default_rng(0).normal(size=(8, 3)), training=True)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), watching.untouched(layer):
        change()
    assert layer.gamma.numpy().tolist() == [1, 1, 1]
    assert layer.moving_mean.numpy().tolist() == [0, 0, 0]

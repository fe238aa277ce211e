"""Through files, configs and copies: the same layer, bit for bit."""

import copy
import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, every
from tests.conformance.steps import all_equal, ready


def model_of(case):
    return keras.Sequential([keras.Input(case.shape[1:]), case.make()])


@functools.cache
def trained(case):
    """A model after one step, with an optimizer that has weights of its own, and an input. Not to be changed."""
    random = np.random.default_rng(0)
    model, x = model_of(case), random.normal(2, 3, case.shape).astype(np.float32)
    ready(model.layers[0], case, random)
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    model(x, training=True)
    return model, x


@pytest.mark.sample(16)
@every(CASES)
def test_keras_files(tmp_path, case):
    model, x = trained.__wrapped__(case)  # one of its own, as it goes on training
    model.save(tmp_path / "model.keras")
    for_inference, loaded = (keras.models.load_model(tmp_path / "model.keras", compile=each) for each in (False, True))
    assert type(loaded.layers[0]) is case.layer
    np.testing.assert_array_equal(for_inference(x), model(x))
    for _ in range(2):
        np.testing.assert_array_equal(loaded(x, training=True), model(x, training=True))
        all_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(loaded(x), model(x))


@every(CASES)
def test_files_of_weights(tmp_path, case):
    model, x = trained(case)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = model_of(case)
    loaded.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(loaded(x), model(x))
    all_equal(loaded.get_weights(), model.get_weights())


@every(CASES)
def test_checkpoints_of_tensorflow(tmp_path, case):
    model, _ = trained(case)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    restored = model_of(case)
    tf.train.Checkpoint(model=restored).restore(path).assert_existing_objects_matched().expect_partial()
    all_equal(restored.get_weights(), model.get_weights())


def arguments_of(layer):
    """The names of all arguments of a class."""
    parameters = inspect.signature(layer).parameters.values()
    return {each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}


@every(CASES)
def test_configs(case):
    layer = case.make(name="norm", dtype="mixed_bfloat16", trainable=False)
    config = layer.get_config()
    assert config.items() >= {name: value for name, value in case.arguments.items() if name != "norm"}.items()
    assert set(config) >= arguments_of(case.layer)
    again = [case.layer.from_config(config), keras.layers.deserialize(keras.layers.serialize(layer))]
    again.append(copy.deepcopy(layer))
    for each in again:
        assert type(each) is case.layer
        assert each.get_config() == config


@every(CASES)
def test_copies_have_weights_of_their_own(case):
    model, x = trained(case)
    layer = model.layers[0]
    copied = copy.deepcopy(layer)
    all_equal(copied.get_weights(), layer.get_weights())
    before = model(x)
    np.testing.assert_array_equal(copied(x), before)
    copied(x, training=True)
    copied.set_weights([0 * weight for weight in copied.get_weights()])
    np.testing.assert_array_equal(model(x), before)


@every(CASES)
def test_clones_start_anew(case):
    model, x = trained(case)
    clone, fresh = keras.models.clone_model(model), model_of(case)
    assert clone.layers[0].get_config() == model.layers[0].get_config()
    all_equal(clone.get_weights(), fresh.get_weights())
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))

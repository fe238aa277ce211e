"""Exclusions from weight decay add up."""

import keras
import pytest

from bn_keras import BatchNorm, WeightNorm, WeightStandardization
from bn_keras.surgery import exclude_from_weight_decay, weight_decay


def decayed(optimizer, model):
    """The names of the variables that an optimizer decays, by what happens to them with gradients of 0."""
    optimizer.build(model.trainable_variables)
    before = [keras.ops.convert_to_numpy(each) for each in model.trainable_variables]
    optimizer.apply([keras.ops.zeros_like(each) for each in model.trainable_variables])
    pairs = zip(model.trainable_variables, before, strict=True)
    moved = [variable for variable, value in pairs if (keras.ops.convert_to_numpy(variable) != value).any()]
    return {"/".join(variable.path.split("/")[-2:]) for variable in moved}


def network():
    layers = [keras.Input((3,)), keras.layers.Dense(2, name="first", bias_initializer="ones"), BatchNorm(name="norm")]
    model = keras.Sequential([*layers, keras.layers.Dense(2, name="head", bias_initializer="ones")])
    model.get_layer("norm").beta.assign([1.0, 1.0])
    return model


@pytest.mark.parametrize("names_first", [True, False])
def test_names_and_earlier_variables_stay_excluded(names_first):
    """Fails where Keras' private record of what is excluded moves."""
    model, other = network(), network()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    if names_first:
        optimizer.exclude_from_weight_decay(var_names=["head"])
    exclude_from_weight_decay(optimizer, other)
    exclude_from_weight_decay(optimizer, model)
    expected = {"first/kernel", "first/bias"} | (set() if names_first else {"head/kernel", "head/bias"})
    assert decayed(optimizer, model) == expected


@pytest.mark.parametrize("scaled", [False, True])
def test_which_variables_are_decayed(scaled):
    """Fails where Keras' private question of what it decays moves."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), BatchNorm(name="norm")])
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["beta"])
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    assert [each.name for each in weight_decay.decayed(outer, model.trainable_weights)] == ["kernel", "bias", "gamma"]
    before = dict(vars(optimizer))
    weight_decay.decayed(outer, model.trainable_weights)
    assert vars(optimizer).keys() == before.keys()
    exclude_from_weight_decay(optimizer, model)
    assert [each.name for each in weight_decay.decayed(outer, model.trainable_weights)] == ["kernel", "bias"]
    assert weight_decay.decayed(keras.optimizers.SGD(), model.trainable_weights) == []
    assert weight_decay.decayed(None, model.trainable_weights) == []


def test_the_scales_of_kernels_are_spared():
    wrapped = [
        WeightNorm(keras.layers.Dense(2, use_bias=False), name="norm"),
        WeightStandardization(keras.layers.Dense(2, use_bias=False), use_gain=True, name="standardized"),
    ]
    model = keras.Sequential([keras.Input((3,)), *wrapped])
    optimizer = exclude_from_weight_decay(keras.optimizers.AdamW(0.1, weight_decay=0.5), model)
    assert [each.name for each in weight_decay.decayed(optimizer, model.trainable_weights)] == ["kernel", "kernel"]

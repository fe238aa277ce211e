"""The repairs: each takes a model and returns a repaired copy, which is not compiled."""

import functools
import warnings

import numpy as np

from bn_keras import surgery
from bn_keras.doctor.criterion import loss_weights_of
from bn_keras.doctor.data import Batch
from bn_keras.doctor.gaps import numbers_of
from bn_keras.doctor.measuring import measure
from bn_keras.surgery.account import in_the_order_of, own_variables
from bn_keras.surgery.copying import Change
from bn_keras.surgery.population import Population
from bn_keras.surgery.rewrite import rewrite
from bn_keras.surgery.tree import layers_of
from bn_keras.surgery.weight_decay import decayed, exclude_too

DECAY_STEPS = 60  # of training, to see what weight decay does: as long as a few passes over the data


def recalibrate(model, batches: list[Batch]):
    """New statistics; layer after layer where a batch brings one value per channel, of which none would come on."""
    inputs = [(batch.x,) for batch in batches]
    try:
        return surgery.recalibrate(model, inputs, verify=False, report=None)
    except ValueError:
        return surgery.recalibrate(model, inputs, sequential=True, verify=False, report=None)


def freeze(model, batches: list[Batch]):
    """Statistics that training uses and keeps. Keras' layers become ours, as Keras' cannot freeze them alone."""
    del batches
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model .* is compiled")
        return surgery.freeze(surgery.from_keras(model, verify=False, report=None), verify=False, report=None)


def reset_scale(model, batches: list[Batch], channels: dict):
    """γ of some channels of some layers at the median size of the others'.

    Args:
        model: The model.
        batches: Not used.
        channels: By address of a layer, whether each channel is set.
    """
    del batches
    plan = {}
    for address, wrong in channels.items():
        layer = layer_at(model, address)
        gamma = numbers_of(layer.gamma)
        typical = np.median(np.abs(gamma[~wrong])) if (~wrong).any() else 1.0
        gamma = np.where(wrong, np.where(gamma < 0, -typical, typical), gamma)
        plan[layer] = again(layer, {"gamma": gamma.reshape(layer.gamma.shape)})
    return rewrite(model, plan)[0]


def drop_bias(model, batches: list[Batch], biased: dict):
    """Linear layers without their bias, which the moving mean of the batch norm after each takes up.

    Args:
        model: The model.
        batches: Not used.
        biased: The address of the linear layer by that of the batch norm.
    """
    del batches
    plan = {}
    for norm, layer in ((layer_at(model, norm), layer_at(model, layer)) for norm, layer in biased.items()):
        mean = numbers_of(norm.moving_mean) - numbers_of(layer.bias)
        plan[norm] = again(norm, {"moving_mean": mean.reshape(norm.moving_mean.shape)})
        config = layer.get_config() | {"use_bias": False}
        values = {variable.name: variable for variable in layer.variables if variable is not layer.bias}
        plan[layer] = Change(functools.partial(type(layer).from_config, config), values)
    return rewrite(model, plan)[0]


def keep_mask(model, batches: list[Batch], dropping: set):
    """Layers that pass the mask on, and statistics without the padding. A `.keras` file does not keep the former."""
    copy = rewrite(model, {})[0]
    for layer in layers_of(copy):
        if layer.name in dropping:
            layer.supports_masking = True
    trains = measure(copy, batches[:1], "training").by_batch
    found = measure(copy, batches, "batch", None, trains)
    for layer in trains:
        whole = Population()
        for row in found.moments[layer]:
            whole.add(*row)
        _, mean, variance = whole.result()
        layer.moving_mean.assign(mean.reshape(layer.moving_mean.shape))
        if hasattr(layer, "moving_variance"):
            layer.moving_variance.assign(variance.reshape(layer.moving_variance.shape))
    return copy


def trained(model, batches: list[Batch], optimizer, exclude: bool):
    """A copy after some steps of training as the model is compiled, with or without weight decay on γ and β."""
    copy, copies, _ = rewrite(model, {})
    config = optimizer.get_config() | {"learning_rate": float(optimizer.learning_rate)}
    given, optimizer = optimizer, type(optimizer).from_config(config)
    exclude_too(optimizer, excluded_in_copy(given, copies))  # a config does not keep what is excluded
    if exclude:
        surgery.exclude_from_weight_decay(optimizer, copy)
    copy.compile(optimizer, model.loss, loss_weights=loss_weights_of(model))
    steps = [batches[i % len(batches)] for i in range(max(DECAY_STEPS, len(batches)))]
    for batch in steps:
        copy.train_on_batch(batch.x, batch.y, batch.weight)
    return copy


def excluded_in_copy(optimizer, copies: dict) -> list:
    """The variables of a copy of a model that the optimizer of the model does not decay.

    Args:
        optimizer: The optimizer of the model.
        copies: The new layer by the old one.
    """
    found = []
    for old, new in copies.items():
        variables = own_variables(old)
        reached = {id(each) for each in decayed(optimizer, variables)}
        pairs = zip(variables, in_the_order_of(variables, own_variables(new)), strict=True)
        found += [copy for variable, copy in pairs if id(variable) not in reached]
    return found


def address_of(model, layer) -> tuple[str, int]:
    """The name of a layer, and the number of layers with this name before it: submodels may share names."""
    return layer.name, [each for each in layers_of(model) if each.name == layer.name].index(layer)


def layer_at(model, address: tuple[str, int]):
    """The layer of a model, or of a copy of it, that has this address."""
    name, place = address
    return [each for each in layers_of(model) if each.name == name][place]


def again(layer, values: dict) -> Change:
    """The same layer with other values of some variables."""
    kept = {variable.name: variable for variable in layer.variables}
    return Change(functools.partial(type(layer).from_config, layer.get_config()), kept | values)

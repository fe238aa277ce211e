"""The wrappers of kernels in a model that is folded: each becomes the plain layer that it wraps.

The layer within a wrapper counts as the linear layer, with the kernel that the wrapper gives it. So a batch norm beside
the wrapper folds as it does beside a plain layer. The plain layer has the name and the activity regularizer of the
wrapper.
"""

import collections
import functools
import typing

import keras
import numpy as np

from bn_keras.layers import WeightNorm, WeightStandardization
from bn_keras.layers.kernel_layer import KernelLayer
from bn_keras.surgery import linear
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import Row
from bn_keras.surgery.tree import held_by, layers_of

FOLDABLE = {WeightNorm, WeightStandardization}


class Wrappers:
    """The wrappers of a model, and which of them fold."""

    def __init__(self, model):
        every = layers_of(model)
        found = [layer for layer in every if isinstance(layer, KernelLayer)]
        holders = collections.Counter(inner for layer in every for inner in held_by(layer)) if found else {}
        self.why_kept = {each: why_kept(each, holders[each.layer]) for each in found}
        self.of_layer = {each.layer: each for each in found if not self.why_kept[each]}
        self.inside_of_kept = {each.layer for each in found} - set(self.of_layer)

    def row(self, wrapper: KernelLayer) -> Row:
        """The row of the report."""
        why, kind = self.why_kept[wrapper], type(wrapper).__name__
        into = () if why else (wrapper.name,)
        return Row(wrapper.name, kind, "kept" if why else "folded", why or "", into)

    def name_of(self, layer) -> str:
        """The name of a linear layer in the folded model."""
        return self.of_layer.get(layer, layer).name

    def settings_of(self, layer) -> dict[str, typing.Any]:
        """The entries of the config of a linear layer that differ in the folded model."""
        wrapper = self.of_layer.get(layer)
        return {} if wrapper is None else {"name": wrapper.name, **activity_regularizer_of(wrapper)}

    def values_of(self, layer) -> linear.Values:
        """The values of the variables that a linear layer computes with."""
        values, wrapper = linear.values_of(layer), self.of_layer.get(layer)
        return values | (effective_kernels(wrapper) if wrapper is not None else {})

    def changes(self, others: dict) -> dict:
        """The changes to the wrappers and their layers, of which `others` has those that took a map."""
        changes = {}
        for layer, wrapper in self.of_layer.items():
            make = functools.partial(plain, layer, self.settings_of(layer))
            changes[wrapper] = others.get(layer) or Change(make, self.values_of(layer))
            changes[layer] = Change(None)
        return changes


def why_kept(wrapper: KernelLayer, holders: int) -> str | None:
    """Why a wrapper stays what it is; `holders` counts the layers that hold the layer in it."""
    if type(wrapper) not in FOLDABLE:
        return f"its class, {type(wrapper).__name__}, derives from a wrapper of kernels and may mean something else"
    if not wrapper.built:
        return "it has no weights: nothing calls it"
    if holders > 1:
        return "the layer that it wraps is used elsewhere too"
    if linear.extra_variables(wrapper.layer):
        return f"the layer that it wraps has variables of its own, {linear.extra_variables(wrapper.layer)}"
    return None


def effective_kernels(wrapper: KernelLayer) -> linear.Values:
    """The kernels that the layer within a wrapper computes with, in float64 by name."""
    kernels = wrapper.effective_kernels()
    return {name: np.asarray(keras.ops.convert_to_numpy(each), np.float64) for name, each in kernels.items()}


def plain(layer: keras.layers.Layer, settings: dict[str, typing.Any]) -> keras.layers.Layer:
    """A layer like this one with other entries of its config."""
    return type(layer).from_config(layer.get_config() | settings)


def activity_regularizer_of(layer: keras.layers.Layer) -> dict[str, typing.Any]:
    """The activity regularizer of a layer as an argument; the checks of wrappers keep it out of the layer within.

    >>> activity_regularizer_of(keras.layers.ReLU())
    {}
    """
    regularizer = layer.activity_regularizer
    return {} if regularizer is None else {"activity_regularizer": keras.regularizers.serialize(regularizer)}

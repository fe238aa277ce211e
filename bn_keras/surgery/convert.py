"""Normalization layers of one kind turned into another, everything else of the model kept."""

import functools
import inspect

import keras

from bn_keras.layers import BatchNorm, DecorrelatedBatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, SyncBatchNorm
from bn_keras.surgery.rewrite import Change, layers_of, rewrite

OURS = {
    keras.layers.BatchNormalization: BatchNorm,
    keras.layers.LayerNormalization: LayerNorm,
    keras.layers.GroupNormalization: GroupNorm,
}
if hasattr(keras.layers, "RMSNormalization"):  # since Keras 3.9
    OURS[keras.layers.RMSNormalization] = RMSNorm
THEIRS = {ours: theirs for theirs, ours in OURS.items()} | {
    SyncBatchNorm: keras.layers.BatchNormalization,
    InstanceNorm: keras.layers.GroupNormalization,
}

# What has no counterpart in Keras, and when a config asks for it.
OURS_ALONE = {
    "momentum": lambda value: value is None,
    "bias_correction": bool,
    "virtual_batch_size": bool,
    "group_size": bool,
    "frozen": bool,
    "activation": lambda value: value != "linear",
}


def from_keras(model):
    """A copy of a model in which Keras' normalization layers are ours.

    Batch, layer, group and RMS normalization become `BatchNorm`, `LayerNorm`, `GroupNorm` and `RMSNorm`, with the
    same arguments, weights, name, `trainable` and dtype policy; the moving variance goes on averaging the biased
    variance, as Keras' does (`unbiased=False`). Outputs are the same up to rounding. The copy is not compiled.

    Args:
        model: A Keras model that has been built: functional, Sequential, or of a class of its own that can be made
            from its config and holds its layers in attributes. Made within `strategy.scope()`, the copy belongs to
            the strategy.

    Returns:
        The new model. The given one is as it was.

    Raises:
        ValueError: For a class derived from one of Keras' normalization layers, whose meaning is not known; for a
            layer that cannot be copied, with its name and what to do.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")])
    >>> from_keras(model).get_layer("norm")
    <BatchNorm name=norm, built=True>
    """
    return convert(model, OURS, biased)


def to_keras(model):
    """A copy of a model in which our normalization layers are Keras'.

    The way back from `from_keras`, for a model that must load where bn_keras is not. Outputs are the same up to
    rounding. In training Keras' moving variance averages the biased variance, whatever `unbiased` was.

    Args:
        model: As in `from_keras`.

    Returns:
        The new model.

    Raises:
        ValueError: For a layer or an option that Keras has no counterpart of, by name: `DecorrelatedBatchNorm`,
            `momentum=None`, `bias_correction`, `virtual_batch_size`, `group_size`, `frozen`, `activation`, several
            axes; and as in `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), SyncBatchNorm(name="norm")])
    >>> to_keras(model).get_layer("norm").synchronized
    True
    """
    for layer in layers_of(model):
        if isinstance(layer, DecorrelatedBatchNorm):
            raise ValueError(
                f"The layer {layer.name!r} is a DecorrelatedBatchNorm, which Keras has no counterpart of. "
                "Swap it for another one first: replace(model, {DecorrelatedBatchNorm: BatchNorm})."
            )
    return convert(model, THEIRS, kept_by_keras)


def to_sync(model):
    """A copy of a model in which each `BatchNorm` is a `SyncBatchNorm`; outputs of inference are bit-equal.

    Arguments, errors and what is kept are those of `from_keras`.

    Raises:
        ValueError: For batch norm of Keras, which is not touched without being asked for: `from_keras` first; for
            an option that cannot be synchronized, such as `virtual_batch_size`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(name="norm")])
    >>> to_sync(model).get_layer("norm")
    <SyncBatchNorm name=norm, built=True>
    """
    refuse_keras(model, "to_sync")
    return convert(model, {BatchNorm: SyncBatchNorm}, lambda layer, config: config | {"synchronized": True})


def to_local(model):
    """A copy of a model in which no batch norm is synchronized: the way back from `to_sync`.

    `group_size` is lost, as it means nothing there.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), SyncBatchNorm(name="norm")])
    >>> to_local(model).get_layer("norm")
    <BatchNorm name=norm, built=True>
    """
    refuse_keras(model, "to_local")
    local = {"synchronized": False, "group_size": None}
    return convert(model, {SyncBatchNorm: BatchNorm, BatchNorm: BatchNorm}, lambda layer, config: config | local)


def replace(model, kinds):
    """A copy of a model in which some kinds of layers are others.

    The new layer has the name, dtype policy and `trainable` of the old one, and the values of those of its variables
    that have the same name and shape: γ and β of a batch norm go on in a group norm, its moving statistics are lost.
    All other variables start anew. As the new layer normalizes by other moments, the model has to be trained again.

    Args:
        model: As in `from_keras`.
        kinds: A dict. Its keys are classes of layers, met exactly, not by what derives from them. Its values are
            classes, made with those arguments of the old layer that they have too, but not its initializers; or
            functions that get the old layer and return the new one.

    Returns:
        The new model.

    Raises:
        TypeError: For keys and values of another kind.
        ValueError: If no layer of the model is of one of these classes, with those that are there.

    Example:

    >>> model = keras.Sequential([keras.Input((6,)), BatchNorm(name="norm")])
    >>> replace(model, {BatchNorm: lambda old: GroupNorm(groups=2, axis=old.axis)}).get_layer("norm")
    <GroupNorm name=norm, built=True>
    """
    for old, new in kinds.items():
        if not isinstance(old, type) or not callable(new):
            raise TypeError(f"Expected a dict of a class or function by a class of layers. Received: {old!r}: {new!r}.")
    layers = layers_of(model)
    for kind in kinds:
        if not any(type(layer) is kind for layer in layers):
            there = ", ".join(sorted({type(layer).__name__ for layer in layers}))
            raise ValueError(f"The model {model.name!r} has no layer of class {kind.__name__}. It has: {there}.")
    chosen = [layer for layer in layers if type(layer) in kinds]
    return rewrite(
        model, {layer: Change(functools.partial(replacement, layer, kinds[type(layer)])) for layer in chosen}
    )[0]


def replacement(layer, new):
    old = layer.get_config()
    if isinstance(new, type):
        shared = {name: old[name] for name in inspect.signature(new).parameters if name in old}
        new = new(**{name: value for name, value in shared.items() if not name.endswith("initializer")})
    else:
        new = new(layer)
        if not isinstance(new, keras.layers.Layer):
            raise TypeError(f"Expected a layer in the place of {layer.name!r}. Received: {new!r}.")
    return type(new).from_config(new.get_config() | {name: old[name] for name in ("name", "dtype", "trainable")})


def convert(model, kinds, configured):
    """A copy of a model with layers of other classes, of the config that `configured(layer, config)` gives."""
    plan = {}
    for layer in layers_of(model):
        if type(layer) in kinds:
            plan[layer] = Change(functools.partial(converted, layer, kinds[type(layer)], configured))
        else:
            refuse_unknown(layer, kinds)
    return rewrite(model, plan)[0]


def converted(layer, kind, configured):
    try:
        return kind(**configured(layer, layer.get_config()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"The layer {layer.name!r} ({type(layer).__name__}) cannot be converted: {error}") from error


def biased(layer, config):
    """Keras' layers average the biased variance."""
    return config | {"unbiased": False} if isinstance(layer, keras.layers.BatchNormalization) else config


def kept_by_keras(layer, config):
    """The config of a Keras layer, unless the layer does something that Keras' has no argument for."""
    for name, is_used in OURS_ALONE.items():
        if name in config and is_used(config[name]):
            raise ValueError(f"Keras has no counterpart of {name}={config[name]!r}. Leave this option at its default.")
    if isinstance(layer, BatchNorm) and isinstance(layer.axis, list):
        raise ValueError(f"Keras normalizes along one axis. Received: axis={layer.axis}. Leave the layer as it is.")
    if isinstance(layer, InstanceNorm):
        config = config | {"groups": -1}
    ours_alone = {*OURS_ALONE, "unbiased", "fused"} - {"momentum"}
    if isinstance(layer, BatchNorm) and "renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters:
        if layer.renorm:
            raise ValueError("This version of Keras has no counterpart of renorm=True. Install a newer Keras.")
        ours_alone |= {"renorm", "renorm_clipping", "renorm_momentum"}
    return {name: value for name, value in config.items() if name not in ours_alone}


def refuse_keras(model, function):
    theirs = [layer.name for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if theirs:
        raise ValueError(
            f"`{function}` turns `BatchNorm` and `SyncBatchNorm` into each other, but {theirs[0]!r} and "
            f"{len(theirs) - 1} more are Keras' BatchNormalization. Call from_keras(model) first."
        )


def refuse_unknown(layer, kinds):
    for kind in kinds:
        if isinstance(layer, kind) and type(layer) not in (*OURS, *THEIRS):
            raise ValueError(
                f"The layer {layer.name!r} is of class {type(layer).__name__}, which derives from {kind.__name__} and "
                f"may mean something else. Say what it becomes: replace(model, {{{type(layer).__name__}: …}})."
            )

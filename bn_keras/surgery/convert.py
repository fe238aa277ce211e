"""Normalization layers of one kind turned into another, everything else of the model kept."""

import functools
import inspect

import keras

from bn_keras.layers import (
    BatchNorm,
    ConditionalNorm,
    DecorrelatedBatchNorm,
    DomainBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
)
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import ReportTo, Row, refuse_kept
from bn_keras.surgery.rewrite import check_model, operate
from bn_keras.surgery.tree import layers_of

OUR_CLASS_OF = {
    keras.layers.BatchNormalization: BatchNorm,
    keras.layers.LayerNormalization: LayerNorm,
    keras.layers.GroupNormalization: GroupNorm,
}
if hasattr(keras.layers, "RMSNormalization"):  # since Keras 3.9
    OUR_CLASS_OF[keras.layers.RMSNormalization] = RMSNorm
KERAS_CLASS_OF = {ours: theirs for theirs, ours in OUR_CLASS_OF.items()} | {
    SyncBatchNorm: keras.layers.BatchNormalization,
    InstanceNorm: keras.layers.GroupNormalization,
}
# Layers without a counterpart, why, and the way out.
WITHOUT_KERAS = "Keras has no counterpart of it; "
WITHOUT_COUNTERPART = {
    DecorrelatedBatchNorm: WITHOUT_KERAS + "replace(model, {DecorrelatedBatchNorm: BatchNorm}) swaps it",
    ConditionalNorm: WITHOUT_KERAS + "the layer inside it is converted alone, so the model needs bn_keras to load",
    DomainBatchNorm: WITHOUT_KERAS + "merge_domains(model, domain=…) fixes a domain, whose batch norm has one",
}
WITHOUT_SYNCHRONIZATION = (
    "it has no synchronized form, and whitens by the batch of each replica; "
    "replace(model, {DecorrelatedBatchNorm: SyncBatchNorm}) swaps it"
)
# What has no counterpart in Keras, and when a config asks for it.
OURS_ALONE = {
    "momentum": lambda value: value is None,
    "bias_correction": bool,
    "virtual_batch_size": bool,
    "group_size": bool,
    "frozen": bool,
    "activation": lambda value: value != "linear",
}


def from_keras(
    model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print
) -> keras.Model:
    """Converts Keras' normalization layers to bn_keras layers, in a copy of a model.

    Batch, layer, group and RMS normalization become `BatchNorm`, `LayerNorm`, `GroupNorm` and `RMSNorm`, with the same
    arguments, weights, name, `trainable` and dtype policy. The moving variance keeps averaging the biased variance, as
    Keras' does (`unbiased=False`). Outputs are equal up to rounding.

    A layer of a class that derives from one of Keras' classes stays as it is, because its meaning is unknown. The
    report names the layer.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        strict: Bool, whether a layer that stays as it is raises an error. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new model, not compiled. The original model does not change. Within `strategy.scope()` the new model belongs
        to the strategy.

    Raises:
        TypeError, ValueError: If `model` is not a built Keras model; if Keras cannot make a layer again; if the weights
            of a layer do not reach the copy; if the outputs of the copy differ; with `strict=True`, if a layer stays as
            it is. The error names the layer and what to do.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")])
    >>> from_keras(model, report=None).get_layer("norm")
    <BatchNorm name=norm, built=True>
    """
    return convert("from_keras", model, OUR_CLASS_OF, biased, strict, verify, report)


def to_keras(model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print) -> keras.Model:
    """Converts bn_keras layers to Keras' normalization layers, in a copy of a model: the inverse of `from_keras`.

    Use `to_keras` for a model that must load where bn_keras is not installed. Outputs are equal up to rounding. In
    training, Keras' moving variance averages the biased variance, whatever `unbiased` was.

    `accumulation_steps` changes training alone: the copy drops it, and the report has a row for the weights that it
    needs.

    A layer without a counterpart in Keras stays as it is, and the report names the layer and the reason. These are
    `DecorrelatedBatchNorm`, `DomainBatchNorm`, `ConditionalNorm` but for the layer inside it, derived classes, and a
    `BatchNorm` with several axes or with `momentum=None`, `bias_correction`, `virtual_batch_size`, `group_size`,
    `frozen` or `activation`.

    Args:
        Those of `from_keras`.

    Returns:
        A new model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: As `from_keras` does.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), SyncBatchNorm(name="norm")])
    >>> to_keras(model, report=None).get_layer("norm").synchronized
    True
    """
    return convert("to_keras", model, KERAS_CLASS_OF | WITHOUT_COUNTERPART, kept_by_keras, strict, verify, report)


def to_sync(model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print) -> keras.Model:
    """Converts each `BatchNorm` to a `SyncBatchNorm`, in a copy of a model.

    A `DomainBatchNorm` becomes synchronized too. Outputs of inference are bit-equal. A layer that cannot be
    synchronized, such as one with `virtual_batch_size` or a `DecorrelatedBatchNorm`, stays as it is, and the report
    names the layer and the reason.

    Args:
        Those of `from_keras`.

    Returns:
        A new model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: If the model has a `keras.layers.BatchNormalization`: call `from_keras` first. For the
            other reasons, see `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(name="norm")])
    >>> to_sync(model, report=None).get_layer("norm")
    <SyncBatchNorm name=norm, built=True>
    """
    check_model(model)
    refuse_keras(model, "to_sync")
    configured = lambda layer, config: config | {"synchronized": True}  # noqa: E731
    kinds = {
        BatchNorm: SyncBatchNorm,
        DomainBatchNorm: DomainBatchNorm,
        DecorrelatedBatchNorm: WITHOUT_SYNCHRONIZATION,
    }
    return convert("to_sync", model, kinds, configured, strict, verify, report)


def to_local(model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print) -> keras.Model:
    """Converts each synchronized batch norm to a local one, in a copy of a model: the inverse of `to_sync`.

    The copy drops `group_size`, which means nothing without synchronization.

    Args:
        Those of `from_keras`.

    Returns:
        A new model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: If the model has a `keras.layers.BatchNormalization`: call `from_keras` first. For the
            other reasons, see `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), SyncBatchNorm(name="norm")])
    >>> to_local(model, report=None).get_layer("norm")
    <BatchNorm name=norm, built=True>
    """
    check_model(model)
    refuse_keras(model, "to_local")
    local = {"synchronized": False, "group_size": None}
    configured = lambda layer, config: config | {key: local[key] for key in local if key in config}  # noqa: E731
    kinds = {SyncBatchNorm: BatchNorm, BatchNorm: BatchNorm, DomainBatchNorm: DomainBatchNorm}
    return convert("to_local", model, kinds, configured, strict, verify, report)


def convert(function, model, kinds, configured, strict, verify, report) -> keras.Model:
    """A copy of a model with layers of other classes, of the config that `configured(layer, config)` returns.

    `kinds` has the new class by the old one, or the reason why a layer of the old one stays.
    """
    check_model(model)
    plan, rows = {}, []
    for layer in layers_of(model):
        if type(layer) in kinds:
            try:
                new = converted(layer, kinds[type(layer)], configured)
            except (TypeError, ValueError) as error:
                rows.append(Row(layer.name, type(layer).__name__, "kept", str(error)))
                continue
            plan[layer] = Change(functools.partial(type(new).from_config, new.get_config()))
            if type(new) is not type(layer) or new.get_config() != layer.get_config():
                rows.append(Row(layer.name, type(layer).__name__, "converted", f"to {described(new, layer)}"))
        elif derives_from_one(layer, kinds):
            why = f"its class derives from a normalization and may mean something else; {HOW_TO_REPLACE}"
            rows.append(Row(layer.name, type(layer).__name__, "kept", why))
    if strict:
        refuse_kept(function, rows)
    return operate(function, model, plan, rows, verify=verify, report=report)


HOW_TO_REPLACE = "say what it becomes with replace(model, {its class: …})"


def converted(layer, kind, configured):
    if isinstance(kind, str):
        raise ValueError(kind)
    return kind(**configured(layer, layer.get_config()))


def described(new, old) -> str:
    """The class of a new layer; where the old one has it too, with the arguments that differ."""
    if type(new) is not type(old):
        return type(new).__name__
    config, before = new.get_config(), old.get_config()
    differing = ", ".join(f"{name}={value!r}" for name, value in config.items() if value != before[name])
    return f"{type(new).__name__}({differing})"


def derives_from_one(layer, kinds) -> bool:
    return type(layer) not in (*OUR_CLASS_OF, *KERAS_CLASS_OF) and isinstance(layer, tuple(kinds))


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
    ours_alone = {*OURS_ALONE, "unbiased", "fused", "accumulation_steps"} - {"momentum"}
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

"""Normalization layers replaced by layers that normalize by other moments."""

import collections.abc
import functools
import inspect

import keras

from bn_keras.layers import InstanceNorm
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import Report, ReportTo, Row, hand_over
from bn_keras.surgery.rewrite import check_model, rewrite, verified_but_for
from bn_keras.surgery.tree import layers_of


def replace(
    model: keras.Model,
    kinds: collections.abc.Mapping[type, collections.abc.Callable],
    *,
    verify: bool = True,
    report: ReportTo = print,
) -> keras.Model:
    """Replaces layers of some classes by other layers, in a copy of a model.

    The new layer takes over the name, the dtype policy and `trainable` of the old one, and the values of variables with
    the same name and shape. For example, a group norm keeps γ and β of a batch norm, and drops its moving statistics.
    All other variables of the new layer get their initial values. All other layers keep their weights. The new layers
    normalize by other moments, so train the copy again.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        kinds: Dict from a class of layers to its replacement. A key does not match derived classes. A replacement is a
            class or a function. `replace` makes a class with the arguments that it shares with the old layer, the
            activity regularizer among them, except initializers and the arguments that define the class, such as
            `synchronized`. A function gets the old layer and returns the new one.
        verify: Bool, whether to compare the outputs of the model and of a copy without replacements. Defaults to
            `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new model, not compiled. The original model does not change. Within `strategy.scope()` the new model belongs
        to the strategy.

    Raises:
        TypeError: If a key of `kinds` is not a class, or a value not a class or function.
        ValueError: If the model has no layer of one of the classes; the error lists the classes that it has. For the
            other reasons, see `from_keras`.

    Example:

    >>> from bn_keras import BatchNorm, GroupNorm
    >>> model = keras.Sequential([keras.Input((6,)), BatchNorm(name="norm")])
    >>> grouped = replace(model, {BatchNorm: lambda old: GroupNorm(groups=2, axis=old.axis)}, report=None)
    >>> grouped.get_layer("norm")
    <GroupNorm name=norm, built=True>
    """
    check_model(model)
    for old, new in kinds.items():
        if not isinstance(old, type) or not callable(new):
            raise TypeError(f"Expected a dict of a class or function by a class of layers. Received: {old!r}: {new!r}.")
    layers = layers_of(model)
    for kind in kinds:
        if not any(type(layer) is kind for layer in layers):
            there = ", ".join(sorted({type(layer).__name__ for layer in layers}))
            raise ValueError(f"The model {model.name!r} has no layer of class {kind.__name__}. It has: {there}.")
    plan, rows = {}, []
    for layer in layers:
        if type(layer) in kinds:
            new = replacement(layer, kinds[type(layer)])
            plan[layer] = Change(functools.partial(type(new).from_config, new.get_config()), anew=True)
            rows.append(Row(layer.name, type(layer).__name__, "converted", f"to {type(new).__name__}"))
    copy, _, dropped = rewrite(model, plan)
    made = Report("replace", (*rows, *dropped), verified_but_for(model, verify))
    return hand_over(copy, made, report)


# What makes a class what it is, which a replacement never takes from the old layer.
OF_THE_CLASS = {"synchronized"}


def replacement(layer, new):
    old, kept = layer.get_config(), {"name", "dtype", "trainable"}
    if isinstance(new, type):
        taken = {name: old[name] for name in arguments_of(new) if name in old}
        new = new(**{k: v for k, v in taken.items() if not k.endswith("initializer") and k not in OF_THE_CLASS})
        kept |= {"activity_regularizer"} & set(old)
    else:
        new = new(layer)
        if not isinstance(new, keras.layers.Layer):
            raise TypeError(f"Expected a layer in the place of {layer.name!r}. Received: {new!r}.")
    return type(new).from_config(new.get_config() | {name: old[name] for name in kept})


def arguments_of(kind) -> set[str]:
    """The arguments of a class, also those that its constructor passes on to the class that it derives from."""
    found = set()
    for each in kind.__mro__:
        if each is keras.layers.Layer:
            break
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters.values()
            found |= {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
    fixed = {"groups"} if issubclass(kind, InstanceNorm) else set()
    return found - fixed - {"self", "args"}

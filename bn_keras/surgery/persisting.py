"""A layer made again as Keras persists it: from its config and its build config."""

import contextlib
import types
import warnings

import keras

from bn_keras.surgery.likeness import original_class, original_config
from bn_keras.surgery.tree import layers_of, leaves_of


class CannotCopyError(ValueError):
    """A layer that Keras cannot make again."""


def from_config(layer):
    """A layer like this one, not built, with the function objects of this process."""
    kind = original_class(layer)
    try:
        config = own_config(layer)
        with keras.saving.custom_object_scope(custom_objects(layer)):
            # The code of a Lambda is this process's own, and not read from a file that someone else may have made.
            trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
            copy = kind.from_config(config, **trusted)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise CannotCopyError(
            f"Keras cannot make the layer {layer.name!r} ({type(layer).__name__}) again from its config: {error}\n"
            "Give its class a `get_config` that returns the arguments of `__init__`, or build the model from layers "
            "with the functional API."
        ) from error
    if isinstance(layer, keras.layers.Lambda):
        for name, value in vars(layer).items():
            if isinstance(value, types.FunctionType) and name in vars(copy):
                setattr(copy, name, value)
    return copy


def made_by_config(layer):
    """What the class of a layer makes from its config, as when a file is loaded; `None` if it cannot."""
    try:
        return original_class(layer).from_config(original_config(layer))
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
        return None


def own_config(layer):
    """The config of a layer; functions of the user stand in it themselves, not by name."""
    config = dict(original_config(layer))
    if original_class(layer).from_config.__func__ is keras.layers.Layer.from_config.__func__:
        for name in config:
            value = getattr(layer, name, None)
            if isinstance(value, types.FunctionType) and not value.__module__.startswith("keras."):
                config[name] = value
    return config


def custom_objects(layer):
    """The classes and functions of the user that a config may name."""
    found = {}
    for each in layers_of(layer):
        found[original_class(each).__name__] = original_class(each)
        for _, value in leaves_of(each):
            if isinstance(value, types.FunctionType):
                found[value.__name__] = value
            elif hasattr(value, "get_config") and not type(value).__module__.startswith("keras."):
                found[type(value).__name__] = type(value)
    return found


def build_alike(layer, copy):
    """Builds the copy of a layer from the build config, in the name scope in which the layer was built."""
    config = layer.get_build_config()
    if config:
        with scope(scope_of(layer)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of state that Keras could not build: it is accounted for later
            copy.build_from_config(config)
    if config or isinstance(layer, keras.Model):
        copy.built = True


def has_build(layer):
    """Whether the class of a layer has a `build` of its own."""
    kind = original_class(layer)
    return kind.build not in (keras.layers.Layer.build, keras.Model.build)


@contextlib.contextmanager
def scope(names):
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(keras.name_scope(name))
        yield


def scope_of(layer):
    """The names that lead to a layer in the paths of its variables."""
    names = layer.variables[0].path.split("/") if layer.variables else []
    return names[: names.index(layer.name)] if layer.name in names else ()


def made_by_class(model):
    """The layers of a functional model in the order in which its class makes them; `None` for one that is dropped."""
    if original_class(model) is type(model):
        return model.layers
    layers = {layer.name: layer for layer in model.layers}
    return [layers.get(name) for name in model.names_in_graph]


def stand_in(layer):
    """What holds the place of a dropped layer where a class calls it."""
    return keras.layers.Identity(name=layer.name, dtype=layer.get_config()["dtype"])


def weight_like(variable, holder):
    return holder.add_weight(
        shape=variable.shape,
        initializer="zeros",
        dtype=variable.dtype,
        trainable=variable.trainable,
        regularizer=variable.regularizer,
        constraint=variable.constraint,
        name=variable.name,
    )

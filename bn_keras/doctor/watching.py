"""Calls of the layers of a model, watched or changed on their way, and the model put back as it was."""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import random
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.surgery.tree import layers_of, leaves_of

# Other threads may call the model meanwhile: they have a context of their own.
AROUND: contextvars.ContextVar = contextvars.ContextVar("around", default=None)


@dataclasses.dataclass
class Seen:
    """One call of a layer on its way: its arguments by name, which may be changed before `go`."""

    layer: keras.layers.Layer
    arguments: dict
    go: typing.Callable

    @property
    def inputs(self):
        """The first argument."""
        return next(iter(self.arguments.values()), None)

    def put(self, inputs) -> None:
        """Replaces the first argument."""
        self.arguments[next(iter(self.arguments))] = inputs

    @property
    def training(self) -> bool | None:
        return self.arguments.get("training")


@contextlib.contextmanager
def watched(layers, around: typing.Callable):
    """Within it, a call of one of the layers in this thread is `around(seen)`, which returns the outputs.

    Args:
        layers: Keras layers. They are as before afterwards.
        around: A function of a `Seen`.
    """
    token, replaced = AROUND.set(around), []
    try:
        for layer in layers:
            replaced.append((layer, vars(layer).get("call")))
            object.__setattr__(layer, "call", watching(layer))
        yield
    finally:
        for layer, own in replaced:
            if own is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", own)
        AROUND.reset(token)


def watching(layer) -> typing.Callable:
    call, signature = layer.call, inspect.signature(layer.call)

    @functools.wraps(call)
    def call_watched(*args, **kwargs):
        around = AROUND.get()
        if around is None:
            return call(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        return around(Seen(layer, bound.arguments, lambda: call(*bound.args, **bound.kwargs)))

    return call_watched


@contextlib.contextmanager
def untouched(*models):
    """Puts all variables of the models back afterwards: weights, statistics, seeds and metrics; and global seeds."""
    before = [(each, keras.ops.convert_to_numpy(each)) for model in models for each in variables_of(model)]
    state, numbers, generator = random.getstate(), np.random.get_state(), tf.random.get_global_generator()
    position = generator.state.numpy()
    try:
        yield
    finally:
        for variable, value in before:
            if not np.array_equal(keras.ops.convert_to_numpy(variable), value, equal_nan=value.dtype.kind in "fV"):
                variable.assign(value)
        random.setstate(state)
        np.random.set_state(numbers)
        generator.state.assign(position)


def variables_of(model) -> list[keras.Variable]:
    """Every variable that a call of the model can change."""
    held = [each for layer in layers_of(model) for _, each in leaves_of(layer) if isinstance(each, keras.Variable)]
    return list({id(each): each for each in (*model.variables, *model.metrics_variables, *held)}.values())


def mask_of(tensor):
    """The mask that Keras has attached to a tensor, or `None`.

    Keras has no public name for it: `tests/doctor/test_watching.py` fails when the private one moves.
    """
    return getattr(tensor, "_keras_mask", None)


def takes_training(model) -> bool:
    """Whether `fit` tells a model that it trains, as Keras decides it: its `call` has the argument."""
    return "training" in inspect.signature(model.call).parameters

"""Statistics that stay as they are while a model trains."""

import functools
import warnings

import keras

from bn_keras.layers import BatchNorm, DecorrelatedBatchNorm
from bn_keras.surgery.rewrite import Change, layers_of, rewrite

THEIRS = keras.layers.BatchNormalization
WITH_STATISTICS = (BatchNorm, DecorrelatedBatchNorm, THEIRS)


def freeze(model, *, scale_and_offset=False):
    """A copy of a model in which batch norm keeps its statistics in training: it runs there as in inference.

    For fine-tuning on batches that are small, or that are not like the data the statistics are of. γ and β go on
    learning, unless `scale_and_offset=True`. All other layers are as before.

    Args:
        model: As in `from_keras`.
        scale_and_offset: Whether γ and β are frozen too: the layers get `trainable = False`.

    Returns:
        The new model, not compiled: what is trainable counts when `compile` is called. There is a warning if the
        given one is compiled, as it goes on with the old meaning.

    Raises:
        ValueError: For batch norm of Keras without `scale_and_offset=True`, as it cannot freeze its statistics alone;
            for a model without batch norm; and as in `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(), keras.layers.Dense(2)])
    >>> frozen = freeze(model)
    >>> frozen.compile("sgd", "mse")
    >>> _ = frozen.fit(keras.ops.ones((4, 3)), keras.ops.ones((4, 2)), verbose=0)
    >>> frozen.layers[0].moving_mean.numpy().tolist()
    [0.0, 0.0, 0.0]
    """
    norms = norms_of(model, "freeze")
    theirs = [layer.name for layer in norms if isinstance(layer, THEIRS)]
    if theirs and not scale_and_offset:
        raise ValueError(
            f"Keras' BatchNormalization cannot freeze its statistics alone, and {theirs[0]!r} and {len(theirs) - 1} "
            "more are such layers. Call freeze(from_keras(model)), or freeze(model, scale_and_offset=True)."
        )
    changes = {"frozen": True} | ({"trainable": False} if scale_and_offset else {})
    return changed(model, norms, changes)


def unfreeze(model):
    """A copy of a model in which batch norm learns its statistics, γ and β again: the way back from `freeze`.

    Arguments, errors and what it returns are those of `freeze`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(frozen=True, trainable=False)])
    >>> layer = unfreeze(model).layers[0]
    >>> layer.frozen, layer.trainable
    (False, True)
    """
    return changed(model, norms_of(model, "unfreeze"), {"frozen": False, "trainable": True})


def norms_of(model, function):
    norms = [layer for layer in layers_of(model) if isinstance(layer, WITH_STATISTICS)]
    if not norms:
        raise ValueError(f"The model {model.name!r} has no batch norm. `{function}` is for models that have.")
    if getattr(model, "compiled", False):
        warnings.warn(
            f"The model {model.name!r} is compiled, what `{function}` gives is not: compile the new one. "
            "The given one goes on training as before.",
            stacklevel=3,
        )
    return norms


def changed(model, norms, changes):
    """A copy with other settings of some layers, as far as they have them."""

    def make(layer):
        config = layer.get_config()
        return type(layer).from_config(config | {name: changes[name] for name in changes if name in config})

    return rewrite(model, {layer: Change(functools.partial(make, layer)) for layer in norms})[0]

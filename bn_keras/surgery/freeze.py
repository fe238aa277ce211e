"""Statistics that stay as they are while a model trains."""

import functools
import warnings

import keras

from bn_keras.layers import BatchNorm, DecorrelatedBatchNorm, DomainBatchNorm
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import ReportTo, Row, refuse_kept
from bn_keras.surgery.rewrite import check_model, operate
from bn_keras.surgery.trace import traced
from bn_keras.surgery.tree import layers_of

KERAS_BATCH_NORM = keras.layers.BatchNormalization
WITH_STATISTICS = (BatchNorm, DecorrelatedBatchNorm, DomainBatchNorm, KERAS_BATCH_NORM)


def freeze(
    model: keras.Model,
    *,
    scale_and_offset: bool = False,
    strict: bool = False,
    verify: bool = True,
    report: ReportTo = print,
) -> keras.Model:
    """Freezes the statistics of batch norm, in a copy of a model: training runs batch norm as inference does.

    Use `freeze` for fine-tuning on batches that are small, or unlike the data that the statistics come from. γ and β
    keep learning, unless `scale_and_offset=True`. All other layers stay as they are.

    Keras' BatchNormalization cannot freeze its statistics alone. Without `scale_and_offset=True` such a layer stays as
    it is, and the report names it. The same holds for a layer of a derived class that takes no `frozen`, and for a
    layer that the model calls with `training=True`, which normalizes by the batch in inference too.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        scale_and_offset: Bool, whether to freeze γ and β too: the layers get `trainable = False`. Defaults to `False`.
        strict: Bool, whether a layer that stays as it is raises an error. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new model, not compiled: Keras reads `trainable` when `compile` is called. `freeze` warns if `model` is
        compiled, because `model` keeps training as before.

    Raises:
        TypeError, ValueError: If the model has no batch norm; if all of its batch norms are Keras' and
            `scale_and_offset` is false. For the other reasons, see `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(), keras.layers.Dense(2)])
    >>> frozen = freeze(model, report=None)
    >>> frozen.compile("sgd", "mse")
    >>> _ = frozen.fit(keras.ops.ones((4, 3)), keras.ops.ones((4, 2)), verbose=0)
    >>> frozen.layers[0].moving_mean.numpy().tolist()
    [0.0, 0.0, 0.0]
    """
    norms = norms_of(model, "freeze")
    keras_norms = [layer.name for layer in norms if isinstance(layer, KERAS_BATCH_NORM)]
    if len(keras_norms) == len(norms) and not scale_and_offset:
        raise ValueError(
            f"Keras' BatchNormalization cannot freeze its statistics alone, and {keras_norms[0]!r} and "
            f"{len(keras_norms) - 1} more are such layers. "
            "Call freeze(from_keras(model)), or freeze(model, scale_and_offset=True)."
        )
    changes = {"frozen": True} | ({"trainable": False} if scale_and_offset else {})
    return changed("freeze", model, norms, changes, "frozen", strict, verify, report)


def unfreeze(model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print) -> keras.Model:
    """Lets batch norm learn its statistics, γ and β again, in a copy of a model: the inverse of `freeze`.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        strict: Bool, whether a layer that stays as it is raises an error. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new model, not compiled. `unfreeze` warns if `model` is compiled, because `model` keeps training as before.

    Raises:
        TypeError, ValueError: If the model has no batch norm. For the other reasons, see `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(frozen=True, trainable=False)])
    >>> layer = unfreeze(model, report=None).layers[0]
    >>> layer.frozen, layer.trainable
    (False, True)
    """
    norms = norms_of(model, "unfreeze")
    changes = {"frozen": False, "trainable": True}
    return changed("unfreeze", model, norms, changes, "unfrozen", strict, verify, report)


def norms_of(model, function):
    check_model(model)
    norms = [layer for layer in layers_of(model) if isinstance(layer, WITH_STATISTICS)]
    if not norms:
        raise ValueError(f"The model {model.name!r} has no batch norm. `{function}` is for models that have.")
    if getattr(model, "compiled", False):
        warnings.warn(
            f"The model {model.name!r} is compiled, the copy that `{function}` returns is not: compile the copy. "
            "The given model keeps training as before.",
            stacklevel=3,
        )
    return norms


def changed(function, model, norms, changes, outcome, strict, verify, report):
    """A copy with other settings of some layers, as far as they have them."""
    plan, rows = {}, []
    trace, _ = traced(model, WITH_STATISTICS)
    for layer in norms:
        config = layer.get_config()
        new = {name: changes[name] for name in changes if name in config}
        if outcome == "frozen" and trace is not None and any(call.training for call in trace.calls.get(layer, [])):
            why = "it is called with training=True and normalizes by the batch in inference too"
            rows.append(Row(layer.name, type(layer).__name__, "kept", why))
        elif "trainable" in new or "frozen" in config:
            plan[layer] = Change(functools.partial(type(layer).from_config, config | new))
            rows.append(Row(layer.name, type(layer).__name__, outcome))
        else:
            why = "its class has no `frozen`; convert it with from_keras or replace, or pass scale_and_offset=True"
            rows.append(Row(layer.name, type(layer).__name__, "kept", why))
    if strict:
        refuse_kept(function, rows)
    return operate(function, model, plan, rows, verify=verify, report=report)

"""Normalization layers by name: one list for every network."""

import difflib
import typing
from collections.abc import Callable

import keras

from bn_keras.layers import GroupNorm
from bn_keras.layers.kinds import KINDS

Norm = str | tuple[str | None, dict] | Callable | None


def norms() -> list[str | None]:
    """Returns the names that `norm` takes, the same in every preset.

    Returns:
        A list of strs, and `None`, which stands for no normalization.

    >>> norms()
    [None, 'batch', 'sync', 'ghost', 'renorm', 'layer', 'group', 'instance', 'rms', 'decorrelated']
    """
    return [None, *KINDS]


def norm(kind: Norm, **options: typing.Any) -> keras.layers.Layer:
    """Returns a new normalization layer, for a builder of your own.

    | name | layer |
    | --- | --- |
    | `None` | `keras.layers.Identity()` |
    | `"batch"` | `BatchNorm()` |
    | `"sync"` | `SyncBatchNorm()` |
    | `"ghost"` | `BatchNorm(virtual_batch_size=32)` |
    | `"renorm"` | `BatchNorm(renorm=True)` |
    | `"layer"` | `LayerNorm()` |
    | `"group"` | `GroupNorm()`, 32 groups |
    | `"instance"` | `InstanceNorm()` |
    | `"rms"` | `RMSNorm()` |
    | `"decorrelated"` | `DecorrelatedBatchNorm()`, one group |

    Batch renormalization corrects each batch by the moving statistics, which start at 0 and 1: without limits the first
    steps hardly normalize. `("renorm", {"renorm_clipping": {"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}})` bounds the
    correction, as its paper does.

    Args:
        kind: Str or `None`, one of `norms()`; or a pair of a name and a dict of options, `("group", {"groups": 8})`; or
            a callable that returns a new layer, such as `functools.partial(BatchNorm, momentum=0.9)`.
        **options: Arguments of the layer. They override the options of a pair.

    Returns:
        The layer, not built.

    Raises:
        ValueError: For an unknown name, or an option that the layer does not have.
        TypeError: For a `kind` of another type, and for a callable that returns no layer, or the same layer twice.

    >>> norm("group", groups=8).groups
    8
    >>> norm(("ghost", {"virtual_batch_size": 16})).virtual_batch_size
    16
    """
    name, fixed = named_and_options(kind)
    options = fixed | options
    if name is None:
        taken = {key: value for key, value in options.items() if key == "name"}
        if options != taken:
            raise ValueError(f"`norm=None` takes no options. Received: {options}. Name a norm, or drop the options.")
        return keras.layers.Identity(**taken)
    if isinstance(name, str):
        layer, defaults = KINDS[name]
        return layer(**(defaults | options))
    layer = name(**options)
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`norm` must return a new keras layer when it is called. Received: norm={kind!r}, "
            f"which returned {layer!r}. Pass a function such as `lambda: BatchNorm()`."
        )
    if hasattr(layer, "output") and not isinstance(layer, keras.Model):  # an attribute of layers that were called
        raise TypeError(
            f"`norm` must return a new keras layer when it is called. Received: norm={kind!r}, which returned "
            f"{layer.name!r} a second time. Make the layer within the function: `lambda: BatchNorm()`."
        )
    return layer


def named_and_options(kind: Norm) -> tuple[str | Callable | None, dict]:
    """The name or callable of a norm and its options, checked."""
    if isinstance(kind, (tuple, list)):
        if len(kind) != 2 or not (kind[0] is None or isinstance(kind[0], str)) or not isinstance(kind[1], dict):
            raise TypeError(
                'A `norm` with options must be a pair of a name and a dict, such as ("group", {"groups": 8}). '
                f"Received: norm={kind!r}."
            )
        name: str | Callable | None = kind[0]
        options = kind[1]
    else:
        name, options = kind, {}
    if isinstance(name, keras.layers.Layer):
        raise TypeError(
            f"`norm` must make a new layer for each place. Received: the layer {name!r}. Pass its class or a function "
            f"that returns a new layer, such as `lambda: {type(name).__name__}()`."
        )
    if name is None and options:
        raise ValueError(f"`norm=None` takes no options. Received: norm={kind!r}. Name a norm, or drop the options.")
    if name is None or callable(name) or (isinstance(name, str) and name in KINDS):
        return name, dict(options)
    near = difflib.get_close_matches(str(name), KINDS, n=1)
    raise ValueError(
        f"`norm` must be None, one of {', '.join(map(repr, KINDS))}, or a callable that returns "
        f"a layer. Received: norm={name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    )


def normalize(x, kind: Norm, name: str, common: int | None = None):
    """Returns `x` through a new layer of a kind; `x` itself for `None`.

    Args:
        x: The tensor.
        kind: As in `build`.
        name: The name of the layer.
        common: The largest number that divides the channels of all layers, for the advice in an error. Default: 4, of
            which `blocks.scaled` makes multiples; or the channels of `x`, where they are no multiple: then an option
            of the preset sets those of all layers.

    Raises:
        ValueError: Where the norm cannot normalize `x`; the message names the layer and what to do.
    """
    if named_and_options(kind)[0] is None:
        return x
    layer = norm(kind)
    layer.name = name
    refuse_lone_values(x, layer)
    try:
        return layer(x)
    except ValueError as error:
        raise ValueError(
            f"`norm={kind!r}` cannot stand at {name!r}, where the input has the shape {x.shape}: {error} "
            f"{fix_for(layer, common or (x.shape[-1] if x.shape[-1] % 4 else 4))}"
        ) from None


def fix_for(layer, channels: int) -> str:
    """What to do about a norm that does not fit."""
    if hasattr(layer, "groups"):
        divisors = [count for count in (2, 3, 4, 5, 7, 8, 11, 16, 32) if channels % count == 0]
        if divisors:
            return (
                f"Choose a number of groups that divides the channels of all layers, here one of {divisors}: "
                f'norm=("group", {{"groups": {divisors[-1]}}}).'
            )
    return "Choose another norm, or another width."


def refuse_lone_values(x, layer) -> None:
    """Refuses a norm of single values: an instance norm of a vector gives zeros."""
    groups = getattr(layer, "groups", None)
    lone = all(size == 1 for size in x.shape[1:-1])
    if isinstance(layer, GroupNorm) and lone and groups in (-1, x.shape[-1]):
        raise ValueError(
            f"{type(layer).__name__} cannot stand at {layer.name!r}: the input has the shape {x.shape}, one position "
            "or none, so each value would be normalized alone, to zero. Use norm='layer' or norm='batch'."
        )

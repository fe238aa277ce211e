"""Normalization layers by name: one list for every network."""

import difflib
import inspect
import typing
from collections.abc import Callable

import keras

from bn_keras.layers import GroupNorm, WeightNorm, WeightStandardization
from bn_keras.layers.kinds import KINDS

Norm = str | tuple[str | None, dict] | Callable | None

# Norms of a kernel: the wrapper of a linear layer, and the norm of its outputs.
KERNEL_KINDS: dict[str, tuple[type, str | None]] = {
    "standardized": (WeightStandardization, "group"),
    "weight": (WeightNorm, None),
}
NAMES = (*KINDS, *KERNEL_KINDS)


def norms() -> list[str | None]:
    """Returns the names that `norm` takes, the same in every preset.

    Returns:
        A list of strs, and `None`, which stands for no normalization.

    >>> norms()[:7]
    [None, 'batch', 'sync', 'ghost', 'renorm', 'layer', 'group']
    >>> norms()[7:]
    ['instance', 'rms', 'decorrelated', 'standardized', 'weight']
    """
    return [None, *NAMES]


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

    `"standardized"` and `"weight"` normalize the kernel of a linear layer, so no layer behind it can stand for them:
    use `linear_norm`, which takes every name.

    Args:
        kind: Str or `None`, one of `norms()` but `"standardized"` and `"weight"`; or a pair of a name and a dict of
            options, `("group", {"groups": 8})`; or a callable that returns a new layer, such as
            `functools.partial(BatchNorm, momentum=0.9)`.
        **options: Arguments of the layer. They override the options of a pair.

    Returns:
        The layer, not built.

    Raises:
        ValueError: For an unknown name, an option that the layer does not have, or a norm of kernels.
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
        refuse_kernel_norm(kind, "`norm`", "it makes a layer for outputs alone. Call `bn_keras.models.linear_norm`")
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
    if name is None or callable(name) or (isinstance(name, str) and name in NAMES):
        return name, dict(options)
    near = difflib.get_close_matches(str(name), NAMES, n=1)
    raise ValueError(
        f"`norm` must be None, one of {', '.join(map(repr, NAMES))}, or a callable that returns "
        f"a layer. Received: norm={name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    )


def linear_norm(x, layer: keras.layers.Layer, *, norm: Norm, name: str):
    """Returns `x` through a linear layer and a normalization by name, for a builder of your own.

    | name | what is normalized |
    | --- | --- |
    | `None` | nothing |
    | `"standardized"` | the kernel, by `WeightStandardization`; and the outputs, by `GroupNorm()` of 32 groups |
    | `"weight"` | the kernel, by `WeightNorm` |
    | any other of `norms()` | the outputs, by the layer of `norm` |

    A wrapper of the layer has the layer's name. The options of `"standardized"` are those of `GroupNorm`, and `scaled`,
    `use_gain` and `gain_initializer` of `WeightStandardization`. Those of `"weight"` are those of `WeightNorm`.

    Args:
        x: Keras tensor.
        layer: Keras layer, new and linear, such as `Dense` or `Conv2D`, without an activation.
        norm: Str or `None`, one of `norms()`; a pair of a name and a dict of options; or a callable that returns a new
            layer for the outputs.
        name: Str, the name of the layer that normalizes the outputs.

    Returns:
        The normalized outputs, a Keras tensor.

    Raises:
        ValueError: For an unknown name or option, and where the norm cannot normalize the kernel or the outputs.
        TypeError: If the kernel of `layer` cannot be normalized, and as `norm` raises it.

    >>> images = keras.Input((8, 8, 3))
    >>> kind = ("standardized", {"groups": 4})
    >>> x = linear_norm(images, keras.layers.Conv2D(8, 3, name="conv"), norm=kind, name="conv_norm")
    >>> [type(layer).__name__ for layer in keras.Model(images, x).layers]
    ['InputLayer', 'WeightStandardization', 'GroupNorm']
    """
    wrapper, options, behind = parts_of(norm)
    if wrapper is not None:
        layer = wrapper(layer, name=layer.name, **options)
    return normalize(layer(x), behind, name=name)


def parts_of(kind: Norm) -> tuple[type | None, dict, Norm]:
    """The wrapper of the kernel and its options, and the norm of the outputs, for a norm of either.

    >>> parts_of(("standardized", {"groups": 4, "scaled": True}))[1:]
    ({'scaled': True}, ('group', {'groups': 4}))
    >>> parts_of("weight")[1:], parts_of("batch")
    (({}, None), (None, {}, 'batch'))
    """
    name, options = named_and_options(kind)
    if not isinstance(name, str) or name not in KERNEL_KINDS:
        return None, {}, kind
    wrapper, behind = KERNEL_KINDS[name]
    if behind is None:
        return wrapper, options, None
    of_wrapper = set(inspect.signature(wrapper).parameters) - set(inspect.signature(KINDS[behind][0]).parameters)
    own = {key: value for key, value in options.items() if key in of_wrapper}
    return wrapper, own, (behind, {key: value for key, value in options.items() if key not in own})


def check_norm(kind: Norm) -> None:
    """Makes a norm of any kind, and raises the errors of its name and its options."""
    wrapper, options, behind = parts_of(kind)
    if wrapper is not None:
        wrapper(keras.layers.Dense(1), **options)
    norm(behind)


def outputs_norm(kind: Norm) -> Norm:
    """The norm of the outputs: `None` for one of the kernel alone."""
    return parts_of(kind)[2]


def refuse_kernel_norm(kind: Norm, taker: str, why: str) -> None:
    """Refuses a norm of kernels where there is none to take it."""
    name, _ = named_and_options(kind)
    if isinstance(name, str) and name in KERNEL_KINDS:
        raise ValueError(f"{taker} cannot take `norm={kind!r}`, which normalizes the kernels of linear layers: {why}.")


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

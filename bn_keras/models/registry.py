"""Presets by name."""

import difflib

from bn_keras.models import inception, mlp

PRESETS = {entry.name: entry for family in (mlp, inception) for entry in family.PRESETS}


def list_presets():
    """The names of all presets, sorted.

    >>> list_presets()
    ['inception_small', 'mlp_sigmoid']
    """
    return sorted(PRESETS)


def preset(name):
    """The preset of that name.

    Args:
        name: One of `list_presets()`.

    Returns:
        A `Preset`: its name, summary, source, builder and defaults.

    Raises:
        ValueError: For an unknown name; the message holds the nearest.

    >>> preset("mlp_sigmoid").input_shape
    (28, 28, 1)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=1)
        raise ValueError(
            f"`name` must be one of {', '.join(list_presets())}. Received: {name!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return PRESETS[name]


def build(name, *, norm="batch", classes=None, input_shape=None, width=1.0):
    """A new model of a preset, with logits, not compiled.

    Args:
        name: One of `list_presets()`.
        norm: What stands between each linear layer and its nonlinearity: `None` for nothing,
            `"batch"` for `BatchNorm()`, `"layer"` for `LayerNorm()`, or a callable without arguments that returns a new
            layer, such as `lambda: BatchNorm(momentum=0.9)`. With a norm the linear layer
            before it has no bias.
        classes: The number of classes, ≥ 2; `None` for the preset's own.
        input_shape: `(height, width, channels)`; `None` for the preset's own.
        width: Multiplies the number of units or channels of every hidden layer, > 0.

    Returns:
        A functional `keras.Model`: images `(batch, height, width, channels)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: For an unknown name or norm and for values out of range.
        TypeError: For values of the wrong type, and for a callable that returns no layer.

    >>> build("mlp_sigmoid", norm=None).count_params()
    99710
    >>> build("mlp_sigmoid").count_params()
    100610
    """
    entry = preset(name)
    classes = entry.classes if classes is None else classes
    input_shape = entry.input_shape if input_shape is None else tuple(input_shape)
    if not _is_int(classes) or classes < 2:
        raise ValueError(f"`classes` must be an int ≥ 2. Received: classes={classes!r}.")
    if len(input_shape) != 3 or not all(_is_int(size) and size >= 1 for size in input_shape):
        raise ValueError(
            f"`input_shape` must be three ints ≥ 1, (height, width, channels). Received: input_shape={input_shape!r}."
        )
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= 16:
        raise ValueError(f"`width` must be a number in (0, 16]. Received: width={width!r}.")
    return entry.builder(norm=norm, classes=classes, input_shape=input_shape, width=width, name=name)


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)

"""Presets by name."""

import importlib
import numbers
import typing

import keras

from bn_keras.choices.names import FAMILIES, suggestion
from bn_keras.models.norms import Norm, named_and_options
from bn_keras.models.preset import Preset
from bn_keras.models.weights import load_weights, shipped

PRESETS: dict[str, Preset] = {}
for _family in FAMILIES:
    for _entry in importlib.import_module(f"bn_keras.models.{_family}").PRESETS:
        if _entry.name in PRESETS:
            raise ValueError(f"Two presets have the name {_entry.name!r}. Rename the one in {_family}.py.")
        PRESETS[_entry.name] = _entry


def list_presets() -> list[str]:
    """Returns the names of all presets, sorted.

    Returns:
        A list of strs for `build`, `describe` and `preset`.

    >>> [name for name in list_presets() if name.startswith("inception_")]
    ['inception_small']
    """
    return sorted(PRESETS)


def preset(name: str) -> Preset:
    """Returns the preset of a name.

    Args:
        name: Str, one of `list_presets()`.

    Returns:
        A `Preset`: its name, summary, source, builder and defaults.

    Raises:
        ValueError: For an unknown name; the message holds the nearest.

    >>> preset("mlp_sigmoid").input_shape
    (28, 28, 1)
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(
            f"`name` must be one of {', '.join(list_presets())}. Received: {name!r}.{suggestion(name, PRESETS)}"
        )
    return PRESETS[name]


def build(
    name: str,
    *,
    norm: Norm = "batch",
    weights: str | None = None,
    classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    width: float | None = None,
    preprocessing: keras.layers.Layer | typing.Literal[False] | None = None,
    **options: typing.Any,
) -> keras.Model:
    """Builds a preset: a new model with logits, not compiled.

    Args:
        name: Str, one of `list_presets()`.
        norm: The normalization between each linear layer and its nonlinearity. A str or `None` of `norms()`, where
            `None` stands for no normalization; a pair of a name and a dict of options, such as
            `("group", {"groups": 8})`; or a callable that returns a new layer, such as
            `functools.partial(BatchNorm, momentum=0.9)`. Defaults to `"batch"`.
        weights: Str, the data set of the trained weights, one that `describe(name)` lists, such as `"mnist"`;
            `"imagenet"` for the networks of `keras.applications`, which Keras downloads; or `None` for new weights.
            Weights that the norm cannot use start anew. Defaults to `None`.
        classes: Int ≥ 2, the number of classes, or `None` for that of the weights or the preset. Defaults to `None`.
        input_shape: Tuple of ints, `(height, width, channels)` of images or `(length,)` of tokens, or `None` for that
            of the weights or the preset. Defaults to `None`.
        width: Float > 0 that multiplies the number of units or channels of every hidden layer, or `None` for that of
            the weights, or 1. Defaults to `None`.
        preprocessing: Layer that the model applies to its inputs first, so that every exported file has it. Adapt a
            layer such as `Normalization` before. `None` takes the layer of the weights, and no layer for new weights;
            `False` takes no layer. Defaults to `None`.
        **options: Further arguments of the preset; `preset(name).options` lists them with their defaults.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits `(batch, classes)`, or from
        tokens `(batch, length)` to logits `(batch, length, classes)`.

    Raises:
        ValueError: For an unknown name, norm or option, for values out of range, for a norm that does not fit the
            network, and for weights that do not fit the other arguments.
        TypeError: For values of the wrong type, and for a callable that returns no layer.
        ConnectionError: If `weights="imagenet"` are not on this machine and cannot be downloaded, within seconds.

    Warns:
        UserWarning: If `weights="imagenet"` do not all fit the norm or the classes; `surgery.report(model)` lists them.

    >>> build("mlp_sigmoid", norm=None).count_params()
    99710
    >>> build("mlp_sigmoid").count_params()
    100610
    """
    entry = preset(name)
    named_and_options(norm)
    check_options(entry, options)
    check_data_format(entry)
    classes = None if classes is None else check_classes(classes)
    input_shape = None if input_shape is None else check_input_shape(entry, input_shape)
    width = None if width is None else check_width(width)
    card = None
    if weights is not None and weights not in entry.pretrained:
        card = shipped(entry, weights, norm)
        classes, input_shape, width = card.agree(classes=classes, input_shape=input_shape, width=width)
        options = card.agree_on_options(options)
        preprocessing = card.preprocessing() if preprocessing is None else preprocessing
    arguments = {
        "norm": norm,
        "classes": entry.classes if classes is None else classes,
        "input_shape": entry.input_shape if input_shape is None else input_shape,
        "width": 1.0 if width is None else width,
        "preprocessing": check_preprocessing(preprocessing),
    }
    if entry.pretrained:
        arguments["weights"] = weights
    model = entry.builder(**arguments, name=name, **(dict(entry.options) | options))
    if card is not None:
        load_weights(model, card)
    return model


def check_options(entry: Preset, options: dict) -> None:
    for key in options:
        if key not in entry.options:
            known = ", ".join(f"{name}={value!r}" for name, value in entry.options.items()) or "none"
            raise TypeError(
                f"The preset {entry.name!r} has no option {key!r}. Its options, with their defaults: {known}."
            )


def check_data_format(entry: Preset) -> None:
    data_format = keras.config.image_data_format()
    if len(entry.input_shape) == 3 and data_format != "channels_last":
        raise ValueError(
            'Networks of images are built for image_data_format="channels_last". Received: '
            f'"{data_format}". Call keras.config.set_image_data_format("channels_last") first.'
        )


def check_classes(classes) -> int:
    if not _is_int(classes) or classes < 2:
        raise ValueError(f"`classes` must be an int ≥ 2. Received: classes={classes!r}.")
    return int(classes)


def check_input_shape(entry: Preset, shape) -> tuple[int, ...]:
    count = len(entry.input_shape)
    expected = "three ints ≥ 1, (height, width, channels)" if count == 3 else "one int ≥ 1, (length,) of tokens"
    if (
        not isinstance(shape, (tuple, list))
        or len(shape) != count
        or not all(_is_int(size) and size >= 1 for size in shape)
    ):
        raise ValueError(f"`input_shape` must be {expected}. Received: input_shape={shape!r}.")
    return tuple(int(size) for size in shape)


def check_width(width) -> float:
    if isinstance(width, bool) or not isinstance(width, numbers.Real) or not 0 < float(width) <= 16:
        raise ValueError(f"`width` must be a number in (0, 16]. Received: width={width!r}.")
    return float(width)


def check_preprocessing(preprocessing):
    if preprocessing is None or preprocessing is False or isinstance(preprocessing, keras.layers.Layer):
        return preprocessing
    raise TypeError(
        "`preprocessing` must be a keras layer, None or False. "
        f"Received: preprocessing={preprocessing!r}. Pass a layer such as keras.layers.Rescaling(1 / 255)."
    )


def _is_int(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)

"""The pieces that networks are made of."""

import difflib

import keras

from bn_keras.layers import BatchNorm, LayerNorm

NORMS = {"batch": BatchNorm, "layer": LayerNorm}


def normalize(x, norm, name):
    """`x` through a new layer of the kind that `norm` names, or `x` itself for `None`."""
    if norm is None:
        return x
    layer = normalizer(norm)()
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`norm` must return a new keras layer when it is called. Received: norm={norm!r}, "
            f"which returned {layer!r}. Pass a function such as `lambda: BatchNorm()`."
        )
    layer.name = name
    return layer(x)


def normalizer(norm):
    """The callable that makes the layers."""
    if callable(norm):
        return norm
    if norm not in NORMS:
        near = difflib.get_close_matches(str(norm), NORMS, n=1)
        raise ValueError(
            f"`norm` must be None, one of {', '.join(map(repr, NORMS))}, or a callable that returns "
            f"a layer. Received: norm={norm!r}." + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return NORMS[norm]


def scaled(units, width):
    """`units` times `width`, to the nearest multiple of 4, at least 4; exact for width 1."""
    return units if width == 1 else max(4, 4 * round(units * width / 4))


def conv_norm_relu(x, filters, kernel_size, *, norm, name, strides=1):
    """Convolution, normalization where there is one, ReLU; a bias only without normalization."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=norm is None,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = normalize(x, norm, name=f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)

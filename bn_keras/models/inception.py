"""Inception-style convolutional networks."""

import keras

from bn_keras.models.blocks import begin, conv_norm_relu, scaled
from bn_keras.models.preset import Preset

# (filters of the 1×1, filters of the 3×3), or the filters of the strided 3×3 that halves the size.
SMALL_BLOCKS = (
    (32, 32), (32, 48), 80,
    (112, 48), (96, 64), (80, 80), (48, 96), 96,
    (176, 160), (176, 160),
)  # fmt: skip


def inception_small(*, norm, classes, input_shape, width, preprocessing, name):
    """Two-branch Inception blocks for images of up to 32 pixels; shapes are those for 28×28."""
    inputs, x = begin(input_shape, preprocessing)  # 28²×c
    x = conv_norm_relu(x, scaled(96, width), 3, norm=norm, name="stem")  # 28²×96
    for i, filters in enumerate(SMALL_BLOCKS, start=1):
        if isinstance(filters, int):  # 14²×160 after the first, 7²×240 after the second
            x = downsample(x, scaled(filters, width), norm=norm, name=f"block_{i}")
        else:  # size kept; 64, 80 · 160, 160, 160, 144 · 336, 336 channels
            one, three = (scaled(count, width) for count in filters)
            x = side_by_side(x, one, three, norm=norm, name=f"block_{i}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # 336
    outputs = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def side_by_side(x, ones, threes, *, norm, name):
    """A 1×1 and a 3×3 convolution of the same input, joined along the channels."""
    one = conv_norm_relu(x, ones, 1, norm=norm, name=f"{name}_1x1")
    three = conv_norm_relu(x, threes, 3, norm=norm, name=f"{name}_3x3")
    return keras.layers.Concatenate(name=name)([one, three])


def downsample(x, filters, *, norm, name):
    """A 3×3 convolution and a 3×3 maximum, both of stride 2, joined along the channels."""
    conv = conv_norm_relu(x, filters, 3, strides=2, norm=norm, name=f"{name}_3x3")
    pool = keras.layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_max")(x)
    return keras.layers.Concatenate(name=name)([conv, pool])


PRESETS = [
    Preset(
        name="inception_small",
        summary="ten two-branch Inception blocks for images of up to 32 pixels",
        source="Ioffe and Szegedy 2015, in the small variant of Apache MXNet's examples (inception-bn-28-small)",
        builder=inception_small,
        classes=10,
        input_shape=(28, 28, 1),
    ),
]

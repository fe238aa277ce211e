"""A VGG-style network for small images."""

import keras

from bn_keras.models.blocks import begin, check_weights, conv_norm_relu, has_bias, scaled
from bn_keras.models.norms import linear_norm
from bn_keras.models.preset import Preset


def vgg_small(*, norm, classes, input_shape, width, preprocessing, name):
    """Three pairs of 3×3 convolutions, a maximum behind each pair, and two fully connected layers.

    The source has twice the filters and units: `width=2`.
    """
    inputs, x = begin(input_shape, preprocessing)  # 32²×c
    for i, filters in enumerate((64, 128, 256), start=1):  # 32²×64, 16²×128, 8²×256
        for j in (1, 2):
            x = conv_norm_relu(x, scaled(filters, width), 3, norm=norm, name=f"block_{i}_{j}")
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"block_{i}_max")(x)  # 16², 8², 4²
    x = keras.layers.Flatten(name="flatten")(x)  # 4096
    units = scaled(512, width)
    check_weights(x.shape[-1] * units, f"{x.shape[-1]:,} inputs of {units:,} units")
    for i in (1, 2):
        dense = keras.layers.Dense(units, use_bias=has_bias(norm), kernel_initializer="he_normal", name=f"hidden_{i}")
        x = linear_norm(x, dense, norm=norm, name=f"hidden_{i}_norm")
        x = keras.layers.ReLU(name=f"hidden_{i}_relu")(x)  # 512
    outputs = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


PRESETS = [
    Preset(
        name="vgg_small",
        summary="six 3×3 convolutions and two fully connected layers, for images of 32 pixels",
        source="Courbariaux et al. 2015, BinaryConnect, arXiv 1511.00363, the CIFAR-10 network, at half its widths",
        builder=vgg_small,
        classes=10,
        input_shape=(32, 32, 3),
    ),
]

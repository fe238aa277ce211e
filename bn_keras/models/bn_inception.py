"""BN-Inception, the ImageNet network of the batch normalization paper."""

import dataclasses

import keras

from bn_keras.models.blocks import begin, conv_norm_relu, has_bias, scaled
from bn_keras.models.norms import linear_norm
from bn_keras.models.preset import Preset


@dataclasses.dataclass(frozen=True)
class Block:
    """A row of figure 5: the filters of the branches.

    Args:
        one: Filters of the 1×1 branch; 0 leaves the branch out, and the block then has stride 2.
        three: Filters of the 1×1 and of the 3×3 of the single branch.
        double: Filters of the 1×1 and of each 3×3 of the double branch.
        pool: `"avg"` or `"max"`.
        projection: Filters of the 1×1 behind the pool; 0 passes the pool through.
    """

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pool: str
    projection: int


# Figure 5. Its widths of 4c, 4d and 4e add up to 608, 608 and 1056, where it prints 576, 576 and 1024.
FIGURE_5 = {
    "3a": Block(64, (64, 64), (64, 96), "avg", 32),
    "3b": Block(64, (64, 96), (64, 96), "avg", 64),
    "3c": Block(0, (128, 160), (64, 96), "max", 0),
    "4a": Block(224, (64, 96), (96, 128), "avg", 128),
    "4b": Block(192, (96, 128), (96, 128), "avg", 128),
    "4c": Block(160, (128, 160), (128, 160), "avg", 128),
    "4d": Block(96, (128, 192), (160, 192), "avg", 128),
    "4e": Block(0, (128, 192), (192, 256), "max", 0),
    "5a": Block(352, (192, 320), (160, 224), "avg", 128),
    "5b": Block(352, (192, 320), (192, 224), "max", 128),
}
# Projections of 96 in 4c and 4d give the channels that the figure prints.
SLIM = FIGURE_5 | {name: dataclasses.replace(FIGURE_5[name], projection=96) for name in ("4c", "4d")}


def bn_inception(*, norm, classes, input_shape, width, preprocessing, name):
    """BN-Inception with the branch widths of figure 5 and a plain first convolution."""
    inputs, x = begin(input_shape, preprocessing)  # 224²×c
    x = conv_norm_relu(x, scaled(64, width), 7, strides=2, norm=norm, name="stem_1")  # 112²×64
    outputs = body(x, FIGURE_5, norm=norm, classes=classes, width=width)
    return keras.Model(inputs, outputs, name=name)


def bn_inception_slim(*, norm, classes, input_shape, width, preprocessing, name):
    """BN-Inception with the channels that figure 5 prints and the paper's separable first convolution."""
    inputs, x = begin(input_shape, preprocessing)  # 224²×c
    x = separable_stem(x, scaled(64, width), norm=norm, name="stem_1")  # 112²×64
    outputs = body(x, SLIM, norm=norm, classes=classes, width=width)
    return keras.Model(inputs, outputs, name=name)


def separable_stem(x, filters: int, *, norm, name):
    """A separable 7×7 convolution of stride 2 with depth multiplier 8, normalization, ReLU."""
    conv = keras.layers.SeparableConv2D(
        filters,
        7,
        strides=2,
        padding="same",
        depth_multiplier=8,
        use_bias=has_bias(norm),
        depthwise_initializer="he_normal",
        pointwise_initializer="he_normal",
        name=f"{name}_conv",
    )
    x = linear_norm(x, conv, norm=norm, name=f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def body(x, blocks, *, norm, classes, width):
    """Everything behind the first convolution; the channels are those of figure 5, then those that differ in SLIM."""
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_1_max")(x)  # 56²×64
    x = conv_norm_relu(x, scaled(64, width), 1, norm=norm, name="stem_2")  # 56²×64
    x = conv_norm_relu(x, scaled(192, width), 3, norm=norm, name="stem_3")  # 56²×192
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_3_max")(x)  # 28²×192
    # 3a-3b: 28²×256, 320 · 3c: 14²×576 · 4a-4d: 14²×576, 576, 608, 608 (SLIM: 576, 576) · 4e: 7²×1056 (SLIM: 1024)
    for row, block in blocks.items():
        x = inception(x, block, norm=norm, width=width, name=f"block_{row}")
    # 5b: 7²×1024
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # 1024
    return keras.layers.Dense(classes, name="logits")(x)


def inception(x, block: Block, *, norm, width, name):
    """The branches of a block, joined along the channels; the last layer of each branch has the stride."""
    strides = 1 if block.one else 2

    def conv(x, filters, kernel_size, branch, strides=1):
        return conv_norm_relu(
            x, scaled(filters, width), kernel_size, strides=strides, norm=norm, name=f"{name}_{branch}"
        )

    branches = [conv(x, block.one, 1, "1x1")] if block.one else []
    three = conv(x, block.three[0], 1, "3x3_reduce")
    branches.append(conv(three, block.three[1], 3, "3x3", strides))
    double = conv(x, block.double[0], 1, "double_reduce")
    double = conv(double, block.double[1], 3, "double_3x3_1")
    branches.append(conv(double, block.double[1], 3, "double_3x3_2", strides))
    pool = {"avg": keras.layers.AveragePooling2D, "max": keras.layers.MaxPooling2D}[block.pool]
    pooled = pool(3, strides=strides, padding="same", name=f"{name}_{block.pool}")(x)
    branches.append(conv(pooled, block.projection, 1, "projection") if block.projection else pooled)
    return keras.layers.Concatenate(name=name)(branches)


PRESETS = [
    Preset(
        name="bn_inception",
        summary="the paper's ImageNet network, with the branch widths of figure 5",
        source="Ioffe and Szegedy 2015, figure 5; a plain first convolution, as in Apache MXNet's inception-bn",
        builder=bn_inception,
        classes=1000,
        input_shape=(224, 224, 3),
    ),
    Preset(
        name="bn_inception_slim",
        summary="the paper's ImageNet network, with the channels that figure 5 prints and a separable stem",
        source="Ioffe and Szegedy 2015, figure 5, as in inception_v2 of TensorFlow-Slim",
        builder=bn_inception_slim,
        classes=1000,
        input_shape=(224, 224, 3),
    ),
]

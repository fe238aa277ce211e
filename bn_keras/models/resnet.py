"""Residual networks for small images."""

import functools

import keras

from bn_keras.models.blocks import add_branch, begin, conv_norm, conv_norm_relu, scaled
from bn_keras.models.preset import Preset


def resnet(*, norm, classes, input_shape, width, preprocessing, name, skips, blocks):
    """Three stages of `blocks` residual blocks each; 6 · blocks + 2 layers have a kernel.

    Args:
        skips: Whether the blocks have shortcuts; `False` gives the paper's plain network.
        blocks: The number of residual blocks of a stage.
    """
    if not isinstance(skips, bool):
        raise TypeError(f"`skips` must be True or False. Received: skips={skips!r}.")
    inputs, x = begin(input_shape, preprocessing)  # 32²×c
    x = conv_norm_relu(x, scaled(16, width), 3, norm=norm, name="stem")  # 32²×16
    for stage, filters in enumerate((16, 32, 64)):  # 32²×16, 16²×32, 8²×64
        for i in range(blocks):
            strides = 2 if stage > 0 and i == 0 else 1
            block = f"block_{stage * blocks + i + 1}"
            x = residual_block(x, scaled(filters, width), strides, norm=norm, skips=skips, name=block)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # 64
    outputs = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def residual_block(x, filters: int, strides: int, *, norm, skips: bool, name: str):
    """Two 3×3 convolutions with a norm each, and the shortcut around them."""
    branch = conv_norm_relu(x, filters, 3, strides=strides, norm=norm, name=f"{name}_1")
    branch = conv_norm(branch, filters, 3, norm=norm, name=f"{name}_2")
    if skips:
        if strides > 1 or x.shape[-1] != filters:
            x = PaddedShortcut(filters, strides, name=f"{name}_shortcut")(x)
        branch = add_branch(x, branch, norm=norm, name=name)
    return keras.layers.ReLU(name=f"{name}_relu")(branch)


@keras.saving.register_keras_serializable("bn_keras")
class PaddedShortcut(keras.layers.Layer):
    """Keeps every `strides`-th position and adds channels of zeros up to `filters`: a shortcut without weights.

    Source: He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.3, option A.

    >>> PaddedShortcut(3, 2)(keras.ops.ones((1, 3, 3, 1))).numpy()[0, 1].tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """

    def __init__(self, filters: int, strides: int, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides = filters, strides

    def call(self, inputs):
        kept = inputs[:, :: self.strides, :: self.strides]
        return keras.ops.pad(kept, [[0, 0], [0, 0], [0, 0], [0, self.filters - inputs.shape[-1]]])

    def get_config(self):
        return super().get_config() | {"filters": self.filters, "strides": self.strides}


def entry(depth: int) -> Preset:
    """The preset of a depth, 6 · blocks + 2."""
    return Preset(
        name=f"resnet{depth}",
        summary=f"{depth} layers with identity shortcuts (option A), for images of 32 pixels",
        source="He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2; SkipInit without norm",
        builder=functools.partial(resnet, blocks=(depth - 2) // 6),
        classes=10,
        input_shape=(32, 32, 3),
        options={"skips": True},
    )


PRESETS = [entry(depth) for depth in (20, 56, 110)]

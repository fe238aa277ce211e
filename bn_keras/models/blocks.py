"""The pieces that networks are made of."""

import typing

import keras

from bn_keras.models.norms import Norm, linear_norm, named_and_options, outputs_norm
from bn_keras.models.norms import norm as new_norm

MOST_DEPTH = 1_000
MOST_WEIGHTS = 2**30  # 4 GiB in float32; training needs three to four times as much


@keras.saving.register_keras_serializable(package="bn_keras")
class Offset(keras.layers.Layer):
    """Adds a trainable number to each channel, the last axis: what is left of a norm that is removed."""

    supports_masking = True

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        return inputs + self.bias

    def compute_output_shape(self, input_shape):
        return input_shape


def begin(
    input_shape: tuple[int, ...], preprocessing: keras.layers.Layer | typing.Literal[False] | None, name: str = "images"
):
    """The input of a network, and the input after the preprocessing, if there is one."""
    inputs = keras.Input(input_shape, name=name)
    return inputs, preprocessing(inputs) if preprocessing else inputs


def has_bias(norm: Norm) -> bool:
    """Whether a linear layer has a bias: where no norm of its outputs follows, or one without an offset of its own."""
    behind = outputs_norm(norm)
    return named_and_options(behind)[0] is None or not getattr(new_norm(behind), "center", False)


def scaled(units: int, width: float) -> int:
    """`units` times `width`, to the nearest multiple of 4, at least 4; exact for width 1."""
    return units if width == 1 else max(4, 4 * round(units * width / 4))


def check_count(name: str, value, most: int | None = None) -> None:
    """Refuses an option that is no int ≥ 1, or more than `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be an int ≥ 1. Received: {name}={value!r}.")
    if most is not None and value > most:
        raise ValueError(f"`{name}` must be at most {most:,}. Received: {name}={value}.")


def check_weights(count: int, what: str) -> None:
    """Refuses a network of more weights than a machine can train, before any of them is made."""
    if count > MOST_WEIGHTS:
        raise ValueError(
            f"A network with {what} would have about {count:,} weights, and {MOST_WEIGHTS:,} are the most. "
            "Choose smaller sizes."
        )


def conv_norm(x, filters: int, kernel_size, *, norm: Norm, name: str, strides: int = 1):
    """Convolution and normalization where there is one."""
    conv = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=has_bias(norm),
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )
    return linear_norm(x, conv, norm=norm, name=f"{name}_norm")


def conv_norm_relu(x, filters: int, kernel_size, *, norm: Norm, name: str, strides: int = 1):
    """Convolution, normalization where there is one, ReLU."""
    x = conv_norm(x, filters, kernel_size, norm=norm, name=name, strides=strides)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("bn_keras")
class Gate(keras.layers.Layer):
    """Multiplies its input by one trainable number that starts at zero.

    At the end of a residual branch it makes a deep network without normalization start as its shortcuts.

    Source: De and Smith 2020, https://arxiv.org/abs/2002.10444 (SkipInit).

    >>> Gate()(keras.ops.ones((1, 2))).numpy().tolist()
    [[0.0, 0.0]]
    """

    def build(self, input_shape):
        self.gate = self.add_weight(name="gate", shape=(), initializer="zeros")

    def call(self, inputs):
        return inputs * self.gate

    def compute_output_shape(self, input_shape):
        return input_shape


def add_branch(x, branch, *, norm: Norm, name: str):
    """`x` plus a residual branch; without a norm of outputs, the branch goes through a gate."""
    if named_and_options(outputs_norm(norm))[0] is None:
        branch = Gate(name=f"{name}_gate")(branch)
    return keras.layers.Add(name=f"{name}_add")([x, branch])

"""An affine map per channel as a Keras layer."""

import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import ACTIVATION, Activation
from bn_keras.layers.base import AXIS, ChannelLayer, Shape, exact_rank
from bn_keras.ops.batch_norm import affine


@keras.saving.register_keras_serializable(package="bn_keras")
class Affine(ChannelLayer):
    """Multiplies each channel by a number and adds another, as batch norm does in inference.

    $$ y = s x + o $$

    `bn_keras.surgery.fold` puts this layer where it cannot merge a batch norm into a convolution. The layer computes in
    float32 at least, and the output has the layer's compute dtype. Its weights `scale` and `offset` have the sizes of
    the input along `axis`.

    Args:
        axis: Int, or list or tuple of ints: the axes of the channels, as in `BatchNorm`. Defaults to `-1`.
        activation: Keras activation of the output (a str, function or dict), or `None`. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor of any dtype.
        training: Bool or `None`. It changes nothing. Defaults to `None`.
        mask: Tensor or `None`. It changes nothing. Defaults to `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an `axis` of the wrong type, when the layer is made. For an `axis` out of the range
            of the input, when the layer is built.

    References:
        [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), Algorithm 2, line 11.

    Example:

    >>> import numpy as np
    >>> layer = Affine()
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.array([1.0, 10.0]), np.array([0.0, 1.0])])
    >>> layer(keras.ops.array([[1.0, 2.0]])).numpy().tolist()
    [[1.0, 21.0]]
    """

    arguments = AXIS, ACTIVATION

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int | list[int] | tuple[int, ...] = -1,
            activation: Activation = None,
            **kwargs: typing.Any,
        ) -> None: ...

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)
        self.offset = self.add_weight(name="offset", shape=self.sizes, initializer="zeros", autocast=False)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        outputs = affine(inputs, tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset), axes)
        return self.activation(tf.cast(outputs, self.compute_dtype))

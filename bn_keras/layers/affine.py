"""An affine map per channel as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.arguments import ACTIVATION
from bn_keras.layers.base import AXIS, ChannelLayer, Shape, exact_rank
from bn_keras.ops.batch_norm import affine


@keras.saving.register_keras_serializable(package="bn_keras")
class Affine(ChannelLayer):
    r"""Multiplies each channel by a number and adds another, as a batch norm does in inference.

    $$ y = s x + o $$

    `bn_keras.surgery.fold` puts it where a batch norm cannot be merged into a convolution.

    Shapes: input and output `(batch, …, channels)`, of any rank ≥ 2; `scale` and `offset` have the sizes of the
    input along `axis`, `(channels,)` for one.
    Dtypes: the output has the layer's compute dtype; the arithmetic is float32 at least.

    Args:
        axis: Int, the axis of the channels, or a list of ints, as in `BatchNorm`.
        activation: A Keras activation of the output.
        **kwargs: The arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor.
        training, mask: Taken as `BatchNorm` takes them; they change nothing.

    Raises:
        TypeError, ValueError: For an `axis` of the wrong type, or out of the range of the input.

    Example:

    >>> import numpy as np
    >>> layer = Affine()
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.array([1.0, 10.0]), np.array([0.0, 1.0])])
    >>> layer(keras.ops.array([[1.0, 2.0]])).numpy().tolist()
    [[1.0, 21.0]]
    """

    arguments = AXIS, ACTIVATION

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)
        self.offset = self.add_weight(name="offset", shape=self.sizes, initializer="zeros", autocast=False)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        outputs = affine(inputs, tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset), axes)
        return self.activation(tf.cast(outputs, self.compute_dtype))

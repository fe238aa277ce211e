"""An affine map per channel as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.base import axes_of, exact_rank, float_tensor, sizes_along, with_known_sizes
from bn_keras.layers.checks import checked_axis
from bn_keras.ops.batch_norm import affine


@keras.saving.register_keras_serializable(package="bn_keras")
class Affine(keras.layers.Layer):
    r"""Multiplies each channel by a number and adds another: what is left of a batch norm in inference.

    $$ y = s x + o $$

    `bn_keras.surgery.fold` puts it where a batch norm cannot become a part of a convolution.

    Shapes: input and output `(batch, …, channels)`, of any rank ≥ 2; `scale` and `offset` have the sizes of the
    input along `axis`, `(channels,)` for one.
    Dtypes: the output has the layer's compute dtype; the arithmetic is float32 at least.

    Args:
        axis: Int, the axis of the channels, or a list of ints, as in `BatchNorm`.
        activation: A Keras activation of the output.
        **kwargs: Those of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor.
        training, mask: As in `BatchNorm`, for what calls it in the place of one; they change nothing.

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

    def __init__(self, axis=-1, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.axis = checked_axis(axis)
        self.activation = keras.activations.get(activation)
        self.supports_masking = True

    def build(self, input_shape):
        self.sizes = sizes_along(self.axis, input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)
        self.offset = self.add_weight(name="offset", shape=self.sizes, initializer="zeros", autocast=False)

    def call(self, inputs, training=None, mask=None):
        inputs = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        scale, offset = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset)
        outputs = affine(inputs, scale, offset, axes=axes_of(self.axis, inputs.shape))
        return self.activation(tf.cast(outputs, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        axes_of(self.axis, input_shape)
        return input_shape

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "axis": self.axis, "activation": activation}

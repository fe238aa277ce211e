"""RMS normalization as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.base import axes_of, float_tensor, sizes_along, with_known_sizes
from bn_keras.layers.checks import checked_axis, checked_number
from bn_keras.ops.choice import xla_pays
from bn_keras.ops.layer_norm import rms_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class RMSNorm(keras.layers.Layer):
    r"""Divides the features of each example by their root mean square.

    $$ y = \gamma \frac{x}{\sqrt{\frac1m \sum_i x_i^2 + \epsilon}} $$

    with the sum over the m features along `axis`, within one example. A drop-in for
    `keras.layers.RMSNormalization`: same arguments, same weight, `scale`.

    Shapes: input and output `(batch, …, features)` of any rank ≥ 2; `scale` has the sizes of the input
    along `axis`. Dtypes: the output has the layer's compute dtype; the mean square is float32 at least.

    Args:
        axis: Int or list of ints, the axes of the features.
        epsilon: Added to the mean square, ≥ 0.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        inputs: The tensor to normalize.
        training: Changes nothing but the speed: the passes over a large input are compiled by XLA if it is true.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for an input
            that the layer cannot normalize, when it is built.

    Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, section 4.

    Example:

    >>> RMSNorm(epsilon=0.0)(keras.ops.array([[3.0, -3.0]])).numpy().tolist()
    [[1.0, -1.0]]
    """

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.axis = checked_axis(axis)
        self.epsilon = checked_number("epsilon", epsilon, at_least=0)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape):
        self.sizes = sizes_along(self.axis, input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)

    def call(self, inputs, training=None):
        inputs = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        axes = axes_of(self.axis, inputs.shape)
        scale, xla = tf.convert_to_tensor(self.scale), xla_pays(inputs, training=training)
        outputs = rms_norm(inputs, scale, axes=axes, epsilon=self.epsilon, xla=xla)
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        axes_of(self.axis, input_shape)
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon}

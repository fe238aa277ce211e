"""RMS normalization as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.arguments import number
from bn_keras.layers.base import AXIS, ChannelLayer, Shape
from bn_keras.ops.layer_norm import rms_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class RMSNorm(ChannelLayer):
    r"""Divides the features of each example by their root mean square.

    $$ y = \gamma \frac{x}{\sqrt{\frac1m \sum_i x_i^2 + \epsilon}} $$

    with the sum over the m features along `axis`, within one example. A drop-in for
    `keras.layers.RMSNormalization`: same arguments, same weight, `scale`.

    Shapes: input and output `(batch, …, features)` of any rank ≥ 2; `scale` has the sizes of the input
    along `axis`. Dtypes: the output has the layer's compute dtype; the mean square is float32 at least.

    Args:
        axis: Int or list of ints, the axes of the features.
        epsilon: Added to the mean square, ≥ 0.
        **kwargs: The arguments of `keras.layers.Layer`.

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

    arguments = AXIS, number("epsilon", 1e-6)

    def check_arguments(self) -> None:
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        outputs = rms_norm(inputs, tf.convert_to_tensor(self.scale), axes, self.epsilon, bool(training))
        return tf.cast(outputs, self.compute_dtype)

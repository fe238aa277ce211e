"""RMS normalization as a Keras layer."""

import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import number
from bn_keras.layers.base import AXIS, ChannelLayer, Shape
from bn_keras.ops.layer_norm import rms_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class RMSNorm(ChannelLayer):
    r"""Divides the features of each example by their root mean square.

    $$ y = \gamma \frac{x}{\sqrt{\frac1m \sum_i x_i^2 + \epsilon}} $$

    The sum runs over the m features along `axis`, within one example.

    The layer is a drop-in for `keras.layers.RMSNormalization`, with the same arguments and the same weight. Its weight
    `scale`, γ in the equation, has the sizes of the input along `axis`. The mean square is float32 at least, and the
    output has the layer's compute dtype.

    Args:
        axis: Int, or list or tuple of ints: the axes of the features. Defaults to `-1`.
        epsilon: Float ≥ 0 that is added to the mean square. Defaults to `1e-06`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        training: Bool or `None`. It changes nothing but the speed: XLA compiles the passes over a large input if it is
            true. Defaults to `None`.

    Input shape:
        `(batch, …, features)`, of any rank ≥ 2, with the features at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built.

    References:
        [Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467), section 4.

    Example:

    >>> RMSNorm(epsilon=0.0)(keras.ops.array([[3.0, -3.0]])).numpy().tolist()
    [[1.0, -1.0]]
    """

    arguments = AXIS, number("epsilon", 1e-6)

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int | list[int] | tuple[int, ...] = -1,
            epsilon: float = 1e-06,
            **kwargs: typing.Any,
        ) -> None: ...

    def check_arguments(self) -> None:
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.scale = self.add_weight(name="scale", shape=self.sizes, initializer="ones", autocast=False)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        outputs = rms_norm(inputs, tf.convert_to_tensor(self.scale), axes, self.epsilon, bool(training))
        return tf.cast(outputs, self.compute_dtype)

"""Layer normalization as a Keras layer."""

import warnings

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    EPSILON,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    flag,
)
from bn_keras.layers.base import AXIS, NormalizationLayer
from bn_keras.ops.layer_norm import layer_norm, scaled_by_deviation


@keras.saving.register_keras_serializable(package="bn_keras")
class LayerNorm(NormalizationLayer):
    r"""Normalizes the features of each example by their own mean and variance.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    with μ and the (biased) σ² over `axis`, within one example: the batch plays no part, training and
    inference are the same, and the output does not depend on the scale of the input (up to ε). A drop-in
    for `keras.layers.LayerNormalization`: same arguments, same weights.

    Shapes: input and output `(batch, …, features)` of any rank ≥ 2; γ and β have the sizes of the input
    along `axis`. Dtypes: the output has the layer's compute dtype; moments are float32 at least.

    Args:
        axis: Int or list of ints, the axes of the features.
        epsilon: Added to the variance, ≥ 0.
        center, scale: Whether there is an offset `beta` and a scale `gamma`.
        beta_initializer, gamma_initializer: Of the offset and scale.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Optional.
        rms_scaling: Keras' `rms_scaling=True` is taken with a warning: it divides by the deviation without taking
            the mean off. `RMSNorm` divides by the root mean square.
        **kwargs: The arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: The tensor to normalize.
        training: Changes nothing but the speed: the passes over a large input are compiled by XLA if it is true.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for an input
            that the layer cannot normalize, when it is built.

    Source: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450, section 3.

    Example:

    >>> LayerNorm(epsilon=0.0)(keras.ops.array([[1.0, 3.0], [10.0, 30.0]])).numpy().tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    arguments = (
        AXIS,
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        *REGULARIZERS_AND_CONSTRAINTS,
        flag("rms_scaling", False, keyword_only=True),
    )

    def check_arguments(self) -> None:
        self.autocast = False
        if self.rms_scaling:
            warnings.warn(
                "`rms_scaling=True` divides by the deviation, not by the root mean square. Use RMSNorm for that.",
                stacklevel=3,
            )
            self.center, self.scale = False, True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        scale, offset = self.scale_and_offset()
        if self.rms_scaling:
            outputs = scaled_by_deviation(inputs, scale, axes, self.epsilon)
        else:
            outputs = layer_norm(inputs, scale, offset, axes, self.epsilon, bool(training))
        return tf.cast(outputs, self.compute_dtype)

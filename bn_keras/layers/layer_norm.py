"""Layer normalization as a Keras layer."""

import warnings

import keras
import tensorflow as tf

from bn_keras.layers.base import NormalizationLayer, axes_of, float_tensor, tensor_or_none, with_known_sizes
from bn_keras.ops.choice import xla_pays
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
        **kwargs: Those of `keras.layers.Layer`. Keras' `rms_scaling=True` is taken with a warning: it
            divides by the deviation without taking the mean off. `RMSNorm` is the true one.

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

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        rms_scaling = bool(kwargs.pop("rms_scaling", False))
        if rms_scaling:
            warnings.warn(
                "`rms_scaling=True` divides by the deviation, not by the root mean square. Use RMSNorm for that.",
                stacklevel=2,
            )
        super().__init__(
            axis=axis,
            epsilon=epsilon,
            center=center and not rms_scaling,
            scale=scale or rms_scaling,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.rms_scaling = rms_scaling
        self.autocast = False

    def call(self, inputs, training=None):
        inputs = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        gamma, beta = tensor_or_none(self.gamma), tensor_or_none(self.beta)
        axes = axes_of(self.axis, inputs.shape)
        if self.rms_scaling:
            outputs = scaled_by_deviation(inputs, gamma, axes=axes, epsilon=self.epsilon)
        else:
            xla = xla_pays(inputs, training=training)
            outputs = layer_norm(inputs, gamma, beta, axes=axes, epsilon=self.epsilon, xla=xla)
        return tf.cast(outputs, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "rms_scaling": self.rms_scaling}

"""Layer normalization as a Keras layer."""

import typing
import warnings

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    EPSILON,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Constraint,
    Initializer,
    Regularizer,
    flag,
)
from bn_keras.layers.base import AXIS, NormalizationLayer
from bn_keras.ops.layer_norm import layer_norm, scaled_by_deviation


@keras.saving.register_keras_serializable(package="bn_keras")
class LayerNorm(NormalizationLayer):
    r"""Normalizes the features of each example by their own mean and variance.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    μ and the (biased) σ² are taken over `axis`, within one example. The output does not depend on the other examples
    or, up to ε, on the scale of the input. Training and inference compute the same.

    The layer is a drop-in for `keras.layers.LayerNormalization`, with the same arguments and weights. γ and β have the
    sizes of the input along `axis`. Moments are float32 at least, and the output has the layer's compute dtype.

    Args:
        axis: Int, or list or tuple of ints: the axes of the features. Defaults to `-1`.
        epsilon: Float ≥ 0 that is added to the variance. Defaults to `0.001`.
        center: Bool, whether to add the offset `beta`. Defaults to `True`.
        scale: Bool, whether to multiply by the scale `gamma`. Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        rms_scaling: Bool, whether to divide by the standard deviation without subtracting the mean, as Keras' argument
            of this name does. The layer then warns, because `RMSNorm` divides by the root mean square instead. Defaults
            to `False`.
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
        [Ba, Kiros and Hinton 2016](https://arxiv.org/abs/1607.06450), section 3.

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

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int | list[int] | tuple[int, ...] = -1,
            epsilon: float = 0.001,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            *,
            rms_scaling: bool = False,
            **kwargs: typing.Any,
        ) -> None: ...

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

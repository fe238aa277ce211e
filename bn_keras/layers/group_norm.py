"""Group and instance normalization as Keras layers."""

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    EPSILON,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Argument,
    without,
)
from bn_keras.layers.base import CHANNEL_AXIS, NormalizationLayer, Shape, exact_rank
from bn_keras.layers.checks import checked_groups, groups_of
from bn_keras.ops.layer_norm import group_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class GroupNorm(NormalizationLayer):
    r"""Normalizes each example over its positions and groups of its channels.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    with μ and the (biased) σ² over all positions and the channels of one group, within one example. A
    drop-in for `keras.layers.GroupNormalization`: same arguments, same weights.

    Shapes: input and output `(batch, …, channels)` of any rank ≥ 2, the channels at `axis`; γ and β
    `(channels,)`. Dtypes: the output has the layer's compute dtype; moments are float32 at least.

    Args:
        groups: The number of groups, a divisor of the number of channels; -1 for one per channel.
        axis: Int, the axis of the channels.
        epsilon: Added to the variance, ≥ 0.
        center, scale: Whether there is an offset `beta` and a scale `gamma`.
        beta_initializer, gamma_initializer: Of the offset and scale.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Optional.
        **kwargs: The arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: The tensor to normalize.
        training: Changes nothing but the speed: the passes over a large input are compiled by XLA if it is true.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for an input
            that the layer cannot normalize, when it is built.

    Source: Wu and He 2018, https://arxiv.org/abs/1803.08494, section 3.1.

    Example:

    >>> x = keras.ops.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> GroupNorm(groups=2, epsilon=0.0)(x).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """

    arguments = (
        Argument("groups", 32, checked_groups, annotation=int),
        CHANNEL_AXIS,
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        *REGULARIZERS_AND_CONSTRAINTS,
    )

    def check_arguments(self) -> None:
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        groups_of(self.groups, *self.sizes)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs, (axis,) = self.prepared(inputs)
        groups = groups_of(self.groups, *self.sizes)
        outputs = group_norm(inputs, *self.scale_and_offset(), axis, groups, self.epsilon, bool(training))
        return tf.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="bn_keras")
class InstanceNorm(GroupNorm):
    """Normalizes each channel of each example over its positions: `GroupNorm` with a group per channel.

    Shapes, dtypes, arguments and errors are those of `GroupNorm`, without `groups`.

    Source: Ulyanov, Vedaldi and Lempitsky 2016, https://arxiv.org/abs/1607.08022.

    Example:

    >>> x = keras.ops.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> InstanceNorm(epsilon=0.0)(x).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """

    arguments = without(GroupNorm.arguments, "groups")
    groups = -1

"""Group and instance normalization as Keras layers."""

import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    EPSILON,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Argument,
    Constraint,
    Initializer,
    Regularizer,
    without,
)
from bn_keras.layers.base import CHANNEL_AXIS, NormalizationLayer, Shape, exact_rank
from bn_keras.layers.checks import checked_groups, groups_of
from bn_keras.ops.layer_norm import group_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class GroupNorm(NormalizationLayer):
    r"""Normalizes each example over its positions and groups of its channels.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    μ and the (biased) σ² are taken within one example, over all positions and the channels of one group. Training and
    inference compute the same.

    The layer is a drop-in for `keras.layers.GroupNormalization`, with the same arguments and weights. γ and β have the
    shape `(channels,)`. Moments are float32 at least, and the output has the layer's compute dtype.

    Args:
        groups: Int, the number of groups, a divisor of the number of channels; -1 for one channel per group. Defaults
            to `32`.
        axis: Int, the axis of the channels. Defaults to `-1`.
        epsilon: Float ≥ 0 that is added to the variance. Defaults to `0.001`.
        center: Bool, whether to add the offset `beta`. Defaults to `True`.
        scale: Bool, whether to multiply by the scale `gamma`. Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        training: Bool or `None`. It changes nothing but the speed: XLA compiles the passes over a large input if it is
            true. Defaults to `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built.

    References:
        [Wu and He 2018](https://arxiv.org/abs/1803.08494), section 3.1.

    Example:

    >>> x = keras.ops.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> GroupNorm(groups=2, epsilon=0.0)(x).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """

    arguments: typing.ClassVar[tuple[Argument, ...]] = (
        Argument("groups", 32, checked_groups, annotation=int),
        CHANNEL_AXIS,
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        *REGULARIZERS_AND_CONSTRAINTS,
    )

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            groups: int = 32,
            axis: int = -1,
            epsilon: float = 0.001,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            **kwargs: typing.Any,
        ) -> None: ...

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
    r"""Normalizes each channel of each example over its positions: `GroupNorm` with one channel per group.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    μ and the (biased) σ² are taken over all positions of one channel of one example. γ and β have the shape
    `(channels,)`. Moments are float32 at least, and the output has the layer's compute dtype.

    Args:
        axis: Int, the axis of the channels. Defaults to `-1`.
        epsilon: Float ≥ 0 that is added to the variance. Defaults to `0.001`.
        center: Bool, whether to add the offset `beta`. Defaults to `True`.
        scale: Bool, whether to multiply by the scale `gamma`. Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        training: Bool or `None`. It changes nothing but the speed: XLA compiles the passes over a large input if it is
            true. Defaults to `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built.

    References:
        [Ulyanov, Vedaldi and Lempitsky 2016](https://arxiv.org/abs/1607.08022).

    Example:

    >>> x = keras.ops.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> InstanceNorm(epsilon=0.0)(x).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """

    arguments = without(GroupNorm.arguments, "groups")

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int = -1,
            epsilon: float = 0.001,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            **kwargs: typing.Any,
        ) -> None: ...

    groups = -1

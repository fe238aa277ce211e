"""Decorrelated batch normalization as a Keras layer."""

import functools
import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    EPSILON,
    FROZEN,
    INITIALIZERS,
    MOMENTUM,
    REGULARIZERS_AND_CONSTRAINTS,
    Argument,
    Constraint,
    Initializer,
    Regularizer,
    initializer,
)
from bn_keras.layers.base import CHANNEL_AXIS, Shape, StatisticsLayer, exact_rank, mask_along
from bn_keras.layers.checks import checked_count, checked_groups, groups_of
from bn_keras.ops import whitening


@keras.saving.register_keras_serializable(package="bn_keras")
class DecorrelatedBatchNorm(StatisticsLayer):
    r"""Whitens the channels of each group by the mean and covariance of the batch.

    $$ y = \gamma \odot W (x - \mu) + \beta \qquad W \approx \Sigma^{-1/2} $$

    In training, μ and Σ are the mean and the (biased) covariance of the batch over every axis but `axis`, with ε added
    to the diagonal of Σ. Newton's iteration computes W. Two moving averages follow μ and W, and replace them in
    inference:

        moving_mean      ← momentum · moving_mean      + (1 − momentum) · μ
        moving_whitening ← momentum · moving_whitening + (1 − momentum) · W

    Full whitening needs more elements (examples × positions) than a group has channels. With fewer elements, ε alone
    fills some directions of Σ, and the output stays near 0 along them.

    Small groups are whitened more fully than large ones. After 5 iterations a direction that holds 1/10 of the variance
    of its group has a variance of 0.995; a direction that holds 1/32 has 0.82, and one that holds 1/64 has 0.59 (0.98
    after 7 iterations). On correlated channels the covariance of the output differs from the identity (Frobenius norm)
    by 0.004 for groups of 4 channels and by 0.48 for groups of 8; the output of batch norm differs by 0.87 and 1.6.
    More iterations come closer, and amplify the noise of the smallest directions. With one channel per group this layer
    is batch norm.

    The cost beyond batch norm is a covariance, two products of the input with matrices of size² forward and four
    backward, and 3 (iterations − 1) products of size³ per group, with size = channels / groups, and twice as many
    backward.

    γ, β and the moving mean have the shape `(channels,)`, and the moving whitening has `(groups, size, size)`. All of
    them and the arithmetic are float32 at least under every dtype policy, and the output has the layer's compute dtype.

    Args:
        axis: Int, the axis of the channels; 1 after a channels-first convolution. Defaults to `-1`.
        groups: Int, the number of groups, a divisor of the number of channels; -1 for one channel per group. Defaults
            to `1`.
        iterations: Int ≥ 1, the number of Newton's iterations. Defaults to `5`.
        momentum: Float in [0, 1], the share of its old value that a moving average keeps at each step. Defaults to
            `0.99`.
        epsilon: Float ≥ 0 that is added to the diagonal of the covariance. Defaults to `0.001`.
        center: Bool, whether to add the offset `beta`. Defaults to `True`.
        scale: Bool, whether to multiply by the scale `gamma`. Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        moving_mean_initializer: Initializer of the moving mean; the moving whitening starts as the identity. Defaults
            to `"zeros"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        frozen: Bool, whether training runs as inference does: the layer uses its moving statistics and keeps them, and
            goes on learning γ and β. `trainable = False` freezes γ and β too. `bn_keras.surgery.freeze` sets it.
            Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to whiten.
        training: Bool or `None`. `True` whitens by the mean and covariance of the batch and updates the moving
            averages; `False` whitens by the moving averages. `None` takes the mode that Keras sets in `fit`, `evaluate`
            and `predict`, and is `False` elsewhere. A layer with `trainable = False` always runs as in inference.
            Defaults to `None`.
        mask: Tensor or `None`, as in `BatchNorm`: elements whose mask is false do not count in the statistics. Defaults
            to `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built.

    References:
        - [Huang et al. 2019](https://arxiv.org/abs/1904.03441), Algorithm 1.
        - [Huang et al. 2018](https://arxiv.org/abs/1804.08450), section 3.3, for the groups.

    Example:

    >>> x = keras.ops.array([[1.0, 1.0], [1.0, 3.0], [3.0, 3.0], [3.0, 5.0]])
    >>> y = DecorrelatedBatchNorm(iterations=9, epsilon=0.0)(x, training=True)
    >>> (keras.ops.matmul(y.numpy().T, y).numpy().round(3) / 4 + 0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    arguments = (
        CHANNEL_AXIS,
        Argument("groups", 1, checked_groups, annotation=int),
        Argument("iterations", 5, functools.partial(checked_count, "iterations"), annotation=int),
        MOMENTUM,
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        initializer("moving_mean_initializer", "zeros"),
        *REGULARIZERS_AND_CONSTRAINTS,
        FROZEN,
    )

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int = -1,
            groups: int = 1,
            iterations: int = 5,
            momentum: float = 0.99,
            epsilon: float = 0.001,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            moving_mean_initializer: Initializer = "zeros",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            frozen: bool = False,
            **kwargs: typing.Any,
        ) -> None: ...

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        (channels,) = self.sizes
        groups = groups_of(self.groups, channels)
        size = channels // groups
        self.moving_mean = self.add_statistic("moving_mean", (channels,), self.moving_mean_initializer)
        self.moving_whitening = self.add_statistic("moving_whitening", (groups, size, size), whitening.identities)

    def settings(self, axes: tuple[int, ...]) -> whitening.Settings:
        groups = groups_of(self.groups, *self.sizes)
        (axis,) = axes
        return whitening.Settings(axis, groups, self.iterations, self.epsilon, self.momentum)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        batch = inputs, *self.scale_and_offset()
        state = whitening.State(*map(tf.convert_to_tensor, (self.moving_mean, self.moving_whitening)))
        if self.learns(training):
            outputs, state = whitening.train(*batch, state, self.settings(axes), mask_along(mask, inputs))
            self.assign_statistics(state)
        else:
            outputs = whitening.infer(*batch, state, self.settings(axes))
        return tf.cast(outputs, self.compute_dtype)

"""Decorrelated batch normalization as a Keras layer."""

import functools

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
    initializer,
)
from bn_keras.layers.base import CHANNEL_AXIS, Shape, StatisticsLayer, exact_rank, mask_along
from bn_keras.layers.checks import checked_count, checked_groups, groups_of
from bn_keras.ops import whitening


@keras.saving.register_keras_serializable(package="bn_keras")
class DecorrelatedBatchNorm(StatisticsLayer):
    r"""Whitens the channels of each group by the mean and covariance of the batch.

    $$ y = \gamma \odot W (x - \mu) + \beta \qquad W \approx \Sigma^{-1/2} $$

    The paper of batch norm sets out to whiten the inputs of each layer, so that they are uncorrelated with mean 0 and
    variance 1. It settles for mean and variance, as a covariance and its inverse root are costly. This layer whitens
    each group of channels, and computes the root by a few of Newton's iterations.

    While training, μ and Σ (biased, ε added to its diagonal) are those of the batch over every axis but `axis`,
    and two moving averages follow μ and W, which stand in for them in inference:

        moving_mean      ← momentum · moving_mean      + (1 − momentum) · μ
        moving_whitening ← momentum · moving_whitening + (1 − momentum) · W

    Full whitening needs more elements (examples × positions) than a group has channels; with fewer, Σ has
    directions of nothing but ε, which stay near 0. After 5 iterations the variance of a direction that holds a tenth
    of its group's is 0.995, of one that holds 1/32 it is 0.82, of 1/64 it is 0.59 (0.98 after 7): small groups are
    whitened more fully than large ones, and a group per channel makes this batch norm. On correlated channels the
    covariance of the output is off the identity (Frobenius norm) by 0.004 for a group of 4 and 0.48 for one of 8,
    that of batch norm by 0.87 and 1.6. More iterations come nearer, and amplify what little a batch says about its
    smallest directions.

    What it costs beyond batch norm: a covariance, two products of the input with matrices of size² forward and
    four backward, and 3 (iterations − 1) products of size³ per group, twice that backward.

    Shapes: input and output `(batch, …, channels)`, of any rank ≥ 2, the channels at `axis`; γ, β and the moving
    mean `(channels,)`; the moving whitening `(groups, size, size)`, with size = channels / groups. Dtypes: the output
    has the layer's compute dtype. The rest is float32 at least under every dtype policy.

    Args:
        axis: Int, the axis of the channels; 1 after a channels-first convolution.
        groups: The number of groups, a divisor of the number of channels; -1 for one per channel.
        iterations: The number of Newton's iterations, ≥ 1.
        momentum: The share of its old value that a moving average keeps at each step, in [0, 1].
        epsilon: Added to the diagonal of the covariance, ≥ 0.
        center, scale: Whether there is an offset `beta` and a scale `gamma`.
        beta_initializer, gamma_initializer: Of the offset and scale.
        moving_mean_initializer: Of the moving mean. The moving whitening starts as the identity.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Optional.
        frozen: Whether training runs as inference does, as in `BatchNorm`.
        **kwargs: The arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor to whiten.
        training: `True` uses (and learns from) the batch's mean and covariance, `False` the moving averages. A
            layer with `trainable = False` always runs as in inference.
        mask: Optional, as in `BatchNorm`: elements where it is false have no part in the statistics.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for an input that the
            layer cannot normalize, when it is built.

    Source: Huang et al. 2019, https://arxiv.org/abs/1904.03441, Algorithm 1; the whitening in groups is that of
    Huang et al. 2018, https://arxiv.org/abs/1804.08450, section 3.3.

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

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        (channels,) = self.sizes
        groups = groups_of(self.groups, channels)
        size = channels // groups
        self.moving_mean = self.add_statistic("moving_mean", (channels,), self.moving_mean_initializer)
        self.moving_whitening = self.add_statistic("moving_whitening", (groups, size, size), whitening.identities)

    def settings(self, axes: tuple[int]) -> whitening.Settings:
        groups = groups_of(self.groups, *self.sizes)
        return whitening.Settings(*axes, groups, self.iterations, self.epsilon, self.momentum)

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

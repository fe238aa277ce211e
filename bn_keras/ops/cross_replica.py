r"""Batch normalization over all replicas of a `tf.distribute` strategy: one packed collective each way.

Forward, each replica sends $[n,\; n\mu,\; M_2 + n\mu^2]$ of its own elements, where $M_2 = \sum (x - \mu)^2$,
in float64, and the sum over replicas gives the moments of the whole batch:

$$ N = \sum n \qquad \mu = \frac1N \sum n\mu \qquad \sigma^2 = \frac1N \sum (M_2 + n\mu^2) - \mu^2 $$

The difference cancels in float64, not in float32: for a mean of 10⁴ deviations it is right to 10⁻⁸. A
replica without elements sends zeros. Backward, each sends its own sums for β and γ, and the gradient of the
input is the one of `bn_keras.ops.normalize` with the sums over all replicas. The gradients of β and γ stay
local, as the strategy itself adds those of weights up.
"""

import tensorflow as tf

from bn_keras.ops.compiler import compiled
from bn_keras.ops.moments import broadcastable, moments, other_axes, statistics_dtype


def replica_context():
    """That of a strategy with more than one replica, or `None`."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def normalize_across_replicas(x, gamma, beta, axes, epsilon, weights=None):
    """`bn_keras.ops.normalize.normalize` over the elements of all replicas.

    Has to be called in a replica context, outside of any `tf.function` of its own: collectives of a strategy
    cannot be traced inside one. The parts between them are compiled.

    Args:
        x: This replica's input, any float.
        gamma, beta: Scale and offset, of the sizes of `x` along `axes`.
        axes: The channel axes.
        epsilon: Added to the variance.
        weights: As in `normalize`, of this replica's elements.

    Returns:
        `(y, count, mean, variance)`: the output, and the moments of all replicas, of the sizes of `x` along
        `axes`, whose gradient is 0.
    """

    @tf.custom_gradient
    def differentiable(x, gamma, beta):
        sums = _sum_over_replicas(_local_sums(x, weights, axes=axes))
        y, count, mean, variance = _normalize_by(x, gamma, beta, sums, axes=axes, epsilon=epsilon)

        def gradient(dy, *of_the_moments):
            settings = {"axes": axes, "epsilon": epsilon}
            dbeta, dgamma = _local_gradients(x, dy, mean, variance, **settings)
            both = _sum_over_replicas(tf.stack([dbeta, dgamma]))
            dx = _input_gradient(x, dy, gamma, weights, both, count, mean, variance, **settings)
            return dx, dgamma, dbeta

        return (y, count, mean, variance), gradient

    return differentiable(x, gamma, beta)


def _sum_over_replicas(values):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


@compiled
def _local_sums(x, weights, *, axes):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    weights = None if weights is None else tf.cast(weights, dtype)
    count, mean, variance = moments(tf.cast(x, dtype), other_axes(rank, axes), weights)
    sizes = [x.shape[axis] for axis in axes]
    count = tf.broadcast_to(count, tf.shape(mean))
    count, mean, variance = (tf.reshape(tf.cast(each, tf.float64), sizes) for each in (count, mean, variance))
    return tf.stack([count, count * mean, count * (variance + tf.square(mean))])


@compiled
def _normalize_by(x, gamma, beta, sums, *, axes, epsilon):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    count, total, squares = tf.unstack(sums)
    mean = tf.math.divide_no_nan(total, count)
    variance = tf.maximum(tf.math.divide_no_nan(squares, count) - tf.square(mean), 0)
    count, mean, variance = (tf.cast(each, dtype) for each in (count, mean, variance))
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    mean_, scale_, beta_ = (broadcastable(each, rank, axes) for each in (mean, scale, beta))
    return tf.cast((tf.cast(x, dtype) - mean_) * scale_ + beta_, x.dtype), count, mean, variance


@compiled
def _local_gradients(x, dy, mean, variance, *, axes, epsilon):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    reduced = other_axes(rank, axes)
    dy = tf.cast(dy, dtype)
    centred = tf.cast(x, dtype) - broadcastable(mean, rank, axes)
    dgamma = tf.reduce_sum(dy * centred, reduced) * tf.math.rsqrt(variance + epsilon)
    return tf.reduce_sum(dy, reduced), dgamma


@compiled
def _input_gradient(x, dy, gamma, weights, sums, count, mean, variance, *, axes, epsilon):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    inverse = tf.math.rsqrt(variance + epsilon)
    through_mean, through_deviation = (tf.math.divide_no_nan(each, count) for each in tf.unstack(sums))
    centred = tf.cast(x, dtype) - broadcastable(mean, rank, axes)
    through_moments = broadcastable(through_mean, rank, axes) + centred * broadcastable(
        inverse * through_deviation, rank, axes
    )
    if weights is not None:
        through_moments *= tf.cast(weights, dtype)
    return tf.cast(broadcastable(gamma * inverse, rank, axes) * (tf.cast(dy, dtype) - through_moments), x.dtype)

r"""Batch normalization over all replicas of a `tf.distribute` strategy: one packed collective each way.

Forward, each replica sends $[n,\; n\mu,\; M_2 + n\mu^2]$ of its own elements, where $M_2 = \sum (x - \mu)^2$,
in float64, and the sum over replicas gives the moments of the whole batch:

$$ N = \sum n \qquad \mu = \frac1N \sum n\mu \qquad \sigma^2 = \frac1N \sum (M_2 + n\mu^2) - \mu^2 $$

The difference cancels in float64, not in float32: for a mean of 10⁴ deviations it is right to 10⁻⁸. A
replica without elements sends zeros. Backward, each sends its own sums for β and γ, and the gradient of the
input is the one of `bn_keras.ops.normalize` with the sums over all replicas. The gradients of β and γ stay
local, as the strategy itself adds those of weights up.

A batch norm that is not synchronized still has one set of moving statistics: they average the moments of all
replicas, in one collective that nothing waits for. So they are the same wherever they are read, saved or used,
and no inference graph needs a collective.
"""

import tensorflow as tf

from bn_keras.ops.compiler import compiled
from bn_keras.ops.moments import broadcastable, other_axes, shifted_moments, statistics_dtype
from bn_keras.ops.normalize import affine
from bn_keras.ops.sums import total


def replica_context():
    """That of a strategy with more than one replica, or `None`."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def average_over_replicas(*averages):
    """Averages over all replicas, each weighted by its count. One collective for all of them, no gradient.

    Args:
        averages: This replica's, as pairs `(count, average)`: tensors of known shapes, of which the count
            broadcasts against the average.

    Returns:
        The same pairs of all replicas together. Where the count is 0, so is the average.
    """
    parts = [part for count, average in averages for part in (count, _sum_of(count, average))]
    packed = tf.concat([tf.reshape(tf.stop_gradient(part), [-1]) for part in parts], 0)
    parts = [
        tf.reshape(whole, part.shape)
        for whole, part in zip(
            tf.split(_sum(packed), [part.shape.num_elements() for part in parts]), parts, strict=True
        )
    ]
    return [(count, tf.math.divide_no_nan(total, count)) for count, total in zip(parts[::2], parts[1::2], strict=True)]


def _sum_of(count, average):
    """What an average is the average of; that of nothing may be NaN."""
    return tf.where(count > 0, count * tf.cast(average, count.dtype), 0)


def normalize_across_replicas(x, gamma, beta, axes, epsilon, weights=None, group_size=None, xla=False):
    """`bn_keras.ops.normalize.normalize` over the elements of all replicas, or of groups of them.

    Has to be called in a replica context, outside of any `tf.function` of its own: collectives of a strategy
    cannot be traced inside one. The parts between them are compiled.

    Args:
        x: This replica's input, any float.
        gamma, beta: Scale and offset, of the sizes of `x` along `axes`.
        axes: The channel axes.
        epsilon: Added to the variance.
        weights: As in `normalize`, of this replica's elements.
        group_size: How many neighbouring replicas make a group; `None` for all.
        xla: Whether the parts between the collectives are compiled by XLA.

    Returns:
        `(y, count, mean, variance)`: the output, and the moments of all replicas, of the sizes of `x` along
        `axes`; with a `group_size` those of each group, the first axis. Their gradient is 0.

    Raises:
        ValueError: When the number of replicas is no multiple of `group_size`.
    """
    groups, own = _groups_and_own(group_size)
    local_sums, normalize_by, local_gradients, input_gradient = _parts_by_xla if xla else _parts

    def sum_over_groups(values):
        """`(n, …)` of this replica to the `(n, groups, …)` of all: in the one collective each group has a slot."""
        around = [[0, 0], [own, groups - 1 - own]] + [[0, 0]] * (values.shape.rank - 1)
        return _sum(tf.pad(values[:, tf.newaxis], around))

    @tf.custom_gradient
    def differentiable(x, gamma, beta):
        moments_of_groups = _moments_of_sums(sum_over_groups(local_sums(x, weights, axes=axes)))
        count, mean, variance = (each[own] for each in moments_of_groups)
        y = normalize_by(x, gamma, beta, mean, variance, axes=axes, epsilon=epsilon)

        def gradient(dy, *of_the_moments):
            settings = {"axes": axes, "epsilon": epsilon}
            dbeta, dgamma = local_gradients(x, dy, mean, variance, **settings)
            both = sum_over_groups(tf.stack([dbeta, dgamma]))[:, own]
            dx = input_gradient(x, dy, gamma, weights, both, count, mean, variance, **settings)
            return dx, dgamma, dbeta

        returned = (count, mean, variance) if group_size is None else moments_of_groups
        return (y, *(tf.cast(each, gamma.dtype) for each in returned)), gradient

    return differentiable(x, gamma, beta)


def _groups_and_own(group_size):
    """The number of groups, and the one of this replica."""
    context = replica_context()
    replicas, replica = context.num_replicas_in_sync, context.replica_id_in_sync_group
    group_size = group_size or replicas
    if replicas % group_size:
        raise ValueError(
            "The number of replicas must be a multiple of `group_size`. "
            f"Received: group_size={group_size}, {replicas} replicas. Choose a divisor, or None for all replicas."
        )
    return replicas // group_size, replica // group_size


def _sum(values):
    return replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _local_sums(x, weights, *, axes):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    weights = None if weights is None else tf.cast(weights, dtype)
    count, *of_x = shifted_moments(x, other_axes(rank, axes), weights)
    sizes = [x.shape[axis] for axis in axes]
    count = tf.broadcast_to(count, tf.shape(of_x[0]))
    count, pivot, correction, variance = (tf.reshape(tf.cast(each, tf.float64), sizes) for each in (count, *of_x))
    mean = pivot + correction
    return tf.stack([count, count * mean, count * (variance + tf.square(mean))])


@compiled
def _moments_of_sums(sums):
    count, total, squares = tf.unstack(sums)
    mean = tf.math.divide_no_nan(total, count)
    return count, mean, tf.maximum(tf.math.divide_no_nan(squares, count) - tf.square(mean), 0)


def _normalize_by(x, gamma, beta, mean, variance, *, axes, epsilon):
    pivot, *of_x = _in_parts(x, mean, variance, axes, epsilon)
    gamma, beta = (broadcastable(each, x.shape.rank, axes) for each in (gamma, beta))
    return tf.cast(affine(tf.cast(x, pivot.dtype) - pivot, *of_x, gamma, beta), x.dtype)


def _local_gradients(x, dy, mean, variance, *, axes, epsilon):
    reduced = other_axes(x.shape.rank, axes)
    pivot, correction, inverse = _in_parts(x, mean, variance, axes, epsilon)
    dtype, sizes = pivot.dtype, [x.shape[axis] for axis in axes]
    dbeta = total(lambda dy: tf.cast(dy, dtype), [dy], reduced)
    products = total(lambda x, dy: tf.cast(dy, dtype) * (tf.cast(x, dtype) - pivot), [x, dy], reduced)
    return tf.reshape(dbeta, sizes), tf.reshape((products - correction * dbeta) * inverse, sizes)


def _input_gradient(x, dy, gamma, weights, sums, count, mean, variance, *, axes, epsilon):
    rank = x.shape.rank
    pivot, correction, inverse = _in_parts(x, mean, variance, axes, epsilon)
    through_mean, through_deviation = (
        broadcastable(tf.math.divide_no_nan(each, tf.cast(count, each.dtype)), rank, axes) for each in tf.unstack(sums)
    )
    slope = inverse * through_deviation
    through_moments = (tf.cast(x, pivot.dtype) - pivot) * slope + (through_mean - correction * slope)
    if weights is not None:
        through_moments *= tf.cast(weights, pivot.dtype)
    dx = broadcastable(gamma, rank, axes) * inverse * (tf.cast(dy, pivot.dtype) - through_moments)
    return tf.cast(dx, x.dtype)


def _in_parts(x, mean, variance, axes, epsilon):
    """The rounded mean, what the rounding left, and one over the deviation, shaped to broadcast against `x`."""
    dtype = statistics_dtype(x.dtype)
    pivot = tf.cast(mean, dtype)
    correction = tf.cast(mean - tf.cast(pivot, mean.dtype), dtype)
    inverse = tf.cast(tf.math.rsqrt(variance + epsilon), dtype)
    return [broadcastable(each, x.shape.rank, axes) for each in (pivot, correction, inverse)]


_LOCAL = (_local_sums, _normalize_by, _local_gradients, _input_gradient)
_parts, _parts_by_xla = ([compiled(part, jit_compile=xla) for part in _LOCAL] for xla in (None, True))

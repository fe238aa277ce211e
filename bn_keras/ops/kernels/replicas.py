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

from bn_keras.ops.kernels import xla
from bn_keras.ops.moments import (
    Moments,
    broadcastable,
    finite_where_masked,
    in_dtype,
    moments_over_groups,
    moments_per_channel,
    only_where_present,
    other_axes,
    shifted_moments,
    statistics_dtype,
)
from bn_keras.ops.normalize import rescaled
from bn_keras.ops.settings import Settings
from bn_keras.ops.sums import total
from bn_keras.ops.traces import run, run_by_xla

APPLIES_RELU = False
ATTRIBUTES = ()


def replica_context() -> tf.distribute.ReplicaContext | None:
    """The context of a strategy with more than one replica, or `None`."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def obstacle(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> str | None:
    return None if settings.synchronized and replica_context() else "without replicas to synchronize"


def normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    """Normalizes by the moments of all replicas, or of groups of them.

    Has to be called in a replica context, outside of any `tf.function` of its own: collectives of a strategy
    cannot be traced inside one. The parts between them are compiled.

    Raises:
        ValueError: When the number of replicas is no multiple of `group_size`.
    """
    groups, own = _groups_and_own(settings.group_size)
    axes, epsilon = settings.axes, settings.epsilon
    by_xla = not xla.obstacle(x, mask, settings)

    def compiled(part, arguments):
        return run_by_xla(part, arguments) if by_xla else run(part, arguments, axes)

    def sum_over_groups(values):
        """`(n, …)` of this replica to the `(n, groups, …)` of all: in the one collective each group has a slot."""
        around = [[0, 0], [own, groups - 1 - own]] + [[0, 0]] * (values.shape.rank - 1)
        return sum_of_replicas(tf.pad(values[:, tf.newaxis], around))

    @tf.custom_gradient
    def differentiable(x, scale, offset):
        moments_of_groups = moments_of_sums(sum_over_groups(compiled(_local_sums, (x, mask, axes))))
        count, mean, variance = (each[own] for each in moments_of_groups)
        y = compiled(_normalize_by, (x, scale, offset, mean, variance, axes, epsilon))

        def gradient(dy, *of_the_moments):
            doffset, dscale = compiled(_local_gradients, (x, dy, mask, mean, variance, axes, epsilon))
            both = sum_over_groups(tf.stack([doffset, dscale]))[:, own]
            dx = compiled(_input_gradient, (x, dy, scale, mask, both, count, mean, variance, axes, epsilon))
            return dx, dscale, doffset

        return (y, *(tf.cast(each, scale.dtype) for each in moments_of_groups)), gradient

    y, *moments = differentiable(x, scale, offset)
    if settings.group_size is None:
        return y, moments_per_channel(*moments, scale.shape)
    return y, moments_over_groups(*moments)


def moments_of_all_replicas(moments: Moments) -> Moments:
    """The averages over all replicas, each weighted by its count; and the whole count."""
    averages = tf.stack([moments.mean, moments.variance, moments.unbiased])
    ((count, averages),) = average_over_replicas((moments.count, averages))
    return Moments(count, *tf.unstack(averages))


def pooled_moments(moments: Moments) -> Moments:
    """The moments of the batches of all replicas together, as of one batch."""
    count, dtype = tf.cast(moments.count, tf.float64), moments.mean.dtype
    mean, variance = (tf.where(count > 0, tf.cast(each, tf.float64), 0) for each in (moments.mean, moments.variance))
    sums = tf.stack([count, count * mean, count * (variance + tf.square(mean))])
    pooled = moments_of_sums(sum_of_replicas(tf.stop_gradient(sums)))
    return moments_per_channel(*(tf.cast(each, dtype) for each in pooled), moments.mean.shape)


def average_over_replicas(*averages: tuple[tf.Tensor, tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Averages over all replicas, each weighted by its count. One collective for all of them, no gradient.

    Args:
        averages: The averages of this replica, as pairs `(count, average)`: tensors of known shapes, of which the
            count broadcasts against the average.

    Returns:
        The same pairs of all replicas together. Where the count is 0, so is the average.
    """
    parts = [part for count, average in averages for part in (count, _sum_of(count, average))]
    packed = tf.concat([tf.reshape(tf.stop_gradient(part), [-1]) for part in parts], 0)
    wholes = tf.split(sum_of_replicas(packed), [part.shape.num_elements() for part in parts])
    parts = [tf.reshape(whole, part.shape) for whole, part in zip(wholes, parts, strict=True)]
    return [(count, tf.math.divide_no_nan(total, count)) for count, total in zip(parts[::2], parts[1::2], strict=True)]


def _sum_of(count, average):
    """The sum that an average comes from; the average of nothing may be NaN."""
    return tf.where(count > 0, count * tf.cast(average, count.dtype), 0)


def _groups_and_own(group_size: int | None) -> tuple[int, int]:
    """The number of groups, and the group of this replica."""
    context = replica_context()
    replicas, replica = context.num_replicas_in_sync, context.replica_id_in_sync_group
    group_size = group_size or replicas
    if replicas % group_size:
        raise ValueError(
            "The number of replicas must be a multiple of `group_size`. "
            f"Received: group_size={group_size}, {replicas} replicas. Choose a divisor, or None for all replicas."
        )
    return replicas // group_size, replica // group_size


def sum_of_replicas(values: tf.Tensor) -> tf.Tensor:
    return replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _local_sums(x, mask, axes):
    count, *of_x = shifted_moments(x, other_axes(x.shape.rank, axes), mask)
    sizes = [x.shape[axis] for axis in axes]
    count = tf.broadcast_to(count, tf.shape(of_x[0]))
    count, pivot, correction, variance = (tf.reshape(tf.cast(each, tf.float64), sizes) for each in (count, *of_x))
    mean = pivot + correction
    return tf.stack([count, count * mean, count * (variance + tf.square(mean))])


def moments_of_sums(sums):
    count, total, squares = tf.unstack(sums)
    mean = tf.math.divide_no_nan(total, count)
    return count, mean, tf.maximum(tf.math.divide_no_nan(squares, count) - tf.square(mean), 0)


def _normalize_by(x, scale, offset, mean, variance, axes, epsilon):
    pivot, *of_x = _in_parts(x, mean, variance, axes, epsilon)
    scale, offset = (broadcastable(each, x.shape.rank, axes) for each in (scale, offset))
    return tf.cast(rescaled(tf.cast(x, pivot.dtype) - pivot, *of_x, scale, offset), x.dtype)


def _local_gradients(x, dy, mask, mean, variance, axes, epsilon):
    reduced = other_axes(x.shape.rank, axes)
    pivot, correction, inverse = _in_parts(x, mean, variance, axes, epsilon)
    x = finite_where_masked(x, mask)
    dtype, sizes = pivot.dtype, [x.shape[axis] for axis in axes]
    doffset = total(lambda dy: tf.cast(dy, dtype), [dy], reduced)
    products = total(lambda x, dy: tf.cast(dy, dtype) * (tf.cast(x, dtype) - pivot), [x, dy], reduced)
    return tf.reshape(doffset, sizes), tf.reshape((products - correction * doffset) * inverse, sizes)


def _input_gradient(x, dy, scale, mask, sums, count, mean, variance, axes, epsilon):
    rank = x.shape.rank
    pivot, correction, inverse = _in_parts(x, mean, variance, axes, epsilon)
    through_mean, through_deviation = (
        broadcastable(tf.math.divide_no_nan(each, tf.cast(count, each.dtype)), rank, axes) for each in tf.unstack(sums)
    )
    slope = inverse * through_deviation
    through_moments = (tf.cast(x, pivot.dtype) - pivot) * slope + (through_mean - correction * slope)
    through_moments = only_where_present(through_moments, mask)
    dx = broadcastable(scale, rank, axes) * inverse * (tf.cast(dy, pivot.dtype) - through_moments)
    return tf.cast(dx, x.dtype)


def _in_parts(x, mean, variance, axes, epsilon):
    """The rounded mean, what the rounding left, and one over the deviation, shaped to broadcast against `x`."""
    dtype = statistics_dtype(x.dtype)
    pivot = tf.cast(mean, dtype)
    correction = tf.cast(mean - tf.cast(pivot, mean.dtype), dtype)
    inverse = tf.cast(tf.math.rsqrt(variance + in_dtype(epsilon, variance.dtype)), dtype)
    return [broadcastable(each, x.shape.rank, axes) for each in (pivot, correction, inverse)]

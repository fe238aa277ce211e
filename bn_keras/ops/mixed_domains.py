r"""A batch with examples of several domains, each normalized by the moments of its own domain.

One pass takes count, mean and variance of each example. Their sums over the examples of a domain are merged in float64,
and over replicas in one packed collective each way, as in `bn_keras.ops.kernels.replicas`. The gradient is the one
there, with sums per domain. The small tensors of a merge have the shape `(batch, domains, channels)`.

Who belongs to a domain is a tensor of bools, `(batch, domains)`, or `(domains,)` for a whole batch.
"""

import tensorflow as tf

from bn_keras.ops.kernels import replicas
from bn_keras.ops.moments import (
    Moments,
    finite_where_masked,
    in_dtype,
    moments_per_channel,
    only_where_present,
    other_axes,
    shifted_moments,
    statistics_dtype,
)
from bn_keras.ops.normalize import rescaled
from bn_keras.ops.settings import Settings
from bn_keras.ops.sums import total


def normalize_mixed(
    x: tf.Tensor, chosen: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    """Normalizes each example by the moments of its domain.

    Args:
        x: The input, `(batch, …, channels, …)`.
        chosen: Who belongs to a domain, `(batch, domains)`.
        scale, offset: The tables γ and β, `(domains, channels)`.
        mask: The number of times that each element counts; `None` counts each once.
        settings: How to normalize.

    Returns:
        `(y, moments)`: the output, and the `Moments` as tables.
    """
    synchronized = settings.synchronized and replicas.replica_context()
    sum_over = replicas.sum_of_replicas if synchronized else tf.identity
    axes, dtype, shape = settings.axes, statistics_dtype(x.dtype), scale.shape
    positions = other_axes(x.shape.rank, (0, *axes))

    def along(values):
        """The rows of a table, against `x`."""
        return along_channels(rows(values, chosen), x, axes)

    @tf.custom_gradient
    def differentiable(x, scale, offset):
        sums = sum_over(sums_of_domains(sums_of_examples(x, mask, positions, shape[1:]), chosen))
        count, mean, variance = moments = replicas.moments_of_sums(sums)
        rounded = tf.cast(mean, dtype)
        pivot, correction = along(rounded), along(tf.cast(mean - tf.cast(rounded, mean.dtype), dtype))
        inverse = along(tf.cast(tf.math.rsqrt(variance + in_dtype(settings.epsilon, variance.dtype)), dtype))
        slope, level = along(scale), along_channels(nan_where_unknown(rows(offset, chosen), chosen), x, axes)
        y = rescaled(tf.cast(x, dtype) - pivot, correction, inverse, slope, level)

        def gradient(dy, *of_the_moments):
            present = finite_where_masked(x, mask)
            dy = tf.cast(dy, dtype)
            centred = tf.cast(present, dtype) - pivot
            sum_of_dy = total(tf.identity, [dy], positions)
            products = total(lambda x, dy: (tf.cast(x, dtype) - pivot) * dy, [present, dy], positions)
            of_examples = tf.stack([sum_of_dy, (products - correction * sum_of_dy) * inverse])
            doffset, dscale = own = tf.unstack(sums_of_domains(tf.reshape(of_examples, [2, -1, *shape[1:]]), chosen))
            averages = tf.math.divide_no_nan(sum_over(tf.stack(own)), tf.cast(count, dtype))
            through_mean, through_deviation = map(along, tf.unstack(averages))
            through = inverse * through_deviation
            through_moments = only_where_present(centred * through + (through_mean - correction * through), mask)
            dx = along(scale) * inverse * (dy - through_moments)
            return tf.cast(dx, x.dtype), dscale, doffset

        return (tf.cast(y, x.dtype), *(tf.cast(each, dtype) for each in moments)), gradient

    y, *moments = differentiable(x, scale, offset)
    return y, moments_per_channel(*moments, shape)


def sums_of_examples(x, mask, positions, sizes):
    """Count, sum and sum of squares of each example in float64, `(3, batch, channels)`."""
    count, pivot, correction, variance = shifted_moments(x, positions, mask)
    count = tf.broadcast_to(count, tf.shape(pivot))
    count, pivot, correction, variance = (tf.cast(each, tf.float64) for each in (count, pivot, correction, variance))
    mean = pivot + correction
    sums = tf.stack([count, count * mean, count * (variance + tf.square(mean))])
    return tf.reshape(sums, [3, -1, *sizes])


def sums_of_domains(values, chosen):
    """Sums over the examples of each domain, `(n, domains, channels)`, of values `(n, batch, channels)`."""
    chosen = chosen[(tf.newaxis, ..., *[tf.newaxis] * (values.shape.rank - 2))]
    return tf.reduce_sum(tf.where(chosen, values[:, :, tf.newaxis], tf.zeros([], values.dtype)), 1)


def members(domain: tf.Tensor, domains: int) -> tf.Tensor:
    """Whether an example belongs to each domain.

    >>> members(tf.constant([1, 0]), 2).numpy().tolist()
    [[False, True], [True, False]]
    """
    return tf.cast(domain, tf.int64)[..., tf.newaxis] == tf.range(domains, dtype=tf.int64)


def rows(table: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """The rows of a table for one domain, or for the domain of each example; zeros for one that is not in the table.

    >>> rows(tf.constant([[1.0], [2.0]]), members(tf.constant([1, 0, 1]), 2)).numpy().tolist()
    [[2.0], [1.0], [2.0]]
    """
    axis = chosen.shape.rank - 1
    chosen = chosen[(..., *[tf.newaxis] * (table.shape.rank - 1))]
    # Not `tf.gather`, whose gradient is sparse, nor a product, which would spread NaN.
    return tf.reduce_sum(tf.where(chosen, table, tf.zeros([], table.dtype)), axis)


def nan_where_unknown(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Rows, with NaN for an example that belongs to no domain."""
    known = tf.reduce_any(chosen, -1)
    known = known[(..., *[tf.newaxis] * (values.shape.rank - known.shape.rank))]
    return tf.where(known, values, tf.constant(float("nan"), values.dtype))


def along_channels(values: tf.Tensor, x: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Rows of examples, shaped to broadcast against `x`."""
    sizes = dict(zip(axes, values.shape[1:], strict=True))
    return tf.reshape(values, [-1, *(sizes.get(i, 1) for i in range(1, x.shape.rank))])

"""Count, mean and variance of a tensor, and the moving averages of them."""

import tensorflow as tf


def other_axes(rank, axes):
    """Every axis but `axes`: those that statistics per channel are taken over."""
    return [i for i in range(rank) if i not in axes]


def broadcastable(values, rank, axes):
    """Values along `axes`, shaped to broadcast against a tensor of that rank."""
    sizes = dict(zip(axes, values.shape, strict=True))
    return tf.reshape(values, [sizes.get(i, 1) for i in range(rank)])


def statistics_dtype(dtype):
    """float64 for float64, else float32: half precision is too coarse to average in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def element_count(x, axes, dtype):
    """The number of elements of `x` along `axes`, a scalar of `dtype`."""
    sizes = [x.shape[i] for i in axes]
    if None not in sizes:
        return tf.constant(tf.TensorShape(sizes).num_elements(), dtype)
    return tf.cast(tf.reduce_prod(tf.gather(tf.shape(x, tf.int64), axes)), dtype)


def refuse_single_values(shape, axes):
    """A `ValueError` if it is known that there is one value per channel: it is its own mean, and nothing is left."""
    reduced = [shape[i] for i in other_axes(shape.rank, axes)]
    if None not in reduced and tf.TensorShape(reduced).num_elements() == 1:
        raise ValueError(
            "Training needs more than one value per channel, as a single one is its own mean. "
            f"Received: an input of shape {shape} with the channels at {tuple(axes)}. "
            "Use a larger batch, training=False, or a normalization within each example such as LayerNorm."
        )


def moments(x, axes, weights=None, centered=True):
    r"""Count, mean and biased variance of `x` over `axes`.

    $$ n = \sum_i w_i \qquad \mu = \frac1n \sum_i w_i x_i
       \qquad \sigma^2 = \frac1n \sum_i w_i (x_i - \mu)^2 $$

    The mean is taken twice: a first sum of n values of size |μ| is off by a rounding that
    grows with n and |μ|; the mean of the values centred by it, which would be 0, is what it is
    off by. The variance is that of the centred values, as the shorter $E[x^2] - E[x]^2$ cancels
    when the mean is large against the deviation.

    Shapes: `x` is `(batch, …)`; `weights` broadcasts against it; mean and variance have
    the rank of `x` and size 1 along `axes`; the count is a scalar without weights and
    shaped like the mean with them. Dtypes: those of `x`, float32 or float64.

    Args:
        x: A float32 or float64 tensor.
        axes: The axes to reduce, a list of non-negative ints.
        weights: The weight of each element, non-negative; `None` counts each once.
        centered: If false, 0 stands for the mean, and the variance is the mean square.

    Returns:
        `(count, mean, variance)`. Where the count is 0, so are mean and variance.

    Source: Ioffe and Szegedy 2015, Algorithm 1, lines 1 and 2.

    Example:

    >>> x = tf.constant([[1.0, 10.0], [3.0, 30.0]])
    >>> count, mean, variance = moments(x, axes=[0])
    >>> int(count), mean.numpy().tolist(), variance.numpy().tolist()
    (2, [[2.0, 20.0]], [[1.0, 100.0]])
    """
    count, pivot, correction, variance, _ = shifted_moments(x, axes, weights, centered)
    return count, pivot + correction, variance


def shifted_moments(x, axes, weights=None, centered=True):
    """`moments` before they are rounded: the mean in two parts, and the values less the first of them.

    Returns:
        `(count, pivot, correction, variance, centred)`: the mean is `pivot + correction`, and `centred` is
        `x − pivot`. A mean of 10⁴ deviations, rounded to float32, is off by 5·10⁻⁴ of one; its parts are not.
    """
    if weights is None:
        count = element_count(x, axes, x.dtype)
    else:
        # A weight of size 1 along a reduced axis stands for every element along it.
        repeats = tf.math.divide_no_nan(element_count(x, axes, x.dtype), element_count(weights, axes, x.dtype))
        count = repeats * tf.reduce_sum(weights, axes, keepdims=True)

    def average(values):
        values = values if weights is None else weights * values
        return tf.math.divide_no_nan(tf.reduce_sum(values, axes, keepdims=True), count)

    if not centered:
        mean_square = average(tf.square(x))
        return count, tf.zeros_like(mean_square), tf.zeros_like(mean_square), mean_square, x
    pivot = average(x)
    centred = x - pivot
    correction = average(centred)
    # Of a constant channel both terms are roundings, and the difference may be negative.
    variance = tf.maximum(average(tf.square(centred)) - tf.square(correction), 0)
    return count, pivot, correction, variance, centred


def unbiased_variance(variance, count):
    r"""Bessel's correction, $\frac{n}{n-1}\sigma^2$; one element is left as it is.

    >>> float(unbiased_variance(tf.constant(3.0), tf.constant(4.0)))
    4.0
    """
    return variance * (count / tf.maximum(count - 1, 1))


def moving_average(average, value, momentum, count):
    """`momentum · average + (1 − momentum) · value`; an empty batch changes nothing.

    >>> float(moving_average(tf.constant(0.0), tf.constant(10.0), 0.9, count=tf.constant(8.0)))
    1.0
    >>> float(moving_average(tf.constant(5.0), tf.constant(float("nan")), 0.9, count=tf.constant(0.0)))
    5.0
    """
    value = tf.cast(value, average.dtype)
    return tf.where(count > 0, average * momentum + value * (1 - momentum), average)


def momentum_at(steps, momentum, count):
    r"""The momentum of the next batch after `steps`, and the steps after it.

    Without a momentum it is t/(t+1), which makes the moving average that of all batches. With one,
    and steps to count, it is $\alpha (1-\alpha^t)/(1-\alpha^{t+1})$, which makes it the exponential
    average without what its first value has left in it. An empty batch is no step.

    >>> [round(float(momentum_at(tf.constant(t), None, tf.constant(1.0))[0]), 2) for t in (0.0, 1.0, 2.0)]
    [0.0, 0.5, 0.67]
    >>> [round(float(momentum_at(tf.constant(t), 0.9, tf.constant(1.0))[0]), 2) for t in (0.0, 1.0, 100.0)]
    [0.0, 0.47, 0.9]
    """
    if steps is None:
        return momentum, None
    if momentum is None:
        corrected = steps / (steps + 1)
    elif momentum == 1:
        corrected = momentum
    else:
        corrected = momentum * (1 - momentum**steps) / (1 - momentum ** (steps + 1))
    return corrected, steps + tf.cast(tf.reduce_any(count > 0), steps.dtype)


def over_groups(count, mean, variance):
    """The averages over groups, the first axis, each weighted by its count; and the whole count.

    >>> count, mean, variance = over_groups(*map(tf.constant, ([[3.0], [1.0]], [[2.0], [6.0]], [[1.0], [5.0]])))
    >>> float(count[0]), float(mean[0]), float(variance[0])
    (4.0, 3.0, 2.0)
    """
    whole = tf.reduce_sum(count, 0)
    return whole, *(tf.math.divide_no_nan(tf.reduce_sum(count * values, 0), whole) for values in (mean, variance))

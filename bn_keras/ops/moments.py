"""Count, mean and variance of a tensor, and the moving averages of them."""

import collections.abc
import dataclasses

import tensorflow as tf

from bn_keras.ops.compiler import in_xla_context
from bn_keras.ops.sums import first_part, total


@dataclasses.dataclass(frozen=True)
class Moments:
    """The moments of each channel, which carry no gradient; each `(channels,)`.

    Attributes:
        count: The number of elements.
        mean, variance: The mean and the biased variance.
        unbiased: The unbiased variance.
    """

    count: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor
    unbiased: tf.Tensor


def moments_per_channel(count: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, sizes: list[int]) -> Moments:
    """`Moments` of that shape, from moments of any shape that has as many elements; the count may be a scalar."""
    count = tf.broadcast_to(count, tf.shape(mean)) if count.shape.rank else tf.fill(sizes, count)
    count, mean, variance = (tf.reshape(tf.stop_gradient(each), sizes) for each in (count, mean, variance))
    return Moments(count, mean, variance, unbiased_variance(variance, count))


def moments_over_groups(count: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> Moments:
    """The averages over groups, the first axis, each weighted by its count; and the whole count.

    >>> moments = moments_over_groups(*map(tf.constant, ([[3.0], [1.0]], [[2.0], [6.0]], [[1.0], [5.0]])))
    >>> [float(each[0]) for each in (moments.count, moments.mean, moments.variance, moments.unbiased)]
    [4.0, 3.0, 2.0, 2.375]
    """
    count, mean, variance = map(tf.stop_gradient, (count, mean, variance))
    whole = tf.reduce_sum(count, 0)
    values = mean, variance, unbiased_variance(variance, count)
    return Moments(whole, *(tf.math.divide_no_nan(tf.reduce_sum(count * each, 0), whole) for each in values))


def other_axes(rank: int, axes: collections.abc.Collection[int]) -> list[int]:
    """Every axis but `axes`: those that statistics per channel are taken over."""
    return [i for i in range(rank) if i not in axes]


def broadcastable(values: tf.Tensor, rank: int, axes: tuple[int, ...]) -> tf.Tensor:
    """Values along `axes`, shaped to broadcast against a tensor of that rank."""
    sizes = dict(zip(axes, values.shape, strict=True))
    return tf.reshape(values, [sizes.get(i, 1) for i in range(rank)])


def statistics_dtype(dtype: tf.DType) -> tf.DType:
    """float64 for float64, else float32: half precision is too coarse to average in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def in_dtype(number: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A number of the settings in a dtype. `tf.cast` alone would round a Python float to float32 first.

    >>> float(in_dtype(0.1, tf.float64))
    0.1
    """
    return tf.cast(number, dtype) if isinstance(number, tf.Tensor) else tf.constant(number, dtype)


def element_count(x: tf.Tensor, axes: list[int], dtype: tf.DType) -> tf.Tensor:
    """The number of elements of `x` along `axes`, a scalar of `dtype`."""
    sizes = [x.shape[i] for i in axes]
    if None not in sizes:
        return tf.constant(tf.TensorShape(sizes).num_elements(), dtype)
    return tf.cast(tf.reduce_prod(tf.gather(tf.shape(x, tf.int64), axes)), dtype)


def refuse_single_values(shape: tf.TensorShape, axes: tuple[int, ...]) -> None:
    """A `ValueError` if it is known that there is one value per channel: it is its own mean, and nothing is left."""
    reduced = [shape[i] for i in other_axes(shape.rank, axes)]
    if None not in reduced and tf.TensorShape(reduced).num_elements() == 1:
        raise ValueError(
            "Training needs more than one value per channel, as a single one is its own mean. "
            f"Received: an input of shape {shape} with the channels at {tuple(axes)}. "
            "Use a larger batch, training=False, or a normalization within each example such as LayerNorm."
        )


def moments(x: tf.Tensor, axes: list[int], mask: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    r"""Count, mean and biased variance of `x` over `axes`.

    $$ n = \sum_i w_i \qquad \mu = \frac1n \sum_i w_i x_i
       \qquad \sigma^2 = \frac1n \sum_i w_i (x_i - \mu)^2 $$

    with the weights w of a mask, or 1. The sums are of the values less a pivot near their mean, as the shorter
    $E[x^2] - E[x]^2$ cancels when the mean is large against the deviation: see `shifted_moments`.

    Shapes: `x` is `(batch, …)`; `mask` has its rank and broadcasts against it; mean and variance have the rank of `x`
    and size 1 along `axes`; the count is a scalar without a mask and shaped like the mean with one. Dtypes: `x` any
    float, `mask` any, all else float32 (float64 for float64 input).

    Args:
        x: The values.
        axes: The axes to reduce, a list of non-negative ints.
        mask: The number of times that each element counts, ≥ 0; `None` counts each once.

    Returns:
        `(count, mean, variance)`. Where the count is 0, so are mean and variance.

    Source: Ioffe and Szegedy 2015, Algorithm 1, lines 1 and 2.

    Example:

    >>> x = tf.constant([[1.0, 10.0], [3.0, 30.0]])
    >>> count, mean, variance = moments(x, axes=[0])
    >>> int(count), mean.numpy().tolist(), variance.numpy().tolist()
    (2, [[2.0, 20.0]], [[1.0, 100.0]])
    """
    count, pivot, correction, variance = shifted_moments(x, axes, mask)
    return count, pivot + correction, variance


def shifted_moments(
    x: tf.Tensor,
    axes: collections.abc.Sequence[int],
    mask: tf.Tensor | None = None,
    centered: bool = True,
    groups: tuple[int, int] | None = None,
    padded: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    r"""`moments` before they are rounded: the mean is a pivot and a correction, which is small against it.

    $$ \delta = \frac1n \sum_i w_i (x_i - k) \qquad \sigma^2 = \frac1n \sum_i w_i (x_i - k)^2 - \delta^2 $$

    The pivot k is the mean. Under XLA, where passes are what costs, it is the mean of about an eighth of the elements:
    at most √8 deviations from the mean of all, whatever the values, so that the difference loses at most a factor of 9
    in precision. With a mask the pivot is always the mean, as masked elements may have any value.

    Args:
        x, axes, mask: As in `moments`.
        centered: Whether the mean is taken off. Otherwise 0 stands for the mean, and the variance is the mean square.
        groups: `(axis, number)` if the channels along an axis share their moments in so many groups.
        padded: Whether all masked elements are known to be 0.

    Returns:
        `(count, pivot, correction, variance)`: the mean is `pivot + correction`. A mean of 10⁴ deviations, rounded to
        float32, is off by 5·10⁻⁴ of one; its parts are not.
    """
    dtype = statistics_dtype(x.dtype)
    if mask is not None:
        mask = tf.cast(mask, dtype)
        x = x if padded else tf.where(mask > 0, x, tf.zeros([], x.dtype))  # 0 · NaN would be NaN
    count = counted(x, axes, mask, groups)

    def average(function, x=x, count=count):
        if mask is None:
            summed = total(lambda x: function(tf.cast(x, dtype)), [x], axes)
        else:
            summed = tf.reduce_sum(mask * function(tf.cast(x, dtype)), axes, keepdims=True)
        return tf.math.divide_no_nan(merged(summed, groups), count)

    if not centered:
        mean_square = average(tf.square)
        return count, tf.zeros_like(mean_square), tf.zeros_like(mean_square), mean_square
    if mask is None and in_xla_context():
        part = first_part(x, axes)
        pivot = average(tf.identity, part, counted(part, axes, None, groups))
    else:
        pivot = average(tf.identity)
    correction = average(lambda x: x - pivot)
    # Of a constant channel both terms are roundings, and the difference may be negative.
    variance = tf.maximum(average(lambda x: tf.square(x - pivot)) - tf.square(correction), 0)
    return count, pivot, correction, variance


def finite_where_masked(x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`x` with 0 for masked elements that are not finite.

    Gradients sum over masked elements too, as these have outputs. A loss without them hands back 0, and 0 · NaN would
    be NaN.

    >>> x = tf.constant([[float("nan"), 1.0], [float("nan"), 1.0]])
    >>> finite_where_masked(x, mask=tf.constant([[True], [False]])).numpy().tolist()
    [[nan, 1.0], [0.0, 1.0]]
    """
    if mask is None:
        return x
    return tf.where(tf.cast(mask, tf.bool) | tf.math.is_finite(x), x, tf.zeros([], x.dtype))


def only_where_present(x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`x` times the weights of a mask, and 0 where they are 0, whatever `x` is there."""
    if mask is None:
        return x
    weighted = x if mask.dtype == tf.bool else tf.cast(mask, x.dtype) * x
    return tf.where(tf.cast(mask, tf.bool), weighted, tf.zeros([], x.dtype))


def counted(
    x: tf.Tensor,
    axes: collections.abc.Sequence[int],
    mask: tf.Tensor | None,
    groups: tuple[int, int] | None,
) -> tf.Tensor:
    """The count of the moments: a scalar, or with a mask of the shape that the moments have."""
    dtype = statistics_dtype(x.dtype)
    count = element_count(x, axes, dtype)
    if groups is not None:
        axis, number = groups
        count *= x.shape[axis] // number
    if mask is None:
        return count
    # A mask of size 1 along a reduced axis stands for every element along it.
    repeats = tf.math.divide_no_nan(count, element_count(mask, axes, dtype))
    return repeats * tf.reduce_sum(mask, axes, keepdims=True)


def merged(sums: tf.Tensor, groups: tuple[int, int] | None) -> tf.Tensor:
    """The sum over the channels of each group, for each of its channels; all axes between them have size 1."""
    if groups is None:
        return sums
    axis, number = groups
    size = sums.shape[axis] // number
    before, after = [-1] + [1] * (axis - 1), [1] * (sums.shape.rank - 1 - axis)
    in_groups = tf.reshape(sums, [*before, number, size, *after])
    whole = tf.reduce_sum(in_groups, axis + 1, keepdims=True)
    ones = tf.ones([size] + [1] * len(after), sums.dtype)
    return tf.reshape(whole * ones, [*before, number * size, *after])


def unbiased_variance(variance: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    r"""Bessel's correction, $\frac{n}{n-1}\sigma^2$; one element is left as it is.

    >>> float(unbiased_variance(tf.constant(3.0), tf.constant(4.0)))
    4.0
    """
    return variance * (count / tf.maximum(count - 1, 1))


def moving_average(average: tf.Tensor, value: tf.Tensor, momentum: float | tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """`momentum · average + (1 − momentum) · value`; an empty batch changes nothing.

    >>> float(moving_average(tf.constant(0.0), tf.constant(10.0), 0.75, count=tf.constant(8.0)))
    2.5
    >>> float(moving_average(tf.constant(5.0), tf.constant(float("nan")), 0.9, count=tf.constant(0.0)))
    5.0
    """
    value, momentum = tf.cast(value, average.dtype), in_dtype(momentum, average.dtype)
    return tf.where(count > 0, average * momentum + value * (1 - momentum), average)


def momentum_at(
    steps: tf.Tensor | None, momentum: float | tf.Tensor | None, count: tf.Tensor
) -> tuple[float | tf.Tensor, tf.Tensor | None]:
    r"""The momentum of the next batch after `steps`, and the steps after it.

    Without a momentum it is t/(t+1), which makes the moving average that of all batches. With one,
    and steps to count, it is $\alpha (1-\alpha^t)/(1-\alpha^{t+1})$, which makes it the exponential
    average without what its first value has left in it. An empty batch is no step. With steps per domain, the momentum
    broadcasts against the count `(domains, channels)`.

    >>> [round(float(momentum_at(tf.constant(t), None, tf.constant(1.0))[0]), 2) for t in (0.0, 1.0, 2.0)]
    [0.0, 0.5, 0.67]
    >>> [round(float(momentum_at(tf.constant(t), 0.9, tf.constant(1.0))[0]), 2) for t in (0.0, 1.0, 100.0)]
    [0.0, 0.47, 0.9]
    """
    if steps is None:
        return momentum, None
    if momentum is None:
        corrected = steps / (steps + 1)
    else:
        momentum = in_dtype(momentum, steps.dtype)
        corrected = momentum * (1 - momentum**steps) / (1 - momentum ** (steps + 1))
        corrected = tf.where(momentum < 1, corrected, momentum)
    apart = list(range(steps.shape.rank, count.shape.rank))
    after = steps + tf.cast(tf.reduce_any(count > 0, apart), steps.dtype)
    return corrected[(..., *[tf.newaxis] * len(apart))] if steps.shape.rank else corrected, after

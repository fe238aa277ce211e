r"""The normalization that all layers share: moments over some axes, a scale and an offset.

$$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad y = \gamma \hat x + \beta $$

μ and σ² (biased) are taken over `axes`, γ and β broadcast against x. Batch norm reduces all axes but
those of the channels, layer norm those of the features, and γ has the size of the other or the same.
The gradient, with $g = \gamma \, \partial l / \partial y$, sums over `axes` and $m$ elements in each:

$$ \frac{\partial l}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
   \left( g - \frac1m \sum g - \frac{\hat x}{m} \sum g \hat x \right) $$

With the weights $w$ of a mask, $m = \sum w$, the moments are weighted and the two sums multiplied by $w$: every
element is normalized, and those of weight 0 have no part in the statistics.
"""

import collections.abc
import dataclasses

import tensorflow as tf

from bn_keras.ops.moments import (
    finite_where_masked,
    merged,
    only_where_present,
    shifted_moments,
    statistics_dtype,
)
from bn_keras.ops.sums import total
from bn_keras.ops.traces import run_by_xla


@dataclasses.dataclass(frozen=True)
class Passes:
    """What the passes over `x` compute.

    Attributes:
        axes: The axes that are reduced.
        epsilon: The number added to the variance.
        centered: Whether the mean is taken off. If not, it stands as 0 in every equation above, and σ² is the mean
            square.
        groups: `(axis, number)` if the channels along an axis share their moments in so many groups.
        relu: Whether the output is `max(y, 0)`, for γ that is the same for all elements of a sum.
        padded: Whether all masked elements are zeros that fill up a batch, so that none can be NaN.
    """

    axes: tuple[int, ...]
    epsilon: float | tf.Tensor
    centered: bool = True
    groups: tuple[int, int] | None = None
    relu: bool = False
    padded: bool = False


def normalize_over(
    x: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    passes: Passes,
    mask: tf.Tensor | None = None,
    by_xla: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by single ops: any float dtype, any axes, any mask, any compiler.

    Shapes: `x` `(batch, …)`; `scale`, `offset` and `mask` have its rank and broadcast against it; the moments have
    its rank and size 1 along the reduced axes. Dtypes: `x` any float, `mask` any, all else float32 (float64 for
    float64 input).

    Args:
        x: The input.
        scale, offset: γ and β.
        passes: What is computed.
        mask: The number of times that each element counts in the moments; `None` counts each once.
        by_xla: Whether XLA compiles the forward pass and the backward pass, each by itself.

    Returns:
        `(y, count, mean, variance)`: the output, of the dtype of `x`, and the moments, whose gradient is 0.

    Example:

    >>> y, count, mean, variance = normalize_over(
    ...     tf.constant([[1.0, 3.0]]), tf.ones([1, 1]), tf.zeros([1, 1]), Passes(axes=(1,), epsilon=0.0))
    >>> y.numpy().tolist(), float(count), mean.numpy().tolist(), variance.numpy().tolist()
    ([[-1.0, 1.0]], 2.0, [[2.0]], [[1.0]])
    """
    last = trailing(x.shape, passes.axes) if mask is None else 1
    if last > 1:
        flat = [flattened(each, last) for each in (x, scale, offset)]
        axes = tuple(axis for axis in passes.axes if axis <= x.shape.rank - last)
        y, count, *moments = normalize_over(*flat, dataclasses.replace(passes, axes=axes), by_xla=by_xla)
        y = tf.reshape(y, tf.shape(x))
        y.set_shape(x.shape)
        return y, count, *(each[(..., *[tf.newaxis] * (last - 1))] for each in moments)

    @tf.custom_gradient
    def differentiable(x, scale, offset):
        batch = x, scale, offset, mask, passes
        y, *moments = run_by_xla(_forward, batch) if by_xla else _forward(*batch)
        count, pivot, correction, variance = moments

        def gradient(dy, *of_the_moments):
            batch = x, dy, scale, offset, mask, *moments, passes
            return run_by_xla(_backward, batch) if by_xla else _backward(*batch)

        return (y, count, pivot + correction, variance), gradient

    return differentiable(x, scale, offset)


def _forward(x, scale, offset, mask, passes):
    moments = shifted_moments(x, passes.axes, mask, passes.centered, passes.groups, passes.padded)
    _, pivot, correction, variance = moments
    values = tf.cast(x, pivot.dtype)
    inverse = tf.math.rsqrt(variance + passes.epsilon)
    y = rescaled(values - pivot if passes.centered else values, correction, inverse, scale, offset)
    return tf.cast(tf.nn.relu(y) if passes.relu else y, x.dtype), *moments


def _backward(x, dy, scale, offset, mask, count, pivot, correction, variance, passes):
    dtype, inverse = pivot.dtype, tf.math.rsqrt(variance + passes.epsilon)
    x = x if passes.padded else finite_where_masked(x, mask)
    spread = [i for i in range(x.shape.rank) if scale.shape[i] == 1]

    def centred(x, pivot):
        return tf.cast(x, dtype) - pivot if passes.centered else tf.cast(x, dtype)

    def passed(x, dy):
        """The gradient masked by the ReLU. The sign is recomputed from x, which costs less than to keep it."""
        dy = tf.cast(dy, dtype)
        if not passes.relu:
            return dy
        return tf.where(rescaled(centred(x, pivot), correction, inverse, scale, offset) > 0, dy, 0)

    def of_sums(sum_of_dy, sum_of_products):
        """The sum of dy x̂, from that of dy and that of dy (x − pivot)."""
        return (sum_of_products - correction * sum_of_dy) * inverse

    if set(passes.axes) <= set(spread):  # γ is the same for all elements of a sum, and can wait
        sum_of_dy = total(passed, [x, dy], passes.axes)
        sum_of_products = total(lambda x, dy: passed(x, dy) * centred(x, pivot), [x, dy], passes.axes)
        sums = sum_of_dy, of_sums(sum_of_dy, sum_of_products)
        rest = [i for i in spread if i not in passes.axes]
        doffset, dscale = (tf.reduce_sum(each, rest, keepdims=True) for each in sums)
        through_mean, through_deviation = (merged(scale * each, passes.groups) for each in sums)
    else:
        doffset = total(lambda dy: tf.cast(dy, dtype), [dy], spread)
        parts = [x, dy, pivot, correction, inverse]
        dscale = total(lambda x, dy, p, c, s: tf.cast(dy, dtype) * ((centred(x, p) - c) * s), parts, spread)
        through_mean = total(lambda dy, scale: tf.cast(dy, dtype) * scale, [dy, scale], passes.axes)
        parts = [x, dy, scale]
        products = total(lambda x, dy, scale: tf.cast(dy, dtype) * scale * centred(x, pivot), parts, passes.axes)
        through_deviation = of_sums(through_mean, products)
    slope = tf.math.divide_no_nan(through_deviation, count) * tf.square(inverse)
    level = tf.math.divide_no_nan(through_mean, count) * inverse - correction * slope if passes.centered else 0
    through_moments = centred(x, pivot) * slope + level
    through_moments = mask * through_moments if passes.padded else only_where_present(through_moments, mask)
    dx = passed(x, dy) * (scale * inverse) - through_moments
    return tf.cast(dx, x.dtype), dscale, doffset


def rescaled(
    centred: tf.Tensor, correction: tf.Tensor, inverse: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor
) -> tf.Tensor:
    """γ (centred − correction) · inverse + β, with as few passes over the input as the shapes allow."""
    if any(a == b == 1 for a, b in zip(scale.shape, inverse.shape, strict=True)):  # their product is small
        slope = scale * inverse
        return centred * slope + (offset - correction * slope)
    return (centred * inverse - correction * inverse) * scale + offset


def trailing(shape: tf.TensorShape, axes: collections.abc.Sequence[int]) -> int:
    """How many of the last axes are reduced and of known sizes."""
    rank = shape.rank
    last = 0
    while last < rank and rank - 1 - last in axes and shape[rank - 1 - last] is not None:
        last += 1
    return last


def flattened(x: tf.Tensor, last: int) -> tf.Tensor:
    """`x` with its last axes, whose sizes are known, as one."""
    first, size = x.shape[:-last].as_list(), x.shape[-last:].num_elements()
    if first.count(None) > 1:
        first = tf.unstack(tf.shape(x))[:-last]
    return tf.reshape(x, [*(-1 if each is None else each for each in first), size])


def scale_and_offset(
    scale: tf.Tensor | None, offset: tf.Tensor | None, x: tf.Tensor, axes: tuple[int, ...]
) -> tuple[tf.Tensor, tf.Tensor]:
    """γ and β of the sizes of `x` along `axes`, in the dtype of its moments; `None` stands for 1 and 0."""
    dtype = statistics_dtype(x.dtype)
    sizes = [x.shape[axis] for axis in axes]
    scale = tf.ones(sizes, dtype) if scale is None else tf.cast(scale, dtype)
    offset = tf.zeros(sizes, dtype) if offset is None else tf.cast(offset, dtype)
    return scale, offset

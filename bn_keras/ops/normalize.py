r"""The one normalization that all layers are: moments over some axes, a scale and an offset.

$$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad y = \gamma \hat x + \beta $$

μ and σ² (biased) are taken over `axes`, γ and β broadcast against x. Batch norm reduces all axes but
those of the channels, layer norm those of the features, and γ has the size of the other or the same.
The gradient, with $g = \gamma \, \partial l / \partial y$, sums over `axes` and $m$ elements in each:

$$ \frac{\partial l}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
   \left( g - \frac1m \sum g - \frac{\hat x}{m} \sum g \hat x \right) $$

With weights $w$ (a mask), $m = \sum w$, the moments are weighted and the two sums multiplied by $w$:
every element is normalized, those of weight 0 have no part in the statistics.
"""

import tensorflow as tf

from bn_keras.ops.compiler import compiled
from bn_keras.ops.moments import merged, shifted_moments, statistics_dtype
from bn_keras.ops.sums import total


def normalize(x, gamma, beta, axes, epsilon, weights=None, *, centered=True, groups=None, relu=False, xla=False):
    """Plain TensorFlow: any float dtype, any axes, any weights, any compiler.

    Shapes: `x` `(batch, …)`; `gamma`, `beta` and `weights` have its rank and broadcast against it;
    the moments have its rank and size 1 along `axes`. Dtypes: `x` any float, all else float32
    (float64 for float64 input).

    Args:
        x: The input.
        gamma, beta: Scale and offset.
        axes: The axes that are reduced, non-negative ints.
        epsilon: Added to the variance.
        weights: The weight of each element in the moments; `None` counts each once.
        centered: Whether the mean is taken off. If not, it stands as 0 in every equation above, and
            σ² is the mean square.
        groups: `(axis, number)` if the channels along an axis share their moments in so many groups.
        relu: Whether `max(y, 0)` is returned; for γ that is the same for all elements of a sum.
        xla: Whether the forward pass, and the backward pass, are each compiled by XLA.

    Returns:
        `(y, count, mean, variance)`: the output, of the dtype of `x`, and what it was normalized
        by, whose gradient is 0.

    Example:

    >>> y, count, mean, variance = normalize(
    ...     tf.constant([[1.0, 3.0]]), tf.ones([1, 1]), tf.zeros([1, 1]), axes=[1], epsilon=0.0)
    >>> y.numpy().tolist(), float(count), mean.numpy().tolist(), variance.numpy().tolist()
    ([[-1.0, 1.0]], 2.0, [[2.0]], [[1.0]])
    """
    last = trailing(x.shape, axes) if weights is None else 1
    if last > 1:
        flat = [flattened(each, last) for each in (x, gamma, beta)]
        first = [axis for axis in axes if axis <= x.shape.rank - last]
        y, count, *moments = normalize(*flat, first, epsilon, centered=centered, groups=groups, relu=relu, xla=xla)
        y = tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)
        return y, count, *(each[(..., *[tf.newaxis] * (last - 1))] for each in moments)

    settings = {"axes": tuple(axes), "epsilon": epsilon, "centered": centered, "groups": groups, "relu": relu}
    if weights is not None:
        weights = tf.cast(weights, statistics_dtype(x.dtype))
    run_forward, run_backward = (_forward_by_xla, _backward_by_xla) if xla else (_forward, _backward)

    @tf.custom_gradient
    def differentiable(x, gamma, beta):
        y, *moments = run_forward(x, gamma, beta, weights, **settings)
        count, pivot, correction, variance = moments

        def gradient(dy, *of_the_moments):
            return run_backward(x, dy, gamma, beta, weights, *moments, **settings)

        return (y, count, pivot + correction, variance), gradient

    return differentiable(x, gamma, beta)


def _forward(x, gamma, beta, weights, *, axes, epsilon, centered, groups, relu):
    count, pivot, correction, variance = shifted_moments(x, axes, weights, centered, groups)
    values = tf.cast(x, pivot.dtype)
    y = affine(values - pivot if centered else values, correction, tf.math.rsqrt(variance + epsilon), gamma, beta)
    return tf.cast(tf.nn.relu(y) if relu else y, x.dtype), count, pivot, correction, variance


def _backward(
    x, dy, gamma, beta, weights, count, pivot, correction, variance, *, axes, epsilon, centered, groups, relu
):
    dtype, inverse = pivot.dtype, tf.math.rsqrt(variance + epsilon)
    spread = [i for i in range(x.shape.rank) if gamma.shape[i] == 1]

    def centred(x, pivot):
        return tf.cast(x, dtype) - pivot if centered else tf.cast(x, dtype)

    def passed(x, dy):
        """What of dy has come through the activation, which is found again rather than kept."""
        dy = tf.cast(dy, dtype)
        return tf.where(affine(centred(x, pivot), correction, inverse, gamma, beta) > 0, dy, 0) if relu else dy

    def of_sums(sum_of_dy, sum_of_products):
        """The sum of dy x̂, from that of dy and that of dy (x − pivot)."""
        return (sum_of_products - correction * sum_of_dy) * inverse

    if set(axes) <= set(spread):  # γ is the same for all elements of a sum, and can wait
        sum_of_dy = total(passed, [x, dy], axes)
        sum_of_products = total(lambda x, dy: passed(x, dy) * centred(x, pivot), [x, dy], axes)
        sums = sum_of_dy, of_sums(sum_of_dy, sum_of_products)
        rest = [i for i in spread if i not in axes]
        dbeta, dgamma = (tf.reduce_sum(each, rest, keepdims=True) for each in sums)
        through_mean, through_deviation = (merged(gamma * each, groups) for each in sums)
    else:
        dbeta = total(lambda dy: tf.cast(dy, dtype), [dy], spread)
        parts = [x, dy, pivot, correction, inverse]
        dgamma = total(lambda x, dy, p, c, s: tf.cast(dy, dtype) * ((centred(x, p) - c) * s), parts, spread)
        through_mean = total(lambda dy, gamma: tf.cast(dy, dtype) * gamma, [dy, gamma], axes)
        parts = [x, dy, gamma]
        products = total(lambda x, dy, gamma: tf.cast(dy, dtype) * gamma * centred(x, pivot), parts, axes)
        through_deviation = of_sums(through_mean, products)
    slope = tf.math.divide_no_nan(through_deviation, count) * tf.square(inverse)
    offset = tf.math.divide_no_nan(through_mean, count) * inverse - correction * slope if centered else 0
    through_moments = centred(x, pivot) * slope + offset
    if weights is not None:
        through_moments *= weights
    dx = passed(x, dy) * (gamma * inverse) - through_moments
    return tf.cast(dx, x.dtype), dgamma, dbeta


_forward_by_xla, _backward_by_xla = (compiled(branch, jit_compile=True) for branch in (_forward, _backward))


def affine(centred, correction, inverse, gamma, beta):
    """γ (centred − correction) · inverse + β, with as few passes over the input as the shapes allow."""
    if any(a == b == 1 for a, b in zip(gamma.shape, inverse.shape, strict=True)):  # the scale is small
        scale = gamma * inverse
        return centred * scale + (beta - correction * scale)
    return (centred * inverse - correction * inverse) * gamma + beta


def trailing(shape, axes):
    """How many of the last axes are reduced and of known sizes."""
    rank = shape.rank
    last = 0
    while last < rank and rank - 1 - last in axes and shape[rank - 1 - last] is not None:
        last += 1
    return last


def flattened(x, last):
    """`x` with its last axes, whose sizes are known, as one."""
    first, size = x.shape[:-last].as_list(), x.shape[-last:].num_elements()
    if first.count(None) > 1:
        first = tf.unstack(tf.shape(x))[:-last]
    return tf.reshape(x, [*(-1 if each is None else each for each in first), size])


def scale_and_offset(gamma, beta, x, axes):
    """γ and β of the sizes of `x` along `axes`, in the dtype of its moments; `None` stands for 1 and 0."""
    dtype = statistics_dtype(x.dtype)
    sizes = [x.shape[axis] for axis in axes]
    gamma = tf.ones(sizes, dtype) if gamma is None else tf.cast(gamma, dtype)
    beta = tf.zeros(sizes, dtype) if beta is None else tf.cast(beta, dtype)
    return gamma, beta

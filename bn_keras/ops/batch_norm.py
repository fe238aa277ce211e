r"""Batch normalization: the compiled training and inference branches, and their gradient.

Per channel, over the $m$ elements of the mini-batch that belong to it,

$$ \mu = \frac1m \sum_i x_i \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2 \qquad
   \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad
   y_i = \gamma \hat x_i + \beta $$

The ε is added to the variance, inside the root. A batch is normalized by its *biased*
variance (1/m). What the moving variance averages is the *unbiased* one, m/(m−1) σ², as
Algorithm 2 of the paper asks, unless `unbiased=False`.

The gradient, with the same symbols:

$$ \frac{\partial l}{\partial \beta} = \sum_i \frac{\partial l}{\partial y_i} \qquad
   \frac{\partial l}{\partial \gamma} = \sum_i \frac{\partial l}{\partial y_i} \hat x_i \qquad
   \frac{\partial l}{\partial x_i} = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
   \left( \frac{\partial l}{\partial y_i} - \frac1m \frac{\partial l}{\partial \beta}
   - \frac{\hat x_i}{m} \frac{\partial l}{\partial \gamma} \right) $$

With weights $w_i$ (a mask), $m = \sum_i w_i$, the moments are weighted and the two terms
divided by $m$ are multiplied by $w_i$: every element is normalized, those of weight 0
have no part in the statistics.

Source: Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift", https://arxiv.org/abs/1502.03167, section 3.
"""

import math

import tensorflow as tf

from bn_keras.ops.compiler import compiled, in_xla_context
from bn_keras.ops.moments import (
    broadcastable,
    element_count,
    moments,
    moving_average,
    reduction_axes,
    statistics_dtype,
    unbiased_variance,
)

# Below this size the several small ops of the composed path cost less than one launch of
# TensorFlow's fused kernel and its reshapes: `make bench` shows where the two cross.
FUSED_FROM_ELEMENTS = 2**16
ASSUMED_BATCH = 32


def batch_norm_training(
    x,
    gamma,
    beta,
    moving_mean,
    moving_variance,
    *,
    axis,
    momentum,
    epsilon,
    unbiased=True,
    weights=None,
):
    r"""Normalize `x` by its own moments; see the module's text for the equations.

    Shapes: `x` is `(batch, …, channels, …)` of rank ≥ 2 with the channels at `axis`; the
    four vectors are `(channels,)`; `weights` has the rank of `x` and broadcasts against it.
    Dtypes: `x` any float; statistics are computed in float32 (float64 for float64 input).

    Args:
        x: The input.
        gamma, beta: Scale and offset, or `None` for 1 and 0.
        moving_mean, moving_variance: The moving statistics before this batch.
        axis: The channel axis, a non-negative int.
        momentum: The share of the old value that a moving statistic keeps, in [0, 1].
        epsilon: Added to the variance.
        unbiased: Whether the moving variance averages m/(m−1) σ² or σ².
        weights: The weight of each element in the statistics; `None` counts each once.

    Returns:
        `(y, moving_mean, moving_variance)`: the output, of the dtype of `x`, and the moving
        statistics after this batch, which carry no gradient. A batch with no element (or
        only weights of 0) leaves them as they were.

    Source: Ioffe and Szegedy 2015, Algorithm 1; the gradient is that of section 3.

    Example:

    >>> x = tf.constant([[1.0], [3.0]])
    >>> y, mean, variance = batch_norm_training(
    ...     x, None, None, tf.zeros(1), tf.ones(1), axis=1, momentum=0.9, epsilon=0.0)
    >>> [round(value, 4) for value in y[:, 0].numpy().tolist() + [float(mean[0]), float(variance[0])]]
    [-1.0, 1.0, 0.2, 1.1]
    """
    return _training(
        x,
        gamma,
        beta,
        moving_mean,
        moving_variance,
        weights,
        axis=axis,
        momentum=momentum,
        epsilon=epsilon,
        unbiased=unbiased,
        fused=weights is None and _fused_is_safe(x.dtype) and _fused_pays(x.shape),
    )


def batch_norm_inference(x, gamma, beta, mean, variance, *, axis, epsilon):
    r"""Normalize `x` by given moments: one affine map per channel.

    $$ y = s \cdot x + (\beta - s \mu) \qquad s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} $$

    Shapes, dtypes and arguments are those of `batch_norm_training`. The output of an
    element depends on that element alone, and the map has all its derivatives.

    Returns:
        The output, of the dtype and shape of `x`.

    Source: Ioffe and Szegedy 2015, Algorithm 2, line 11.

    Example:

    >>> y = batch_norm_inference(
    ...     tf.constant([[1.0], [3.0]]), None, None, tf.constant([1.0]), tf.constant([4.0]),
    ...     axis=1, epsilon=0.0)
    >>> y[:, 0].numpy().tolist()
    [0.0, 1.0]
    """
    return _inference(x, gamma, beta, mean, variance, axis=axis, epsilon=epsilon)


@compiled
def _training(x, gamma, beta, moving_mean, moving_variance, weights, *, axis, momentum, epsilon, unbiased, fused):
    gamma, beta = _scale_and_offset(gamma, beta, x, axis)
    if fused:
        y, count, mean, variance = _fused(x, gamma, beta, axis, epsilon)
    else:
        y, count, mean, variance = _composed(x, gamma, beta, weights, axis, epsilon)
    if unbiased:
        variance = unbiased_variance(variance, count)
    return (
        y,
        moving_average(moving_mean, mean, momentum, count),
        moving_average(moving_variance, variance, momentum, count),
    )


@compiled
def _inference(x, gamma, beta, mean, variance, *, axis, epsilon):
    dtype = statistics_dtype(x.dtype)
    gamma, beta = _scale_and_offset(gamma, beta, x, axis)
    scale = gamma * tf.math.rsqrt(tf.cast(variance, dtype) + epsilon)
    offset = beta - tf.cast(mean, dtype) * scale
    rank = x.shape.rank
    y = tf.cast(x, dtype) * broadcastable(scale, rank, axis) + broadcastable(offset, rank, axis)
    return tf.cast(y, x.dtype)


def _scale_and_offset(gamma, beta, x, axis):
    dtype = statistics_dtype(x.dtype)
    channels = tf.shape(x)[axis : axis + 1]
    gamma = tf.ones(channels, dtype) if gamma is None else tf.cast(gamma, dtype)
    beta = tf.zeros(channels, dtype) if beta is None else tf.cast(beta, dtype)
    return gamma, beta


def _composed(x, gamma, beta, weights, axis, epsilon):
    """The equations in plain TensorFlow: any float dtype, any weights, any compiler."""
    rank = x.shape.rank
    axes = reduction_axes(rank, axis)
    dtype = statistics_dtype(x.dtype)
    if weights is not None:
        weights = tf.cast(weights, dtype)

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        values = tf.cast(x, dtype)
        count, mean, variance = moments(values, axes, weights)
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = broadcastable(gamma, rank, axis) * inverse
        y = (values - mean) * scale + broadcastable(beta, rank, axis)

        def gradient(dy, *statistics_have_none):
            dy = tf.cast(dy, dtype)
            normalized = (tf.cast(x, dtype) - mean) * inverse
            dbeta = tf.reduce_sum(dy, axes, keepdims=True)
            dgamma = tf.reduce_sum(dy * normalized, axes, keepdims=True)
            through_moments = tf.math.divide_no_nan(dbeta, count) + normalized * (tf.math.divide_no_nan(dgamma, count))
            if weights is not None:
                through_moments *= weights
            dx = scale * (dy - through_moments)
            return tf.cast(dx, x.dtype), tf.reshape(dgamma, [-1]), tf.reshape(dbeta, [-1])

        return (tf.cast(y, x.dtype), count, mean, variance), gradient

    y, count, mean, variance = normalize(x, gamma, beta)
    if weights is not None:
        count = tf.reshape(count, [-1])
    return (y, *map(tf.stop_gradient, (count, tf.reshape(mean, [-1]), tf.reshape(variance, [-1]))))


def _fused(x, gamma, beta, axis, epsilon):
    """TensorFlow's kernel; the gradient registered for it is the one above."""
    folded, data_format = _fold(x, axis)
    result = tf.raw_ops.FusedBatchNormV3(
        x=folded,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        data_format=data_format,
        is_training=True,
    )
    y = result.y if folded is x else tf.ensure_shape(tf.reshape(result.y, tf.shape(x)), x.shape)
    count = element_count(x, reduction_axes(x.shape.rank, axis), tf.float32)
    # The kernel returns the unbiased variance.
    variance = tf.math.divide_no_nan(result.batch_variance * (count - 1), count)
    return y, count, tf.stop_gradient(result.batch_mean), tf.stop_gradient(variance)


def _fold(x, axis):
    """`x` as the rank 4 that the kernel takes, without moving an element."""
    rank = x.shape.rank
    if axis == rank - 1:
        folded = x if rank == 4 else tf.reshape(x, [-1, 1, 1, x.shape[axis]])
        return folded, "NHWC"
    sizes = tf.shape(x)
    before, after = tf.reduce_prod(sizes[:axis]), tf.reduce_prod(sizes[axis + 1 :])
    return tf.reshape(x, tf.stack([before, sizes[axis], after, 1])), "NCHW"


def _fused_is_safe(dtype):
    """Not under XLA, which lowers the kernel to E[x²] − E[x]², and not for float64."""
    return dtype in (tf.float32, tf.bfloat16, tf.float16) and not in_xla_context()


def _fused_pays(shape):
    sizes = shape.as_list()
    sizes[0] = sizes[0] or ASSUMED_BATCH
    return None in sizes or math.prod(sizes) >= FUSED_FROM_ELEMENTS

r"""Decorrelated batch normalization: the channels of a group whitened together by Newton's iteration.

Over the $m$ elements of a batch, each a vector $x$ of the channels of a group, and those alone,

$$ \mu = \frac1m \sum x \qquad \Sigma = \frac1m \sum (x - \mu)(x - \mu)^\top + \epsilon I \qquad
   y = \gamma \odot W (x - \mu) + \beta $$

The covariance is the biased one, ε is added to its diagonal. $W \approx \Sigma^{-1/2}$ comes of `iterations` steps of

$$ P_0 = I \qquad P_{k+1} = \tfrac12 \left( 3 P_k - P_k^3 \Sigma_N \right) \qquad
   \Sigma_N = \Sigma / \mathrm{tr}\, \Sigma \qquad W = P / \sqrt{\mathrm{tr}\, \Sigma} $$

The trace makes all eigenvalues of $\Sigma_N$ at most 1, for which P tends to its inverse root. The products are
those of the coupled form, which has the same $P_k$ and no more of them. Rounding errors grow with each step of the
form above, where Σ has small eigenvalues to overflow within 30 steps even in float64, and do not in

$$ T_k = \tfrac12 \left( 3 I - P_k R_k \right) \qquad P_{k+1} = T_k P_k \qquad R_{k+1} = R_k T_k \qquad
   R_0 = \Sigma_N $$

With weights $w$ (a mask) both sums are weighted and $m = \sum w$. Where weights differ between the channels $i, j$
of a group, $\Sigma_{ij}$ sums $\sqrt{w_i w_j}$ over $\sqrt{m_i m_j}$: still positive, with the variances on its
diagonal.

Sources: Huang et al. 2018, "Decorrelated Batch Normalization", https://arxiv.org/abs/1804.08450; Huang et al. 2019,
"Iterative Normalization: Beyond Standardization towards Efficient Whitening", https://arxiv.org/abs/1904.03441,
Algorithm 1; Higham 2008, "Functions of Matrices", section 6.3, for the coupled form.
"""

import tensorflow as tf

from bn_keras.ops.compiler import compiled
from bn_keras.ops.cross_replica import average_over_replicas, replica_context
from bn_keras.ops.moments import (
    broadcastable,
    moments,
    moving_average,
    other_axes,
    refuse_single_values,
    statistics_dtype,
)
from bn_keras.ops.normalize import scale_and_offset


def decorrelated_batch_norm_training(
    x, gamma, beta, statistics, *, axis, groups, iterations, momentum, epsilon, weights=None
):
    r"""Whiten `x` by its own mean and covariance; see the module's text for the equations.

    Shapes: `x` is `(batch, …, channels, …)` of rank ≥ 2 with the channels at `axis`; gamma and beta `(channels,)`;
    `weights` has the rank of `x` and broadcasts against it. Dtypes: `x` any float; everything is computed in
    float32 (float64 for float64 input).

    Args:
        x: The input.
        gamma, beta: Scale and offset, or `None` for 1 and 0.
        statistics: As they are before this batch: `moving_mean`, `(channels,)`, and `moving_whitening`,
            `(groups, size, size)`.
        axis: The channel axis, a non-negative int.
        groups: The number of groups, a divisor of the number of channels.
        iterations: The number of Newton's steps, ≥ 1.
        momentum: The share of the old value that a moving statistic keeps, in [0, 1].
        epsilon: Added to the diagonal of the covariance.
        weights: The weight of each element in mean and covariance; `None` counts each once.

    Returns:
        `(y, statistics)`: the output, of the dtype of `x`, and the statistics after this batch, which carry no
        gradient. A batch with no element (or only weights of 0) leaves them as they were. Under a strategy
        each replica is whitened by itself, and the statistics, the same on all, average those of all.

    Raises:
        ValueError: When it is known that there is one value per channel.

    Source: Huang et al. 2019, Algorithm 1.

    Example:

    >>> x = tf.constant([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> skewed = tf.stack([3 * x[:, 0], 3 * x[:, 0] + x[:, 1]], 1)
    >>> statistics = {"moving_mean": tf.zeros(2), "moving_whitening": tf.eye(2, batch_shape=[1])}
    >>> settings = {"axis": 1, "groups": 1, "iterations": 12, "momentum": 0.0, "epsilon": 0.0}
    >>> y, statistics = decorrelated_batch_norm_training(skewed, None, None, statistics, **settings)
    >>> (tf.matmul(y, y, transpose_a=True).numpy().round(3) / 4 + 0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    settings = {"axis": axis, "groups": groups, "iterations": iterations, "epsilon": epsilon}
    refuse_single_values(x.shape, (axis,))
    y, *averages = whiten_batch(x, gamma, beta, weights, **settings)
    if replica_context():
        averages = average_over_replicas(*averages)
    return y, statistics_after(averages, statistics, momentum=momentum)


def decorrelated_batch_norm_inference(x, gamma, beta, mean, whitening, *, axis, groups):
    r"""Whiten `x` by a given mean and whitening: one affine map per group.

    Shapes, dtypes and arguments are those of `decorrelated_batch_norm_training`. The output at a position of an
    example depends on the channels there alone.

    Returns:
        The output, of the dtype and shape of `x`.

    Source: Huang et al. 2019, Algorithm 1, with the averages of its section 3.2.

    Example:

    >>> y = decorrelated_batch_norm_inference(
    ...     tf.constant([[1.0, 3.0]]), None, None, tf.constant([1.0, 1.0]), tf.constant([[[2.0, 1.0], [1.0, 2.0]]]),
    ...     axis=1, groups=1)
    >>> y.numpy().tolist()
    [[2.0, 4.0]]
    """
    return _inference(x, gamma, beta, mean, whitening, axis=axis, groups=groups)


@compiled
def whiten_batch(x, gamma, beta, weights, *, axis, groups, iterations, epsilon):
    """The first half of training: the output, and what it was whitened by.

    Returns:
        `(y, (count, mean), (count, whitening))`: the output, and what it was whitened by, each with the sum of the
        weights that it stands on. Count and mean are `(channels,)`, the whitening is `(groups, size, size)`; none
        of them carries a gradient.
    """
    gamma, beta = scale_and_offset(gamma, beta, x, (axis,))
    centred, share, count, mean = _centred(x, weights, axis)
    vectors = grouped(centred, axis, groups)
    if weights is None:
        covariance = share * tf.matmul(vectors, vectors, transpose_a=True)
    else:
        weighted = grouped(tf.sqrt(share) * centred, axis, groups)
        covariance = tf.matmul(weighted, weighted, transpose_a=True)
    whitening = inverse_root(covariance + epsilon * identities(covariance.shape, covariance.dtype), iterations)
    y = _ungrouped(_affine(vectors, whitening, gamma, beta), x, axis)
    counts = count_of_groups(count, groups)[:, tf.newaxis, tf.newaxis]
    return tf.cast(y, x.dtype), (count, mean), (tf.stop_gradient(counts), tf.stop_gradient(whitening))


@compiled
def statistics_after(averages, statistics, *, momentum):
    """The second half of training: the statistics after a batch of these moments.

    A channel without an element keeps its mean, and the group that it is in its whitening.
    """
    names = ("moving_mean", "moving_whitening")
    return {
        name: moving_average(statistics[name], value, momentum, count)
        for name, (count, value) in zip(names, averages, strict=True)
    }


@compiled
def _inference(x, gamma, beta, mean, whitening, *, axis, groups):
    dtype = statistics_dtype(x.dtype)
    gamma, beta = scale_and_offset(gamma, beta, x, (axis,))
    # The mean is taken off first: taken off the product, a large one would cancel there.
    centred = tf.cast(x, dtype) - broadcastable(tf.cast(mean, dtype), x.shape.rank, (axis,))
    y = _affine(grouped(centred, axis, groups), tf.cast(whitening, dtype), gamma, beta)
    return tf.cast(_ungrouped(y, x, axis), x.dtype)


def inverse_root(matrices, iterations):
    """Nearly the inverse square root of positive definite matrices, by so many of Newton's steps.

    >>> inverse_root(tf.constant([[4.0, 0.0], [0.0, 16.0]]), iterations=12).numpy().round(3).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    one = identities(matrices.shape, matrices.dtype)
    trace = tf.reduce_sum(one * matrices, [-2, -1], keepdims=True)
    trace = tf.where(trace > 0, trace, tf.ones_like(trace))  # 0 for a constant group and ε = 0
    root = matrices / trace
    inverse = step = 1.5 * one - 0.5 * root
    for _ in range(iterations - 1):
        root = tf.matmul(root, step)
        step = 1.5 * one - 0.5 * tf.matmul(inverse, root)
        inverse = tf.matmul(step, inverse)
    return inverse * tf.math.rsqrt(trace)


def identities(shape, dtype=None):
    """Identity matrices, `(…, size, size)`: the whitening of a layer that has seen no batch.

    >>> identities((1, 2, 2), "float32").numpy().tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    *batch, _, size = shape
    return tf.eye(size, batch_shape=batch, dtype=dtype or tf.float32)


def count_of_groups(count, groups):
    """How many elements the whitening of each group stands on: those of the channel that has the fewest.

    >>> count_of_groups(tf.constant([3.0, 2.0, 5.0, 5.0]), groups=2).numpy().tolist()
    [2.0, 5.0]
    """
    return tf.reduce_min(tf.reshape(count, [groups, -1]), 1)


def _centred(x, weights, axis):
    """`x` without its mean, the share of each element in it, and count and mean of each channel."""
    dtype, axes = statistics_dtype(x.dtype), other_axes(x.shape.rank, [axis])
    values = tf.cast(x, dtype)
    weights = None if weights is None else tf.cast(tf.stop_gradient(weights), dtype)
    count, mean, _ = map(tf.stop_gradient, moments(values, axes, weights))
    share = tf.math.divide_no_nan(tf.ones([], dtype) if weights is None else weights, count)
    # The mean as a constant leaves what it was rounded by, and all of the gradient through it.
    centred = values - mean
    centred -= tf.reduce_sum(share * centred, axes, keepdims=True)
    count = tf.reshape(tf.broadcast_to(count, tf.shape(mean)), [x.shape[axis]])
    return centred, share, count, tf.reshape(mean, [x.shape[axis]])


def _affine(vectors, whitening, gamma, beta):
    """γ ⊙ W x + β of `vectors` of shape `(groups, elements, size)`."""
    groups, _, size = vectors.shape
    scaled = tf.reshape(gamma, [groups, size, 1]) * whitening
    return tf.matmul(vectors, scaled, transpose_b=True) + tf.reshape(beta, [groups, 1, size])


def grouped(x, axis, groups):
    """`x` as `(groups, elements, size)`, the elements in the order of the axes other than `axis`.

    >>> grouped(tf.constant([[[1, 2, 3, 4]]]), axis=2, groups=2).numpy().tolist()
    [[[1, 2]], [[3, 4]]]
    """
    size = x.shape[axis] // groups
    others = other_axes(x.shape.rank + 1, [axis, axis + 1])
    sizes = tf.unstack(tf.shape(x), num=x.shape.rank)
    split = tf.reshape(x, [*sizes[:axis], groups, size, *sizes[axis + 1 :]])
    return tf.reshape(_transposed(split, [axis, *others, axis + 1]), [groups, -1, size])


def _ungrouped(vectors, like, axis):
    """The inverse of `grouped`, of the shape of `like`."""
    groups, _, size = vectors.shape
    sizes = tf.unstack(tf.shape(like), num=like.shape.rank)
    others = [*sizes[:axis], *sizes[axis + 1 :]]
    split = tf.reshape(vectors, [groups, *others, size])
    # (groups, …, size) with the groups and the size put where the channels were
    order = [*range(1, axis + 1), 0, len(others) + 1, *range(axis + 1, len(others) + 1)]
    return tf.ensure_shape(tf.reshape(_transposed(split, order), tf.shape(like)), like.shape)


def _transposed(x, order):
    """`tf.transpose`, whose own gradient takes the order from the forward pass as a tensor.

    XLA has to know it to compile the backward pass, so everything that the forward pass is made from becomes part
    of what is compiled, its numbers included: each batch would be compiled anew.
    """

    @tf.custom_gradient
    def differentiable(x):
        inverse = [order.index(i) for i in range(len(order))]
        return tf.transpose(x, order), lambda dy: _transposed(dy, inverse)

    return differentiable(x)

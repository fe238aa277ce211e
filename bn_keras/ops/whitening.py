r"""Decorrelated batch normalization: Newton's iteration whitens the channels of each group together.

Over the $m$ elements of a batch, each a vector $x$ of the channels of one group,

$$ \mu = \frac1m \sum x \qquad \Sigma = \frac1m \sum (x - \mu)(x - \mu)^\top + \epsilon I \qquad
   y = \gamma \odot W (x - \mu) + \beta $$

The covariance is the biased one, with ε added to its diagonal. $W \approx \Sigma^{-1/2}$ comes from `iterations`
steps of

$$ P_0 = I \qquad P_{k+1} = \tfrac12 \left( 3 P_k - P_k^3 \Sigma_N \right) \qquad
   \Sigma_N = \Sigma / \mathrm{tr}\, \Sigma \qquad W = P / \sqrt{\mathrm{tr}\, \Sigma} $$

The trace makes all eigenvalues of $\Sigma_N$ at most 1, so that P tends to its inverse root. In the form above
rounding errors grow with each step: with small eigenvalues they overflow within 30 steps even in float64. The code
uses the coupled form, which has the same $P_k$, as many products, and no such growth:

$$ T_k = \tfrac12 \left( 3 I - P_k R_k \right) \qquad P_{k+1} = T_k P_k \qquad R_{k+1} = R_k T_k \qquad
   R_0 = \Sigma_N $$

With the weights $w$ of a mask both sums are weighted and $m = \sum w$. Where weights differ between the channels $i, j$
of a group, $\Sigma_{ij}$ sums $\sqrt{w_i w_j}$ over $\sqrt{m_i m_j}$: still positive, with the variances on its
diagonal.

Sources: Huang et al. 2018, "Decorrelated Batch Normalization", https://arxiv.org/abs/1804.08450; Huang et al. 2019,
"Iterative Normalization: Beyond Standardization towards Efficient Whitening", https://arxiv.org/abs/1904.03441,
Algorithm 1; Higham 2008, "Functions of Matrices", section 6.3, for the coupled form.
"""

import dataclasses

import tensorflow as tf

from bn_keras.ops.kernels.replicas import average_over_replicas, replica_context
from bn_keras.ops.moments import (
    broadcastable,
    finite_where_masked,
    moments,
    moving_average,
    other_axes,
    refuse_single_values,
    statistics_dtype,
)
from bn_keras.ops.normalize import scale_and_offset
from bn_keras.ops.traces import run, see

Average = tuple[tf.Tensor, tf.Tensor]  # with its count first


@dataclasses.dataclass(frozen=True)
class Settings:
    """How decorrelated batch normalization whitens.

    Attributes:
        axis: The channel axis, a non-negative int.
        groups: The number of groups, a divisor of the number of channels.
        iterations: The number of Newton's steps, ≥ 1.
        epsilon: The number added to the diagonal of the covariance, ≥ 0.
        momentum: The share of the old value that a moving statistic keeps, in [0, 1].
    """

    axis: int
    groups: int
    iterations: int
    epsilon: float
    momentum: float = 0.99


@dataclasses.dataclass(frozen=True)
class State:
    """The statistics that training updates.

    Attributes:
        moving_mean: `(channels,)`.
        moving_whitening: `(groups, size, size)`.
    """

    moving_mean: tf.Tensor
    moving_whitening: tf.Tensor


def train(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, State]:
    """Whitens `x` by its own mean and covariance, and updates the moving statistics.

    The module's docstring has the equations. Shapes: `x` is `(batch, …, channels, …)` of rank ≥ 2, with the channels at
    `settings.axis`; scale and offset are `(channels,)`; `mask` has the rank of `x` and broadcasts against it. All
    arithmetic is in float32, and in float64 for float64 input.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        state: `State`, the statistics before this batch.
        settings: `Settings`, how to whiten.
        mask: Tensor with the number of times that each element counts in mean and covariance; `None` counts each once.
            Defaults to `None`.

    Returns:
        `(y, state)`: the output, of the dtype of `x`, and the `State` after this batch, which carries no gradient. A
        batch without an element, or with all elements masked, leaves the statistics as they were. Under a strategy each
        replica whitens by its own covariance, and the statistics average over all replicas.

    Raises:
        ValueError: If the shape shows one value per channel.

    References:
        Huang et al. 2019, Algorithm 1.

    Example:

    >>> x = tf.constant([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> skewed = tf.stack([3 * x[:, 0], 3 * x[:, 0] + x[:, 1]], 1)
    >>> state = State(moving_mean=tf.zeros(2), moving_whitening=tf.eye(2, batch_shape=[1]))
    >>> settings = Settings(axis=1, groups=1, iterations=12, epsilon=0.0)
    >>> y, _ = train(skewed, None, None, state, settings)
    >>> (tf.matmul(y, y, transpose_a=True).numpy().round(3) / 4 + 0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    axes = (settings.axis,)
    see(x, axes)
    refuse_single_values(x.shape, axes)
    batch = x, scale, offset, mask, settings
    if not replica_context():
        return run(_step, (x, scale, offset, state, settings, mask), axes)
    y, *averages = run(whiten_batch, batch, axes)
    return y, _update(state, *average_over_replicas(*averages), settings)


def infer(
    x: tf.Tensor, scale: tf.Tensor | None, offset: tf.Tensor | None, state: State, settings: Settings
) -> tf.Tensor:
    """Whitens `x` by the moving statistics: one affine map per group.

    Shapes and dtypes are those of `train`. The output at a position of an example depends on the channels there alone.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        state: `State`, the moving statistics.
        settings: `Settings`, how to whiten.

    Returns:
        The output, of the dtype and shape of `x`.

    References:
        Huang et al. 2019, Algorithm 1, with the averages of its section 3.2.

    Example:

    >>> state = State(tf.constant([1.0, 1.0]), tf.constant([[[2.0, 1.0], [1.0, 2.0]]]))
    >>> settings = Settings(axis=1, groups=1, iterations=5, epsilon=0.0)
    >>> infer(tf.constant([[1.0, 3.0]]), None, None, state, settings).numpy().tolist()
    [[2.0, 4.0]]
    """
    see(x, (settings.axis,))
    return run(_infer, (x, scale, offset, state, settings.axis, settings.groups), (settings.axis,))


def whiten_batch(
    x: tf.Tensor, scale: tf.Tensor | None, offset: tf.Tensor | None, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Average, Average]:
    """The first half of training.

    Returns:
        `(y, (count, mean), (count, whitening))`: the output, and the mean and whitening of the batch, each after the
        number of elements that it stands on. Count and mean are `(channels,)`, the whitening is
        `(groups, size, size)`; none of them carries a gradient.
    """
    axis, groups = settings.axis, settings.groups
    scale, offset = scale_and_offset(scale, offset, x, (axis,))
    centred, share, count, mean = _centred(x, mask, axis)
    vectors = grouped(centred, axis, groups)
    if mask is None:
        covariance = share * tf.matmul(vectors, vectors, transpose_a=True)
    else:
        weighted = grouped(tf.sqrt(share) * centred, axis, groups)
        covariance = tf.matmul(weighted, weighted, transpose_a=True)
    spread = covariance + settings.epsilon * identities(covariance.shape, covariance.dtype)
    whitening = inverse_root(spread, settings.iterations)
    y = _ungrouped(_whitened(vectors, whitening, scale, offset), x, axis)
    counts = count_of_groups(count, groups)[:, tf.newaxis, tf.newaxis]
    return tf.cast(y, x.dtype), (count, mean), (tf.stop_gradient(counts), tf.stop_gradient(whitening))


def _step(x, scale, offset, state, settings, mask):
    y, *averages = whiten_batch(x, scale, offset, mask, settings)
    return y, _update(state, *averages, settings)


def _update(state: State, mean: Average, whitening: Average, settings: Settings) -> State:
    """The statistics after a batch: a channel without an element keeps its mean, and its group the whitening."""
    before = state.moving_mean, state.moving_whitening
    return State(
        *(
            tf.stop_gradient(moving_average(old, value, settings.momentum, count))
            for old, (count, value) in zip(before, (mean, whitening), strict=True)
        )
    )


def _infer(x, scale, offset, state, axis, groups):
    dtype = statistics_dtype(x.dtype)
    scale, offset = scale_and_offset(scale, offset, x, (axis,))
    # The mean is taken off first: taken off the product, a large one would cancel there.
    centred = tf.cast(x, dtype) - broadcastable(tf.cast(state.moving_mean, dtype), x.shape.rank, (axis,))
    y = _whitened(grouped(centred, axis, groups), tf.cast(state.moving_whitening, dtype), scale, offset)
    return tf.cast(_ungrouped(y, x, axis), x.dtype)


def inverse_root(matrices: tf.Tensor, iterations: int) -> tf.Tensor:
    """The approximate inverse square root of positive definite matrices, by that many of Newton's steps.

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


def identities(shape: tuple[int, ...], dtype: tf.DType | str | None = None) -> tf.Tensor:
    """Identity matrices, `(…, size, size)`: the whitening of a layer that has seen no batch.

    >>> identities((1, 2, 2), "float32").numpy().tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    *batch, _, size = shape
    return tf.eye(size, batch_shape=batch, dtype=dtype or tf.float32)


def count_of_groups(count: tf.Tensor, groups: int) -> tf.Tensor:
    """The number of elements that the whitening of each group stands on: of its channel that has the fewest.

    >>> count_of_groups(tf.constant([3.0, 2.0, 5.0, 5.0]), groups=2).numpy().tolist()
    [2.0, 5.0]
    """
    return tf.reduce_min(tf.reshape(count, [groups, -1]), 1)


def _centred(x: tf.Tensor, mask: tf.Tensor | None, axis: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """`x` without its mean, the share of each element in it, and count and mean of each channel."""
    dtype, axes = statistics_dtype(x.dtype), other_axes(x.shape.rank, [axis])
    values = tf.cast(x, dtype)
    mask = None if mask is None else tf.cast(tf.stop_gradient(mask), dtype)
    count, mean, _ = map(tf.stop_gradient, moments(values, axes, mask))
    share = tf.math.divide_no_nan(tf.ones([], dtype) if mask is None else mask, count)
    # The mean as a constant leaves its rounding error, and all of the gradient through it.
    centred = finite_where_masked(values - mean, mask)
    centred -= tf.reduce_sum(share * centred, axes, keepdims=True)
    count = tf.reshape(tf.broadcast_to(count, tf.shape(mean)), [x.shape[axis]])
    return centred, share, count, tf.reshape(mean, [x.shape[axis]])


def _whitened(vectors: tf.Tensor, whitening: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """γ ⊙ W x + β of `vectors` of shape `(groups, elements, size)`."""
    groups, _, size = vectors.shape
    scaled = tf.reshape(scale, [groups, size, 1]) * whitening
    return tf.matmul(vectors, scaled, transpose_b=True) + tf.reshape(offset, [groups, 1, size])


def grouped(x: tf.Tensor, axis: int, groups: int) -> tf.Tensor:
    """`x` as `(groups, elements, size)`, the elements in the order of the axes other than `axis`.

    >>> grouped(tf.constant([[[1, 2, 3, 4]]]), axis=2, groups=2).numpy().tolist()
    [[[1, 2]], [[3, 4]]]
    """
    size = x.shape[axis] // groups
    others = other_axes(x.shape.rank + 1, [axis, axis + 1])
    sizes = tf.unstack(tf.shape(x), num=x.shape.rank)
    split = tf.reshape(x, [*sizes[:axis], groups, size, *sizes[axis + 1 :]])
    return tf.reshape(_transposed(split, [axis, *others, axis + 1]), [groups, -1, size])


def _ungrouped(vectors: tf.Tensor, like: tf.Tensor, axis: int) -> tf.Tensor:
    """The inverse of `grouped`, of the shape of `like`."""
    groups, _, size = vectors.shape
    sizes = tf.unstack(tf.shape(like), num=like.shape.rank)
    others = [*sizes[:axis], *sizes[axis + 1 :]]
    split = tf.reshape(vectors, [groups, *others, size])
    # (groups, …, size) with the groups and the size put where the channels were
    order = [*range(1, axis + 1), 0, len(others) + 1, *range(axis + 1, len(others) + 1)]
    joined = tf.reshape(_transposed(split, order), tf.shape(like))
    joined.set_shape(like.shape)
    return joined


def _transposed(x: tf.Tensor, order: list[int]) -> tf.Tensor:
    """`tf.transpose`, whose own gradient takes the order from the forward pass as a tensor.

    XLA has to know the order to compile the backward pass. It would treat everything that the forward pass hands
    over as constant, numbers included, and compile each batch anew.
    """

    @tf.custom_gradient
    def differentiable(x):
        inverse = [order.index(i) for i in range(len(order))]
        return tf.transpose(x, order), lambda dy: _transposed(dy, inverse)

    return differentiable(x)

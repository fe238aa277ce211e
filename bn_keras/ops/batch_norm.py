r"""Batch normalization: the compiled training and inference branches.

Per channel, over the $m$ elements of the mini-batch that belong to it,

$$ \mu = \frac1m \sum_i x_i \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2 \qquad
   \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad
   y_i = \gamma \hat x_i + \beta $$

The ε is added to the variance, inside the root. A batch is normalized by its *biased*
variance (1/m). What the moving variance averages is the *unbiased* one, m/(m−1) σ², as
Algorithm 2 of the paper asks, unless `unbiased=False`.

The gradient is that of `bn_keras.ops.normalize`, which, as γ is constant over each sum, is here

$$ \frac{\partial l}{\partial \beta} = \sum_i \frac{\partial l}{\partial y_i} \qquad
   \frac{\partial l}{\partial \gamma} = \sum_i \frac{\partial l}{\partial y_i} \hat x_i \qquad
   \frac{\partial l}{\partial x_i} = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
   \left( \frac{\partial l}{\partial y_i} - \frac1m \frac{\partial l}{\partial \beta}
   - \frac{\hat x_i}{m} \frac{\partial l}{\partial \gamma} \right) $$

Source: Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift", https://arxiv.org/abs/1502.03167, section 3.
"""

import tensorflow as tf

from bn_keras.ops.choice import fused_or_not, xla_pays
from bn_keras.ops.compiler import compiled
from bn_keras.ops.cross_replica import average_over_replicas, normalize_across_replicas, replica_context
from bn_keras.ops.fused import fused_batch_norm
from bn_keras.ops.moments import (
    broadcastable,
    momentum_at,
    moving_average,
    other_axes,
    over_groups,
    refuse_single_values,
    statistics_dtype,
    unbiased_variance,
)
from bn_keras.ops.normalize import normalize, scale_and_offset
from bn_keras.ops.renorm import renorm_statistics, renormalize
from bn_keras.ops.virtual_batch import batch_norm_in_groups


def batch_norm_training(
    x,
    gamma,
    beta,
    statistics,
    *,
    axes,
    momentum,
    epsilon,
    unbiased=True,
    weights=None,
    fused=None,
    virtual_batch_size=None,
    synchronized=False,
    group_size=None,
    renorm_momentum=None,
    renorm_clipping=None,
    relu=False,
):
    r"""Normalize `x` by its own moments; see the module's text for the equations.

    Shapes: `x` is `(batch, …, channels, …)` of rank ≥ 2 with the channels at `axes`; gamma, beta
    and the statistics have the sizes of `x` along them, `(channels,)` for one axis; `weights`
    has the rank of `x` and broadcasts against it. Dtypes: `x` any float; moments are computed in
    float32 (float64 for float64 input).

    Args:
        x: The input.
        gamma, beta: Scale and offset, or `None` for 1 and 0.
        statistics: Tensors by name, as they are before this batch: `moving_mean` and
            `moving_variance`; with `steps`, the number of batches so far, the bias of the moving
            statistics towards their first values is corrected; with `renorm_mean`, `renorm_stddev`
            and `moving_stddev`, the batch is renormalized.
        axes: The channel axes, a tuple of rising non-negative ints.
        momentum: The share of the old value that a moving statistic keeps, in [0, 1]; `None` for
            the average of all batches so far, which needs `steps`.
        epsilon: Added to the variance.
        unbiased: Whether the moving variance averages m/(m−1) σ² or σ².
        weights: The weight of each element in the moments; `None` counts each once.
        fused: Whether to use TensorFlow's kernel; `None` where it is safe and pays.
        virtual_batch_size: Normalizes that many examples at a time, the rest by itself.
        synchronized: Whether the moments are those of all replicas of the strategy that this is called in.
            If not, each replica is normalized by its own, and the statistics, which are the same on all
            replicas either way, average those of all.
        group_size: How many neighbouring replicas are synchronized with each other; `None` for all.
        renorm_momentum, renorm_clipping: Of batch renormalization, see `bn_keras.ops.renorm`.
        relu: Whether the output is max(y, 0). Where XLA compiles the passes it is a part of them.

    Returns:
        `(y, statistics)`: the output, of the dtype of `x`, and the statistics after this batch, which
        carry no gradient. A batch with no element (or only weights of 0) leaves them as they were.

    Raises:
        ValueError: When `fused=True` and the kernel cannot be used, with the reason; when it is known that
            there is one value per channel, unless other replicas have more or the batch is renormalized.

    Source: Ioffe and Szegedy 2015, Algorithm 1; the gradient is that of section 3.

    Example:

    >>> x = tf.constant([[1.0], [3.0]])
    >>> statistics = {"moving_mean": tf.zeros(1), "moving_variance": tf.ones(1)}
    >>> y, statistics = batch_norm_training(x, None, None, statistics, axes=(1,), momentum=0.9, epsilon=0.0)
    >>> y[:, 0].numpy().tolist()
    [-1.0, 1.0]
    >>> [round(float(value[0]), 4) for value in statistics.values()]
    [0.2, 1.1]
    """
    if "renorm_mean" not in statistics and not (synchronized and replica_context()):
        refuse_single_values(x.shape, axes)
    settings = {"axes": tuple(axes), "epsilon": epsilon, "unbiased": unbiased, "renorm_clipping": renorm_clipping}
    settings |= {"xla": xla_pays(x, weights), "relu": relu}
    averages = {"momentum": momentum, "epsilon": epsilon, "renorm_momentum": renorm_momentum}
    if not (synchronized and replica_context()):
        settings["fused"] = fused_or_not(fused, x, axes, weights, virtual_batch_size)
        settings["virtual_batch_size"] = virtual_batch_size
    if not replica_context():
        return _training(x, gamma, beta, statistics, weights, averages=averages, **settings)
    # Compiled in parts, as a collective cannot be inside of one.
    if synchronized:
        y, moments = _synchronized(x, gamma, beta, statistics, weights, group_size=group_size, **settings)
    else:
        y, (count, mean, variance) = _compiled_normalized(x, gamma, beta, statistics, weights, **settings)
        (count, mean), (_, variance) = average_over_replicas((count, mean), (count, variance))
        moments = count, mean, variance
    return y, _compiled_updated(statistics, *moments, **averages)


def batch_norm_inference(x, gamma, beta, mean, variance, *, axes, epsilon):
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
    ...     axes=(1,), epsilon=0.0)
    >>> y[:, 0].numpy().tolist()
    [0.0, 1.0]
    """
    return _inference(x, gamma, beta, mean, variance, axes=tuple(axes), epsilon=epsilon)


def affine(x, scale, offset, *, axes):
    """`scale · x + offset` per channel, of the dtype and shape of `x`; scale and offset as gamma above.

    Example:

    >>> affine(tf.constant([[1.0], [3.0]]), tf.constant([2.0]), tf.constant([1.0]), axes=(1,)).numpy().tolist()
    [[3.0], [7.0]]
    """
    return _compiled_affine(x, *scale_and_offset(scale, offset, x, axes), axes=tuple(axes))


@compiled
def _training(x, gamma, beta, statistics, weights, *, averages, **settings):
    y, moments = _normalized(x, gamma, beta, statistics, weights, **settings)
    return y, _updated(statistics, *moments, **averages)


def _normalized(
    x, gamma, beta, statistics, weights, *, axes, epsilon, fused, virtual_batch_size, xla, relu, **settings
):
    """The output, and the moments that the moving statistics average."""
    gamma, beta = scale_and_offset(gamma, beta, x, axes)
    scale, offset = _before_renorm(gamma, beta, statistics)
    if fused:
        y, *moments = fused_batch_norm(x, scale, offset, axes, epsilon)
    elif virtual_batch_size:
        y, *moments = batch_norm_in_groups(x, scale, offset, weights, axes, epsilon, virtual_batch_size)
    else:
        within = relu and xla and "renorm_mean" not in statistics
        y, *moments = _composed(x, scale, offset, weights, axes, epsilon, xla, within)
        relu = relu and not within
    settings |= {"axes": axes, "epsilon": epsilon, "relu": relu, "in_groups": virtual_batch_size is not None}
    return _finished(y, moments, gamma, beta, statistics, **settings)


def _synchronized(x, gamma, beta, statistics, weights, *, axes, epsilon, group_size, xla, **settings):
    """`_normalized` by the moments of all replicas, or of groups of them."""
    gamma, beta = scale_and_offset(gamma, beta, x, axes)
    scale, offset = _before_renorm(gamma, beta, statistics)
    y, *moments = normalize_across_replicas(x, scale, offset, axes, epsilon, weights, group_size, xla)
    in_groups = group_size is not None
    return _compiled_finished(
        y, moments, gamma, beta, statistics, axes=axes, epsilon=epsilon, in_groups=in_groups, **settings
    )


def _before_renorm(gamma, beta, statistics):
    """Renormalization comes between normalization and scale, so those have to wait."""
    return (tf.ones_like(gamma), tf.zeros_like(beta)) if "renorm_mean" in statistics else (gamma, beta)


def _finished(y, moments, gamma, beta, statistics, *, axes, epsilon, unbiased, in_groups, renorm_clipping, relu):
    """What is left to do once the moments are known; those of several groups have the groups first."""
    count, mean, variance = moments
    if "renorm_mean" in statistics:
        y = renormalize(y, gamma, beta, mean, variance, statistics, axes, epsilon, renorm_clipping)
    if relu:
        y = tf.nn.relu(y)
    if unbiased:
        variance = unbiased_variance(variance, count)
    return y, over_groups(count, mean, variance) if in_groups else (count, mean, variance)


def _updated(statistics, count, mean, variance, *, momentum, epsilon, renorm_momentum):
    """The statistics after a batch of these moments."""
    momentum, steps = momentum_at(statistics.get("steps"), momentum, count)
    after = dict(statistics)
    if steps is not None:
        after["steps"] = steps
    if "renorm_mean" in statistics:
        after |= renorm_statistics(statistics, mean, variance, count, momentum, renorm_momentum, epsilon)
    else:
        after["moving_variance"] = moving_average(statistics["moving_variance"], variance, momentum, count)
    after["moving_mean"] = moving_average(statistics["moving_mean"], mean, momentum, count)
    return {name: tf.stop_gradient(value) for name, value in after.items()}


_compiled_normalized, _compiled_finished, _compiled_updated = map(compiled, (_normalized, _finished, _updated))


@compiled
def _inference(x, gamma, beta, mean, variance, *, axes, epsilon):
    dtype = statistics_dtype(x.dtype)
    gamma, beta = scale_and_offset(gamma, beta, x, axes)
    scale = gamma * tf.math.rsqrt(tf.cast(variance, dtype) + epsilon)
    return _affine(x, scale, beta - tf.cast(mean, dtype) * scale, axes)


def _affine(x, scale, offset, axes):
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    y = tf.cast(x, dtype) * broadcastable(scale, rank, axes) + broadcastable(offset, rank, axes)
    return tf.cast(y, x.dtype)


_compiled_affine = compiled(_affine)


def _composed(x, gamma, beta, weights, axes, epsilon, xla, relu):
    rank, channels = x.shape.rank, gamma.shape
    gamma, beta = (broadcastable(values, rank, axes) for values in (gamma, beta))
    y, count, mean, variance = normalize(x, gamma, beta, other_axes(rank, axes), epsilon, weights, xla=xla, relu=relu)
    if weights is not None:
        count = tf.reshape(tf.broadcast_to(count, tf.shape(mean)), channels)
    return y, count, tf.reshape(mean, channels), tf.reshape(variance, channels)

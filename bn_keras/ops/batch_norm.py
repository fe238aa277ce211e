r"""Batch normalization: one training step, and inference.

Per channel, over the $m$ elements of the mini-batch that belong to it,

$$ \mu = \frac1m \sum_i x_i \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2 \qquad
   \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad
   y_i = \gamma \hat x_i + \beta $$

The ε is added to the variance, inside the root. A batch is normalized by its *biased* variance (1/m). The moving
variance averages the *unbiased* one, m/(m−1) σ², as Algorithm 2 of the paper asks, unless `unbiased=False`.

The gradient is that of `bn_keras.ops.normalize`. As γ is constant over each sum, it is here

$$ \frac{\partial l}{\partial \beta} = \sum_i \frac{\partial l}{\partial y_i} \qquad
   \frac{\partial l}{\partial \gamma} = \sum_i \frac{\partial l}{\partial y_i} \hat x_i \qquad
   \frac{\partial l}{\partial x_i} = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
   \left( \frac{\partial l}{\partial y_i} - \frac1m \frac{\partial l}{\partial \beta}
   - \frac{\hat x_i}{m} \frac{\partial l}{\partial \gamma} \right) $$

Source: Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift", https://arxiv.org/abs/1502.03167, section 3.
"""

import dataclasses
import types

import tensorflow as tf

from bn_keras.ops.accumulation import accumulate
from bn_keras.ops.dispatch import kernel_for, settings_for
from bn_keras.ops.kernels import replicas
from bn_keras.ops.moments import (
    Moments,
    broadcastable,
    momentum_at,
    moving_average,
    refuse_single_values,
    statistics_dtype,
)
from bn_keras.ops.normalize import scale_and_offset
from bn_keras.ops.renorm import renorm_statistics, renormalize
from bn_keras.ops.settings import Settings, State
from bn_keras.ops.traces import run, see


def train(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, State]:
    r"""Normalizes `x` by its own moments, and updates the moving statistics.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    The module's docstring has the equations of the moments and the gradient. Shapes: `x` is `(batch, …, channels, …)`
    of rank ≥ 2, with the channels at `settings.axes`; scale, offset and the statistics have the sizes of `x` along
    these axes, `(channels,)` for one axis; `mask` has the rank of `x` and broadcasts against it. Moments are computed
    in float32, and in float64 for float64 input.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        state: `State`, the statistics before this batch.
        settings: `Settings`, how to normalize.
        mask: Tensor with the number of times that each element counts in the moments; `None` counts each once. Defaults
            to `None`.

    Returns:
        `(y, state)`: the output, of the dtype of `x`, and the `State` after this batch, which carries no gradient. A
        batch without an element, or with all elements masked, leaves the statistics as they were.

    Raises:
        ValueError: If `settings.fused` is true and the kernel cannot be used, with the reason; if the shape shows one
            value per channel, unless other replicas have more or the batch is renormalized.

    References:
        Ioffe and Szegedy 2015, Algorithm 1; section 3 for the gradient.

    Example:

    >>> state = State(moving_mean=tf.zeros(1), moving_variance=tf.ones(1))
    >>> settings = Settings(axes=(1,), momentum=0.9, epsilon=0.0)
    >>> y, state = train(tf.constant([[1.0], [3.0]]), None, None, state, settings)
    >>> y[:, 0].numpy().tolist()
    [-1.0, 1.0]
    >>> round(float(state.moving_mean[0]), 4), round(float(state.moving_variance[0]), 4)
    (0.2, 1.1)
    """
    see(x, settings.axes)
    kernel = kernel_for(x, mask, settings)
    settings = settings_for(kernel, settings)
    if settings.renorm is None and kernel is not replicas:
        refuse_single_values(x.shape, settings.axes)
    batch = x, scale, offset, state, settings, mask, kernel
    if not replicas.replica_context():
        return run(_step, batch, settings.axes)
    # No collective can be inside a function of its own, so the step is compiled in parts.
    if kernel is replicas:
        y, moments = normalize(*batch)
    else:
        y, moments = run(normalize, batch, settings.axes)
        together = replicas.pooled_moments if settings.accumulation_steps else replicas.moments_of_all_replicas
        moments = together(moments)
    return y, update(state, moments, settings)


def infer(
    x: tf.Tensor, scale: tf.Tensor | None, offset: tf.Tensor | None, state: State, settings: Settings
) -> tf.Tensor:
    r"""Normalizes `x` by the moving statistics: one affine map per channel.

    $$ y = s \cdot x + (\beta - s \mu) \qquad s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} $$

    Shapes and dtypes are those of `train`. The output of an element depends on that element alone, and the map has all
    its derivatives.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        state: `State`, the moving statistics.
        settings: `Settings`, how to normalize.

    Returns:
        The output, of the dtype and shape of `x`.

    References:
        Ioffe and Szegedy 2015, Algorithm 2, line 11.

    Example:

    >>> state = State(moving_mean=tf.constant([1.0]), moving_variance=tf.constant([4.0]))
    >>> y = infer(tf.constant([[1.0], [3.0]]), None, None, state, Settings(axes=(1,), epsilon=0.0))
    >>> y[:, 0].numpy().tolist()
    [0.0, 1.0]
    """
    dtype = statistics_dtype(x.dtype)
    scale, offset = scale_and_offset(scale, offset, x, settings.axes)
    slope = scale * tf.math.rsqrt(tf.cast(state.moving_variance, dtype) + settings.epsilon)
    return affine(x, slope, offset - tf.cast(state.moving_mean, dtype) * slope, settings.axes)


def affine(x: tf.Tensor, scale: tf.Tensor | None, offset: tf.Tensor | None, axes: tuple[int, ...]) -> tf.Tensor:
    """Computes `scale · x + offset` per channel.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        axes: Tuple of ints, the channel axes of `x`. Scale and offset have its sizes along them.

    Returns:
        The output, of the dtype and shape of `x`.

    Example:

    >>> affine(tf.constant([[1.0], [3.0]]), tf.constant([2.0]), tf.constant([1.0]), axes=(1,)).numpy().tolist()
    [[3.0], [7.0]]
    """
    dtype, rank = statistics_dtype(x.dtype), x.shape.rank
    scale, offset = (broadcastable(each, rank, axes) for each in scale_and_offset(scale, offset, x, axes))
    return tf.cast(tf.cast(x, dtype) * scale + offset, x.dtype)


def normalize(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
    mask: tf.Tensor | None,
    kernel: types.ModuleType,
) -> tuple[tf.Tensor, Moments]:
    """The output of a training step, and the moments of the batch."""
    scale, offset = scale_and_offset(scale, offset, x, settings.axes)
    if settings.renorm is None:
        y, moments = kernel.normalize(x, scale, offset, mask, settings)
        activated = kernel.APPLIES_RELU
    else:  # it comes between normalization and scale
        plain = dataclasses.replace(settings, relu=False)
        normalized, moments = kernel.normalize(x, tf.ones_like(scale), tf.zeros_like(offset), mask, plain)
        y, activated = renormalize(normalized, scale, offset, mask, moments, state, settings), False
    return y if activated or not settings.relu else tf.nn.relu(y), moments


def update(state: State, moments: Moments, settings: Settings) -> State:
    """The statistics after a batch of these moments."""
    if settings.accumulation_steps is not None:
        state, moments = accumulate(state, moments, settings.accumulation_steps)
    count, variance = moments.count, moments.unbiased if settings.unbiased else moments.variance
    momentum, steps = momentum_at(state.steps, settings.momentum, count)
    if settings.renorm is None:
        after = {"moving_variance": moving_average(state.moving_variance, variance, momentum, count)}
    else:
        after = renorm_statistics(state, moments, variance, momentum, settings)
    after |= {"moving_mean": moving_average(state.moving_mean, moments.mean, momentum, count)}
    after |= {} if steps is None else {"steps": steps}
    return dataclasses.replace(state, **{name: tf.stop_gradient(value) for name, value in after.items()})


def _step(x, scale, offset, state, settings, mask, kernel):
    y, moments = normalize(x, scale, offset, state, settings, mask, kernel)
    return y, update(state, moments, settings)

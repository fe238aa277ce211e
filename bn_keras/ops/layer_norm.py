r"""Layer norm, group norm and RMS norm: training and inference alike, each example on its own.

$$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

with the mean and biased variance over the features of one example (layer norm) or over the positions
and channels of one group (group norm). RMS norm leaves the mean where it is:

$$ y = \gamma \frac{x}{\sqrt{\frac1m \sum_i x_i^2 + \epsilon}} $$

Sources: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450; Wu and He 2018,
https://arxiv.org/abs/1803.08494; Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
"""

import tensorflow as tf

from bn_keras.ops.kernels import xla
from bn_keras.ops.moments import broadcastable, moments
from bn_keras.ops.normalize import Passes, normalize_over, scale_and_offset
from bn_keras.ops.traces import run, see


def layer_norm(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    axes: tuple[int, ...],
    epsilon: float,
    training: bool = False,
) -> tf.Tensor:
    """Normalizes `x` over `axes`.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        axes: Tuple of ints, the axes of the features. Scale and offset have the sizes of `x` along them.
        epsilon: Float ≥ 0 that is added to the variance.
        training: Bool, whether XLA may compile the passes over a large input. Inference uses TensorFlow's ops, which
            any exported model can hold. Defaults to `False`.

    Returns:
        The output, of the dtype and shape of `x`.

    Example:

    >>> layer_norm(tf.constant([[1.0, 3.0]]), None, None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[-1.0, 1.0]]
    """
    return _run(x, scale, offset, axes, Passes(axes, epsilon), training)


def rms_norm(
    x: tf.Tensor, scale: tf.Tensor | None, axes: tuple[int, ...], epsilon: float, training: bool = False
) -> tf.Tensor:
    """Divides `x` by its root mean square over `axes`.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        axes: Tuple of ints, the axes of the features. The scale has the sizes of `x` along them.
        epsilon: Float ≥ 0 that is added to the mean square.
        training: Bool, whether XLA may compile the passes over a large input. Inference uses TensorFlow's ops, which
            any exported model can hold. Defaults to `False`.

    Returns:
        The output, of the dtype and shape of `x`.

    Example:

    >>> rms_norm(tf.constant([[3.0, -3.0]]), None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[1.0, -1.0]]
    """
    return _run(x, scale, None, axes, Passes(axes, epsilon, centered=False), training)


def group_norm(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    axis: int,
    groups: int,
    epsilon: float,
    training: bool = False,
) -> tf.Tensor:
    """Normalizes each example of `x` over its positions and the channels of one group.

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        offset: Tensor β, or `None` for 0.
        axis: Int, the axis of the channels. Scale and offset have one value per channel.
        groups: Int, the number of groups.
        epsilon: Float ≥ 0 that is added to the variance.
        training: Bool, whether XLA may compile the passes over a large input. Inference uses TensorFlow's ops, which
            any exported model can hold. Defaults to `False`.

    Returns:
        The output, of the dtype and shape of `x`.

    Example:

    >>> x = tf.constant([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm(x, None, None, axis=2, groups=2, epsilon=0.0).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    positions = tuple(i for i in range(1, x.shape.rank) if i != axis)
    passes = Passes(positions, epsilon, groups=None if groups == x.shape[axis] else (axis, groups))
    return _run(x, scale, offset, (axis,), passes, training)


def scaled_by_deviation(x: tf.Tensor, scale: tf.Tensor | None, axes: tuple[int, ...], epsilon: float) -> tf.Tensor:
    r"""Divides `x` by its standard deviation over `axes`, as Keras' `rms_scaling=True` does.

    $$ y = \gamma \frac{x}{\sqrt{\sigma^2 + \epsilon}} $$

    Args:
        x: Float tensor, the input.
        scale: Tensor γ, or `None` for 1.
        axes: Tuple of ints, the axes of the features. The scale has the sizes of `x` along them.
        epsilon: Float ≥ 0 that is added to the variance.

    Returns:
        The output, of the dtype and shape of `x`.

    Example:

    >>> scaled_by_deviation(tf.constant([[1.0, 3.0]]), None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[1.0, 3.0]]
    """
    see(x, axes)
    return run(_scaled_by_deviation, (x, scale, axes, epsilon), axes)


def _run(x, scale, offset, axes, passes, training):
    see(x, axes)
    by_xla = bool(training) and not xla.obstacle_along(x, axes)
    return run(_normalized, (x, scale, offset, axes, passes, by_xla), axes)


def _normalized(x, scale, offset, axes, passes, by_xla):
    scale, offset = scale_and_offset(scale, offset, x, axes)
    along = (broadcastable(each, x.shape.rank, axes) for each in (scale, offset))
    return normalize_over(x, *along, passes, by_xla=by_xla)[0]


def _scaled_by_deviation(x, scale, axes, epsilon):
    scale, _ = scale_and_offset(scale, None, x, axes)
    scale = broadcastable(scale, x.shape.rank, axes)
    _, _, variance = moments(x, list(axes))
    return tf.cast(tf.cast(x, scale.dtype) * scale * tf.math.rsqrt(variance + epsilon), x.dtype)

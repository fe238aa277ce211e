r"""Layer norm, group norm and RMS norm: each example by itself, training and inference alike.

$$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

with the mean and biased variance over the features of one example (layer norm) or over the positions
and channels of one group (group norm). RMS norm leaves the mean where it is:

$$ y = \gamma \frac{x}{\sqrt{\frac1m \sum_i x_i^2 + \epsilon}} $$

Sources: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450; Wu and He 2018,
https://arxiv.org/abs/1803.08494; Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
"""

import tensorflow as tf

from bn_keras.ops.compiler import compiled
from bn_keras.ops.moments import broadcastable, moments, statistics_dtype
from bn_keras.ops.normalize import normalize, scale_and_offset


@compiled
def layer_norm(x, gamma, beta, *, axes, epsilon):
    """Normalizes `x` over `axes`, along which γ and β have its sizes; `None` for 1 and 0.

    >>> layer_norm(tf.constant([[1.0, 3.0]]), None, None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[-1.0, 1.0]]
    """
    return normalize(x, *_broadcastable_parameters(gamma, beta, x, axes), axes, epsilon)[0]


@compiled
def rms_norm(x, gamma, *, axes, epsilon):
    """Divides `x` by its root mean square over `axes`, along which γ has its sizes.

    >>> rms_norm(tf.constant([[3.0, -3.0]]), None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[1.0, -1.0]]
    """
    return normalize(x, *_broadcastable_parameters(gamma, None, x, axes), axes, epsilon, centered=False)[0]


@compiled
def group_norm(x, gamma, beta, *, axis, groups, epsilon):
    """Normalizes each example of `x` over its positions and the channels of one group.

    γ and β have one value for each channel along `axis`.

    >>> x = tf.constant([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm(x, None, None, axis=2, groups=2, epsilon=0.0).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    gamma, beta = _broadcastable_parameters(gamma, beta, x, (axis,))
    sizes = tf.unstack(tf.shape(x), num=x.shape.rank)
    channels = [groups, x.shape[axis] // groups]

    def grouped(values, sizes):
        return tf.reshape(values, [*sizes[:axis], *channels, *sizes[axis + 1 :]])

    ones = [1] * len(sizes)
    axes = [i for i in range(1, len(sizes) + 1) if i != axis]
    y = normalize(grouped(x, sizes), grouped(gamma, ones), grouped(beta, ones), axes, epsilon)[0]
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)


@compiled
def scaled_by_deviation(x, gamma, *, axes, epsilon):
    """x γ / √(σ² + ε): what Keras' `rms_scaling=True` computes, which is not the root mean square."""
    values = tf.cast(x, statistics_dtype(x.dtype))
    gamma, _ = _broadcastable_parameters(gamma, None, x, axes)
    _, _, variance = moments(values, list(axes))
    return tf.cast(values * gamma * tf.math.rsqrt(variance + epsilon), x.dtype)


def _broadcastable_parameters(gamma, beta, x, axes):
    return (broadcastable(each, x.shape.rank, axes) for each in scale_and_offset(gamma, beta, x, axes))

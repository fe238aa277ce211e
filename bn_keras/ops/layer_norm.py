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
from bn_keras.ops.moments import broadcastable, moments
from bn_keras.ops.normalize import normalize, scale_and_offset


@compiled
def layer_norm(x, gamma, beta, *, axes, epsilon, xla=False):
    """Normalizes `x` over `axes`, along which γ and β have its sizes; `None` for 1 and 0.

    `xla` is that of `bn_keras.ops.normalize`, here and below.

    >>> layer_norm(tf.constant([[1.0, 3.0]]), None, None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[-1.0, 1.0]]
    """
    return normalize(x, *_broadcastable_parameters(gamma, beta, x, axes), axes, epsilon, xla=xla)[0]


@compiled
def rms_norm(x, gamma, *, axes, epsilon, xla=False):
    """Divides `x` by its root mean square over `axes`, along which γ has its sizes.

    >>> rms_norm(tf.constant([[3.0, -3.0]]), None, axes=(1,), epsilon=0.0).numpy().tolist()
    [[1.0, -1.0]]
    """
    gamma, beta = _broadcastable_parameters(gamma, None, x, axes)
    return normalize(x, gamma, beta, axes, epsilon, centered=False, xla=xla)[0]


@compiled
def group_norm(x, gamma, beta, *, axis, groups, epsilon, xla=False):
    """Normalizes each example of `x` over its positions and the channels of one group.

    γ and β have one value for each channel along `axis`.

    >>> x = tf.constant([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm(x, None, None, axis=2, groups=2, epsilon=0.0).numpy().tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    gamma, beta = _broadcastable_parameters(gamma, beta, x, (axis,))
    positions = [i for i in range(1, x.shape.rank) if i != axis]
    groups = None if groups == x.shape[axis] else (axis, groups)
    return normalize(x, gamma, beta, positions, epsilon, groups=groups, xla=xla)[0]


@compiled
def scaled_by_deviation(x, gamma, *, axes, epsilon):
    """x γ / √(σ² + ε): what Keras' `rms_scaling=True` computes, which is not the root mean square."""
    gamma, _ = _broadcastable_parameters(gamma, None, x, axes)
    _, _, variance = moments(x, list(axes))
    return tf.cast(tf.cast(x, gamma.dtype) * gamma * tf.math.rsqrt(variance + epsilon), x.dtype)


def _broadcastable_parameters(gamma, beta, x, axes):
    return (broadcastable(each, x.shape.rank, axes) for each in scale_and_offset(gamma, beta, x, axes))

"""Ghost batch norm: a batch normalized a few examples at a time.

Source: Hoffer, Hubara and Soudry 2017, "Train longer, generalize better", https://arxiv.org/abs/1705.08741,
section 4.
"""

import tensorflow as tf

from bn_keras.ops.moments import broadcastable, other_axes, statistics_dtype
from bn_keras.ops.normalize import normalize


def batch_norm_in_groups(x, gamma, beta, weights, axes, epsilon, size):
    """Every `size` examples by themselves; moments are `(groups, channels)`."""
    rank, channels = x.shape.rank, gamma.shape
    examples = tf.shape(x)[0]
    groups = -(-examples // size)
    missing = groups * size - examples

    def grouped(values):
        values = tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1))
        return tf.reshape(values, tf.concat([[groups, size], tf.shape(values)[1:]], 0))

    dtype = statistics_dtype(x.dtype)
    present = tf.ones([examples] + [1] * (rank - 1), dtype)
    if weights is not None:
        present *= tf.cast(weights, dtype)
    shifted = tuple(axis + 1 for axis in axes)
    gamma, beta = (broadcastable(values, rank + 1, shifted) for values in (gamma, beta))
    reduced = [i for i in other_axes(rank + 1, shifted) if i > 0]
    y, *moments_of_groups = normalize(grouped(x), gamma, beta, reduced, epsilon, grouped(present))
    y = tf.reshape(y, tf.concat([[groups * size], tf.shape(x)[1:]], 0))[:examples]
    shape = tf.concat([[groups], channels], 0)
    count, mean, variance = (
        tf.reshape(tf.broadcast_to(each, tf.shape(moments_of_groups[1])), shape) for each in moments_of_groups
    )
    return tf.ensure_shape(y, x.shape), count, mean, variance

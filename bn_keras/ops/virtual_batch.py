"""Ghost batch norm: a batch normalized a few examples at a time.

Source: Hoffer, Hubara and Soudry 2017, "Train longer, generalize better", https://arxiv.org/abs/1705.08741,
section 4.
"""

import tensorflow as tf

from bn_keras.ops.moments import broadcastable, other_axes, statistics_dtype
from bn_keras.ops.normalize import normalize


def batch_norm_in_groups(x, gamma, beta, weights, axes, epsilon, size):
    """Every `size` examples by themselves; moments are `(groups, channels)`."""
    rank, channels, dtype = x.shape.rank, gamma.shape, statistics_dtype(x.dtype)
    present = tf.ones([tf.shape(x)[0]] + [1] * (rank - 1), dtype)
    if weights is not None:
        present *= tf.cast(weights, dtype)
    shifted = tuple(axis + 1 for axis in axes)
    gamma, beta = (broadcastable(values, rank + 1, shifted) for values in (gamma, beta))
    reduced = [i for i in other_axes(rank + 1, shifted) if i > 0]
    grouped = _grouped(x, size)
    y, *moments_of_groups = normalize(grouped, gamma, beta, reduced, epsilon, _in_groups(present, size))
    y = tf.ensure_shape(_ungrouped(y, x, size), x.shape)
    shape = tf.concat([tf.shape(grouped)[:1], channels], 0)
    count, mean, variance = (
        tf.reshape(tf.stop_gradient(tf.broadcast_to(each, tf.shape(moments_of_groups[1]))), shape)
        for each in moments_of_groups
    )
    return y, count, mean, variance


# Each of these two is the gradient of the other. TensorFlow's own gradients take the shapes of the forward pass from
# it as tensors, which XLA has to know: it would compile every batch anew.


def _grouped(x, size):
    return tf.custom_gradient(lambda x: (_in_groups(x, size), lambda dy: _ungrouped(dy, x, size)))(x)


def _ungrouped(y, x, size):
    """`y` without its groups, as many examples as `x` has."""
    return tf.custom_gradient(lambda y: (_out_of_groups(y, x), lambda dx: _grouped(dx, size)))(y)


def _in_groups(values, size):
    sizes = tf.shape(values)
    groups = -(-sizes[0] // size)
    values = tf.pad(values, [[0, groups * size - sizes[0]]] + [[0, 0]] * (values.shape.rank - 1))
    return tf.reshape(values, tf.concat([[groups, size], sizes[1:]], 0))


def _out_of_groups(values, x):
    sizes = tf.shape(x)
    return tf.reshape(values, tf.concat([[-1], sizes[1:]], 0))[: sizes[0]]

"""TensorFlow's fused kernel: where it can be used, where it pays, and how any input is folded into it."""

import math

import tensorflow as tf

from bn_keras.ops.compiler import in_xla_context
from bn_keras.ops.moments import element_count, other_axes

# Below this size the several small ops of the composed path cost less than one launch of
# TensorFlow's fused kernel and its reshapes: `make bench` shows where the two cross.
FUSED_FROM_ELEMENTS = 2**16
ASSUMED_BATCH = 32


def fused_batch_norm(x, gamma, beta, axes, epsilon):
    """TensorFlow's kernel; the gradient registered for it is the one above."""
    folded, data_format = _fold(x, axes)
    result = tf.raw_ops.FusedBatchNormV3(
        x=folded,
        scale=tf.reshape(gamma, [-1]),
        offset=tf.reshape(beta, [-1]),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        data_format=data_format,
        is_training=True,
    )
    y = result.y if folded is x else tf.ensure_shape(tf.reshape(result.y, tf.shape(x)), x.shape)
    count = element_count(x, other_axes(x.shape.rank, axes), tf.float32)
    # The kernel returns the unbiased variance.
    variance = tf.math.divide_no_nan(result.batch_variance * (count - 1), count)
    mean, variance = (tf.reshape(each, gamma.shape) for each in (result.batch_mean, variance))
    return y, count, mean, variance


def _fold(x, axes):
    """`x` as the rank 4 that the kernel takes, without moving an element."""
    rank, channels = x.shape.rank, math.prod(x.shape[axis] for axis in axes)
    if axes[-1] == rank - 1:
        folded = x if rank == 4 and len(axes) == 1 else tf.reshape(x, [-1, 1, 1, channels])
        return folded, "NHWC"
    sizes = tf.shape(x)
    before, after = tf.reduce_prod(sizes[: axes[0]]), tf.reduce_prod(sizes[axes[-1] + 1 :])
    return tf.reshape(x, tf.stack([before, channels, after, 1])), "NCHW"


def fused_or_not(wanted, x, axes, weights, virtual_batch_size):
    """Whether to use the kernel: `True`, `False` or `None` as wanted, or an error that says why it cannot be."""
    obstacle = obstacle_to_fusing(x.dtype, axes, weights, virtual_batch_size)
    if wanted and obstacle:
        raise ValueError(
            f"`fused=True` cannot be had {obstacle}. Received: an input of shape {x.shape} and dtype "
            f"{x.dtype.name}, axes {tuple(axes)}. Use fused=None, which takes the kernel where it can."
        )
    return obstacle is None and pays(x.shape) if wanted is None else wanted


def obstacle_to_fusing(dtype, axes, weights, virtual_batch_size):
    """Why TensorFlow's kernel cannot be used, or `None`."""
    if dtype not in (tf.float32, tf.bfloat16, tf.float16):
        return "for this dtype: the kernel takes float32, bfloat16 and float16"
    if weights is not None:
        return "with a mask: the kernel counts every element"
    if virtual_batch_size is not None:
        return "with virtual batches: the kernel takes moments of the whole batch"
    if axes[-1] - axes[0] >= len(axes):
        return "for axes that do not lie side by side"
    if in_xla_context():
        return "under XLA, which lowers the kernel to E[x²] − E[x]² and cancels"
    return None


def pays(shape):
    sizes = shape.as_list()
    sizes[0] = sizes[0] or ASSUMED_BATCH
    return None in sizes or math.prod(sizes) >= FUSED_FROM_ELEMENTS

"""TensorFlow's fused kernel, and how any input is folded into it."""

import math

import tensorflow as tf

from bn_keras.ops.compiler import accelerated
from bn_keras.ops.moments import broadcastable, element_count, other_axes
from bn_keras.ops.normalize import normalize

# A mean of so many deviations is lost to 10⁻⁴ of one in the kernel's sums, and ten times that is lost ten times more.
FAR = 32
REDUCED = {"NHWC": [0, 1, 2], "NCHW": [0, 2, 3]}
CHANNELS = {"NHWC": 3, "NCHW": 1}


def fused_batch_norm(x, gamma, beta, axes, epsilon):
    """TensorFlow's kernel on any input that it can take; the arguments and what is returned are those of `normalize`.

    On a CPU the kernel sums in float32 and loses a mean that is large against the deviation. Such a batch is
    normalized again by the composed path, and the gradient kernel gets its moments.
    """
    folded, data_format = _fold(x, axes)
    # A GPU's kernel keeps other things for its gradient than the moments, and is left alone.
    run = _kernel if accelerated() else _checked_kernel
    gamma, beta = tf.reshape(gamma, [-1]), tf.reshape(beta, [-1])
    y, mean, variance = run(folded, gamma, beta, epsilon, data_format)
    y = y if folded is x else tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)
    count = element_count(x, other_axes(x.shape.rank, axes), tf.float32)
    sizes = [x.shape[axis] for axis in axes]
    return y, count, tf.reshape(mean, sizes), tf.reshape(variance, sizes)


def _kernel(x, gamma, beta, epsilon, data_format):
    """The output, the mean and the biased variance; differentiable as the kernel is."""
    result = _forward(x, gamma, beta, epsilon, data_format)
    return result.y, result.batch_mean, _biased(result.batch_variance, x, data_format)


def _checked_kernel(x, gamma, beta, epsilon, data_format):
    @tf.custom_gradient
    def differentiable(x, gamma, beta):
        result = _forward(x, gamma, beta, epsilon, data_format)
        kept = result.y, result.batch_mean, _biased(result.batch_variance, x, data_format)
        far = tf.reduce_any(tf.square(kept[1]) > FAR**2 * (kept[2] + epsilon))
        y, mean, variance = tf.cond(far, lambda: _again(x, gamma, beta, epsilon, data_format), lambda: kept)
        # The gradient kernel's own gradient goes by x; that of a condition would be asked for and is not to be had.
        reserved = [tf.stop_gradient(each) for each in (mean, variance, result.reserve_space_3)]

        def gradient(dy, *of_the_moments):
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy,
                x=x,
                scale=gamma,
                reserve_space_1=reserved[0],
                reserve_space_2=reserved[1],
                reserve_space_3=reserved[2],
                epsilon=epsilon,
                data_format=data_format,
                is_training=True,
            )[:3]

        return (y, mean, variance), gradient

    return differentiable(x, gamma, beta)


def _forward(x, gamma, beta, epsilon, data_format):
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        data_format=data_format,
        is_training=True,
    )


def _biased(variance, x, data_format):
    """The kernel returns the unbiased variance."""
    count = element_count(x, REDUCED[data_format], tf.float32)
    return tf.math.divide_no_nan(variance * (count - 1), count)


def _again(x, gamma, beta, epsilon, data_format):
    """What the kernel does, with moments that do not cancel."""
    gamma, beta = (broadcastable(each, 4, (CHANNELS[data_format],)) for each in (gamma, beta))
    y, _, mean, variance = normalize(x, gamma, beta, REDUCED[data_format], epsilon)
    return y, tf.reshape(mean, [-1]), tf.reshape(variance, [-1])


def _fold(x, axes):
    """`x` as the rank 4 that the kernel takes, without moving an element."""
    rank, channels = x.shape.rank, math.prod(x.shape[axis] for axis in axes)
    if axes[-1] == rank - 1:
        folded = x if rank == 4 and len(axes) == 1 else tf.reshape(x, [-1, 1, 1, channels])
        return folded, "NHWC"
    sizes = tf.shape(x)
    before, after = tf.reduce_prod(sizes[: axes[0]]), tf.reduce_prod(sizes[axes[-1] + 1 :])
    return tf.reshape(x, tf.stack([before, channels, after, 1])), "NCHW"

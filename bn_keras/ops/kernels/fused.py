"""TensorFlow's fused kernel, and how any input is folded into it."""

import functools
import math
import pathlib
import platform

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context
from bn_keras.ops.moments import Moments, broadcastable, element_count, moments_per_channel, other_axes
from bn_keras.ops.normalize import Passes, normalize_over
from bn_keras.ops.settings import Settings

APPLIES_RELU = False
ATTRIBUTES = ("epsilon",)

# Below it the several small ops cost less than one launch of the kernel: docs/performance.md.
FROM_ELEMENTS = 2**17
PROCESSORS = pathlib.Path("/proc/cpuinfo")
# A mean of so many deviations is lost to 10⁻⁴ of one in the kernel's sums, and ten times that is lost ten times more.
FAR = 32
REDUCED = {"NHWC": (0, 1, 2), "NCHW": (0, 2, 3)}
CHANNELS = {"NHWC": 3, "NCHW": 1}


def obstacle(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> str | None:
    axes = settings.axes
    if x.dtype not in (tf.float32, tf.bfloat16, tf.float16):
        return "for this dtype: the kernel takes float32, bfloat16 and float16"
    if mask is not None:
        return "with a mask: the kernel counts every element"
    if settings.virtual_batch_size is not None:
        return "with virtual batches: the kernel takes moments of the whole batch"
    if axes[-1] - axes[0] >= len(axes):
        return "for axes that do not lie side by side"
    if in_xla_context():
        return "under XLA, which lowers the kernel to E[x²] − E[x]² and cancels"
    return None


def is_quick(x: tf.Tensor, settings: Settings) -> bool:
    """Whether the kernel is at least as fast here as what XLA makes of single ops."""
    return kernel_is_vectorized() and settings.axes[-1] == x.shape.rank - 1


@functools.cache
def kernel_is_vectorized() -> bool:
    """Whether the processor is one that the kernel was written for: oneDNN's, with the channels last, needs AVX-512.

    Elsewhere it takes twice as long as what XLA makes of single ops. A processor that cannot be told is trusted.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not PROCESSORS.exists():
        return True
    return "avx512f" in PROCESSORS.read_text()


def normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    """Runs the kernel.

    On a CPU the kernel sums in float32 and loses a mean that is large against the deviation. Such a batch is
    normalized again by the composed path, and the gradient kernel gets its moments.
    """
    folded, data_format = _fold(x, settings.axes)
    # A GPU's kernel keeps other things for its gradient than the moments, and is left alone.
    run = _kernel if accelerated() else _checked_kernel
    scale, offset = tf.reshape(scale, [-1]), tf.reshape(offset, [-1])
    y, mean, variance = run(folded, scale, offset, settings.epsilon, data_format)
    y = y if folded is x else tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)
    count = element_count(x, other_axes(x.shape.rank, settings.axes), tf.float32)
    return y, moments_per_channel(count, mean, variance, [x.shape[axis] for axis in settings.axes])


def _kernel(x, scale, offset, epsilon, data_format):
    """The output, the mean and the biased variance; differentiable as the kernel is."""
    result = _forward(x, scale, offset, epsilon, data_format)
    return result.y, result.batch_mean, _biased(result.batch_variance, x, data_format)


def _checked_kernel(x, scale, offset, epsilon, data_format):
    @tf.custom_gradient
    def differentiable(x, scale, offset):
        result = _forward(x, scale, offset, epsilon, data_format)
        kept = result.y, result.batch_mean, _biased(result.batch_variance, x, data_format)
        far = tf.reduce_any(tf.square(kept[1]) > FAR**2 * (kept[2] + epsilon))
        y, mean, variance = tf.cond(far, lambda: _again(x, scale, offset, epsilon, data_format), lambda: kept)
        # The gradient kernel's own gradient goes by x. TensorFlow cannot differentiate the condition instead.
        reserved = [tf.stop_gradient(each) for each in (mean, variance, result.reserve_space_3)]

        def gradient(dy, *of_the_moments):
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy,
                x=x,
                scale=scale,
                reserve_space_1=reserved[0],
                reserve_space_2=reserved[1],
                reserve_space_3=reserved[2],
                epsilon=epsilon,
                data_format=data_format,
                is_training=True,
            )[:3]

        return (y, mean, variance), gradient

    return differentiable(x, scale, offset)


def _forward(x, scale, offset, epsilon, data_format):
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
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


def _again(x, scale, offset, epsilon, data_format):
    """What the kernel does, with moments that do not cancel."""
    along = (broadcastable(each, 4, (CHANNELS[data_format],)) for each in (scale, offset))
    y, _, mean, variance = normalize_over(x, *along, Passes(REDUCED[data_format], epsilon))
    return y, tf.reshape(mean, [-1]), tf.reshape(variance, [-1])


def _fold(x: tf.Tensor, axes: tuple[int, ...]) -> tuple[tf.Tensor, str]:
    """`x` as the rank 4 that the kernel takes, without moving an element."""
    rank, channels = x.shape.rank, math.prod(x.shape[axis] for axis in axes)
    if axes[-1] == rank - 1:
        folded = x if rank == 4 and len(axes) == 1 else tf.reshape(x, [-1, 1, 1, channels])
        return folded, "NHWC"
    sizes = tf.shape(x)
    before, after = tf.reduce_prod(sizes[: axes[0]]), tf.reduce_prod(sizes[axes[-1] + 1 :])
    return tf.reshape(x, tf.stack([before, channels, after, 1])), "NCHW"

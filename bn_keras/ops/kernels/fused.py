"""TensorFlow's fused kernel, and how any input is folded into it."""

import functools
import math
import pathlib
import platform

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context
from bn_keras.ops.moments import (
    Moments,
    broadcastable,
    element_count,
    moments_per_channel,
    other_axes,
    shifted_moments,
)
from bn_keras.ops.normalize import Passes, normalize_over
from bn_keras.ops.settings import Settings
from bn_keras.ops.traces import run_as_function

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
    """Whether the kernel is at least as fast here as what XLA makes of single ops: always on an accelerator."""
    return accelerated() or (kernel_is_vectorized() and settings.axes[-1] == x.shape.rank - 1)


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
    scale, offset = tf.reshape(scale, [-1]), tf.reshape(offset, [-1])
    arguments = folded, scale, offset, settings.epsilon, data_format
    # TensorFlow's forward mode fails on the condition of the CPU's kernel in a graph, unless a function hides it.
    y, mean, variance = run_as_function(_kernel, arguments, (CHANNELS[data_format],))
    y = tf.reshape(y, tf.shape(x))
    y.set_shape(x.shape)
    count = element_count(x, other_axes(x.shape.rank, settings.axes), tf.float32)
    return y, moments_per_channel(count, mean, variance, [x.shape[axis] for axis in settings.axes])


def _kernel(x, scale, offset, epsilon, data_format):
    """The output, the mean and the biased variance, of which the output has a gradient."""

    @tf.custom_gradient
    def differentiable(x, scale, offset):
        result = _forward(x, scale, offset, epsilon, data_format)
        y, mean, variance = kept = result.y, result.batch_mean, _biased(result.batch_variance, x, data_format)
        reserved = result.reserve_space_1, result.reserve_space_2, result.reserve_space_3
        if not accelerated():  # a GPU's kernel does not cancel, and keeps other things for its gradient than moments
            far = tf.reduce_any(tf.square(mean) > FAR**2 * (variance + epsilon))
            y, mean, variance = tf.cond(far, lambda: _again(x, scale, offset, epsilon, data_format), lambda: kept)
            reserved = mean, variance, result.reserve_space_3
        # The derivatives of the gradient go by x.
        reserved = tuple(map(tf.stop_gradient, reserved))

        def gradient(dy, *of_the_moments):
            return _gradient(x, dy, scale, reserved, epsilon, data_format)

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


def _gradient(x, dy, scale, reserved, epsilon, data_format):
    """The gradients of x, γ and β, by the kernel.

    TensorFlow's own derivative of this kernel asks a GradientTape, which sees nothing within a ForwardAccumulator:
    forward mode gave None there.
    """
    # In a function, the tensors of the forward pass belong to another graph, which further derivatives do not see.
    x, scale, *reserved = map(tf.identity, (x, scale, *reserved))

    @tf.custom_gradient
    def differentiable(x, dy, scale):
        gradients = tf.raw_ops.FusedBatchNormGradV3(
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

        def second(*vectors):
            return _second_derivatives(x, dy, scale, *vectors, epsilon, data_format)

        return gradients, second

    return differentiable(x, dy, scale)


def _second_derivatives(x, dy, scale, u, v, w, epsilon, data_format):
    r"""The gradients of x, dy and γ, of the loss $\sum u \, dx + v \, d\gamma + w \, d\beta$.

    With $E$ the mean over the elements of a channel, $s = 1 / \sqrt{\sigma^2 + \epsilon}$,
    $a = E[u \, dy] - E[u] E[dy] - E[u \hat x] E[dy \, \hat x]$ and
    $q = v \, dy - \gamma s (u E[dy \, \hat x] + dy E[u \hat x])$,

    $$ \frac{\partial}{\partial dy} = \gamma s (u - E[u] - \hat x E[u \hat x]) + v \hat x + w \qquad
       \frac{\partial}{\partial \gamma} = m s a \qquad
       \frac{\partial}{\partial x} = s (q - E[q] - \hat x E[q \hat x]) - \gamma s^2 a \hat x $$
    """
    reduced, dtypes = REDUCED[data_format], (x.dtype, dy.dtype)
    count, pivot, correction, variance = shifted_moments(x, reduced)
    s = tf.math.rsqrt(variance + epsilon)
    x, dy, u = (tf.cast(each, s.dtype) for each in (x, dy, u))
    x = (x - pivot - correction) * s
    scale, v, w = (broadcastable(each, 4, (CHANNELS[data_format],)) for each in (scale, v, w))

    def mean(values):
        return tf.math.divide_no_nan(tf.reduce_sum(values, reduced, keepdims=True), count)

    u_mean, dy_mean, u_slope, dy_slope = mean(u), mean(dy), mean(u * x), mean(dy * x)
    a = mean(u * dy) - u_mean * dy_mean - u_slope * dy_slope
    q = v * dy - scale * s * (u * dy_slope + dy * u_slope)
    of_dy = scale * s * (u - u_mean - x * u_slope) + v * x + w
    of_x = s * (q - mean(q) - x * mean(q * x)) - scale * s * s * a * x
    return tf.cast(of_x, dtypes[0]), tf.cast(of_dy, dtypes[1]), tf.reshape(count * s * a, [-1])


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

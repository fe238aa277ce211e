r"""Kernels of linear layers, normalized per output channel: weight norm and weight standardization.

$$ w = g \frac{v}{\sqrt{\sum_i v_i^2 + \epsilon}} \qquad\qquad
   w = \gamma \frac{v - \mu}{\sqrt{\sigma^2 + \epsilon}} $$

The sum, the mean μ and the biased variance σ² are taken over the fan-in of one output channel, in float32 at least.

Sources: Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868; Qiao et al. 2019,
https://arxiv.org/abs/1903.10520; Brock et al. 2021, https://arxiv.org/abs/2101.08692, for `scaled`.
"""

import math

import tensorflow as tf

from bn_keras.ops.moments import statistics_dtype


def kernel_norms(kernel: tf.Tensor, axes: tuple[int, ...], epsilon: float) -> tf.Tensor:
    """The norm of each output channel of a kernel.

    Args:
        kernel: Float tensor, the kernel v.
        axes: Tuple of ints, the axes of the fan-in, not negative.
        epsilon: Float ≥ 0 that is added to the squared norm.

    Returns:
        Tensor with the sizes of the kernel along the other axes, of float32 at least.

    >>> kernel_norms(tf.constant([[3.0], [4.0]]), axes=(0,), epsilon=0.0).numpy().tolist()
    [5.0]
    """
    kernel = tf.cast(kernel, statistics_dtype(kernel.dtype))
    return tf.sqrt(tf.reduce_sum(tf.square(kernel), axes) + tf.cast(epsilon, kernel.dtype))


def weight_norm(kernel: tf.Tensor, g: tf.Tensor, axes: tuple[int, ...], epsilon: float) -> tf.Tensor:
    """The kernel of direction `kernel` and of norm `g`.

    Args:
        kernel: Float tensor, the kernel v.
        g: Tensor with the sizes of the kernel along the axes that are not in `axes`.
        axes: Tuple of ints, the axes of the fan-in, not negative.
        epsilon: Float ≥ 0 that is added to the squared norm.

    Returns:
        Tensor of the shape of the kernel, of float32 at least.

    >>> weight_norm(tf.constant([[3.0], [4.0]]), tf.constant([10.0]), axes=(0,), epsilon=0.0).numpy().tolist()
    [[6.0], [8.0]]
    """
    norms = kernel_norms(kernel, axes, epsilon)
    factor = tf.cast(g, norms.dtype) / norms
    return tf.cast(kernel, norms.dtype) * along_outputs(factor, kernel, axes)


def weight_standardization(
    kernel: tf.Tensor, gain: tf.Tensor | None, axes: tuple[int, ...], epsilon: float, scaled: bool = False
) -> tf.Tensor:
    """The kernel with mean 0 and variance 1 in each output channel.

    Args:
        kernel: Float tensor, the kernel v.
        gain: Tensor γ with the sizes of the kernel along the axes that are not in `axes`, or `None` for 1.
        axes: Tuple of ints, the axes of the fan-in, not negative.
        epsilon: Float ≥ 0 that is added to the variance.
        scaled: Bool, whether to divide by the root of the fan-in, so that the norm of a channel is 1. Defaults to
            `False`.

    Returns:
        Tensor of the shape of the kernel, of float32 at least.

    >>> weight_standardization(tf.constant([[3.0], [5.0]]), None, axes=(0,), epsilon=0.0).numpy().tolist()
    [[-1.0], [1.0]]
    """
    kernel = tf.cast(kernel, statistics_dtype(kernel.dtype))
    centered = kernel - tf.reduce_mean(kernel, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axes)
    factor = tf.math.rsqrt(variance + tf.cast(epsilon, kernel.dtype))
    if gain is not None:
        factor *= tf.cast(gain, kernel.dtype)
    if scaled:
        factor /= math.sqrt(fan_in(kernel.shape, axes))
    return centered * along_outputs(factor, kernel, axes)


def fan_in(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """The number of weights of one output channel.

    >>> fan_in((3, 3, 8, 16), axes=(0, 1, 2))
    72
    """
    return math.prod(shape[axis] for axis in axes)


def along_outputs(values: tf.Tensor, kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """A value per output channel, to be broadcast over the fan-in."""
    return tf.reshape(values, [1 if axis in axes else size for axis, size in enumerate(kernel.shape)])

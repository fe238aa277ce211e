"""Which implementation a training step takes: TensorFlow's kernel, its single ops, or XLA's compilation of those.

All give the same numbers, up to rounding. `docs/performance.md` has the measurements behind the sizes.
"""

import functools
import math
import pathlib
import platform

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context

# Below these the several small ops cost less than one launch of the kernel, or than what XLA takes to compile.
FUSED_FROM_ELEMENTS = 2**17
XLA_FROM_ELEMENTS = 2**18
ASSUMED_BATCH = 32
PROCESSORS = pathlib.Path("/proc/cpuinfo")


def fused_or_not(wanted, x, axes, weights, virtual_batch_size):
    """Whether to use the kernel: `True`, `False` or `None` as wanted, or an error that says why it cannot be."""
    obstacle = obstacle_to_fusing(x.dtype, axes, weights, virtual_batch_size)
    if wanted and obstacle:
        raise ValueError(
            f"`fused=True` cannot be had {obstacle}. Received: an input of shape {x.shape} and dtype "
            f"{x.dtype.name}, axes {tuple(axes)}. Use fused=None, which takes the kernel where it can."
        )
    if wanted is not None:
        return wanted
    quick = kernel_is_vectorized() and axes[-1] == x.shape.rank - 1
    if obstacle or (xla_pays(x, weights) and not quick):
        return False
    return elements(x.shape, otherwise=math.inf) >= (FUSED_FROM_ELEMENTS if quick else XLA_FROM_ELEMENTS)


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


def xla_pays(x, weights=None, training=True):
    """Whether the passes over `x` gain from being compiled by XLA one by one.

    XLA compiles every shape anew, so all sizes but the batch have to be known, and the input has to be large. An
    accelerator has kernels that are as good, and within XLA there is nothing left to do. Inference is left to
    TensorFlow's ops, which any exported model can hold.
    """
    if not training or weights is not None or elements(x.shape) < XLA_FROM_ELEMENTS:
        return False
    possible = tf.test.is_built_with_xla() and not tf.config.functions_run_eagerly()
    return possible and not accelerated() and not in_xla_context()


def elements(shape, otherwise=0):
    """How many there are, in a batch of 32 where its size is not known; `otherwise` where others are not."""
    sizes = shape.as_list()
    sizes[0] = sizes[0] or ASSUMED_BATCH
    return otherwise if None in sizes else math.prod(sizes)


@functools.cache
def kernel_is_vectorized():
    """Whether the processor is one that the kernel was written for: oneDNN's, with the channels last, needs AVX-512.

    Elsewhere it takes twice as long as what XLA makes of single ops. Where the processor cannot be told it is
    trusted.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not PROCESSORS.exists():
        return True
    return "avx512f" in PROCESSORS.read_text()

"""The passes of the single ops, the forward and the backward pass each compiled by XLA; with the ReLU in them.

`docs/performance.md` has the measurements behind the size.
"""

import dataclasses

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context
from bn_keras.ops.kernels import composed, elements
from bn_keras.ops.moments import Moments, moments_per_channel
from bn_keras.ops.normalize import normalize_over
from bn_keras.ops.settings import Settings
from bn_keras.ops.traces import is_steady

APPLIES_RELU = True
ATTRIBUTES = ()

FROM_ELEMENTS = 2**18  # below, the single ops cost less than what XLA takes to compile them


def obstacle(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> str | None:
    return "with a mask: the slices of the sums ignore it" if mask is not None else obstacle_along(x, settings.axes)


def obstacle_along(x: tf.Tensor, axes: tuple[int, ...]) -> str | None:
    """Why the passes over `x`, with the channels at `axes`, gain nothing from XLA.

    An accelerator has kernels that are as good, and within XLA there is nothing left to do.
    """
    if elements(x.shape) < FROM_ELEMENTS:
        return "for a small input, or one of unknown sizes"
    if not tf.test.is_built_with_xla() or tf.config.functions_run_eagerly():
        return "without XLA"
    if accelerated() or in_xla_context():
        return "on an accelerator or within XLA"
    return None if is_steady(x, axes) else "for shapes that keep changing: XLA compiles each of them"


def normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    along, passes = composed.over_the_rest(x, scale, offset, settings)
    passes = dataclasses.replace(passes, relu=settings.relu)
    y, *moments = normalize_over(x, *along, passes, by_xla=True)
    return y, moments_per_channel(*moments, scale.shape)

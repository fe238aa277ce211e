"""TensorFlow's single ops: takes every input, every mask and every compiler."""

import tensorflow as tf

from bn_keras.ops.moments import Moments, broadcastable, moments_per_channel, other_axes
from bn_keras.ops.normalize import Passes, normalize_over
from bn_keras.ops.settings import Settings

APPLIES_RELU = False
ATTRIBUTES = ()


def obstacle(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> str | None:
    return None


def normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    return by_passes(x, scale, offset, mask, settings, relu=False, by_xla=False)


def by_passes(
    x: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    settings: Settings,
    relu: bool,
    by_xla: bool,
) -> tuple[tf.Tensor, Moments]:
    """The passes of `bn_keras.ops.normalize` over all axes but those of the channels."""
    rank, axes = x.shape.rank, settings.axes
    passes = Passes(tuple(other_axes(rank, axes)), settings.epsilon, relu=relu)
    along = (broadcastable(each, rank, axes) for each in (scale, offset))
    y, *moments = normalize_over(x, *along, passes, mask, by_xla)
    return y, moments_per_channel(*moments, scale.shape)

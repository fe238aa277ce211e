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
    along, passes = over_the_rest(x, scale, offset, settings)
    y, *moments = normalize_over(x, *along, passes, mask)
    return y, moments_per_channel(*moments, scale.shape)


def over_the_rest(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, settings: Settings
) -> tuple[list[tf.Tensor], Passes]:
    """Scale and offset that broadcast against `x`, and the passes over all axes but those of the channels."""
    rank, axes = x.shape.rank, settings.axes
    along = [broadcastable(each, rank, axes) for each in (scale, offset)]
    return along, Passes(tuple(other_axes(rank, axes)), settings.epsilon)

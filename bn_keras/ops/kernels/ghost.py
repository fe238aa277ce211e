"""Ghost batch norm: a batch is normalized a few examples at a time.

Source: Hoffer, Hubara and Soudry 2017, "Train longer, generalize better", https://arxiv.org/abs/1705.08741,
section 4.
"""

import tensorflow as tf

from bn_keras.ops.moments import Moments, broadcastable, moments_over_groups, other_axes, statistics_dtype
from bn_keras.ops.normalize import Passes, normalize_over
from bn_keras.ops.settings import Settings

APPLIES_RELU = False
ATTRIBUTES = ()


def obstacle(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> str | None:
    return None if settings.virtual_batch_size else "without a `virtual_batch_size`"


def normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, Moments]:
    """Normalizes every `virtual_batch_size` examples by their own moments, and the rest of the batch likewise."""
    grouped, present, axes = in_virtual_batches(x, mask, settings)
    rank, channels = grouped.shape.rank, scale.shape
    along = (broadcastable(each, rank, axes) for each in (scale, offset))
    reduced = tuple(axis for axis in other_axes(rank, axes) if axis > 0)
    y, *moments = normalize_over(grouped, *along, Passes(reduced, settings.epsilon, padded=mask is None), present)
    y = _ungrouped(y, x, settings.virtual_batch_size)
    y.set_shape(x.shape)
    shape = tf.concat([tf.shape(grouped)[:1], channels], 0)
    sizes = tf.shape(moments[1])
    return y, moments_over_groups(*(tf.reshape(tf.broadcast_to(each, sizes), shape) for each in moments))


def in_virtual_batches(
    x: tf.Tensor, mask: tf.Tensor | None, settings: Settings
) -> tuple[tf.Tensor, tf.Tensor, tuple[int, ...]]:
    """`x` and its mask as `(groups, virtual_batch_size, …)`, filled up by masked examples; and the channel axes."""
    dtype, size = statistics_dtype(x.dtype), settings.virtual_batch_size
    present = tf.ones([tf.shape(x)[0]] + [1] * (x.shape.rank - 1), dtype)
    if mask is not None:
        present *= tf.cast(mask, dtype)
    return _grouped(x, size), _in_groups(present, size), tuple(axis + 1 for axis in settings.axes)


# Each of these two is the gradient of the other. TensorFlow's own gradients take the shapes of the forward pass from
# it as tensors, which XLA has to know: it would compile every batch anew.


def _grouped(x: tf.Tensor, size: int) -> tf.Tensor:
    return tf.custom_gradient(lambda x: (_in_groups(x, size), lambda dy: _ungrouped(dy, x, size)))(x)


def _ungrouped(y: tf.Tensor, x: tf.Tensor, size: int) -> tf.Tensor:
    """`y` without its groups, as many examples as `x` has."""
    return tf.custom_gradient(lambda y: (_out_of_groups(y, x), lambda dx: _grouped(dx, size)))(y)


def _in_groups(values: tf.Tensor, size: int) -> tf.Tensor:
    sizes = tf.shape(values)
    groups = -(-sizes[0] // size)
    values = tf.pad(values, [[0, groups * size - sizes[0]]] + [[0, 0]] * (values.shape.rank - 1))
    return tf.reshape(values, tf.concat([[groups, size], sizes[1:]], 0))


def _out_of_groups(values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    sizes = tf.shape(x)
    return tf.reshape(values, tf.concat([[-1], sizes[1:]], 0))[: sizes[0]]

r"""A scale and an offset that follow from a condition.

$$ y = \gamma(c) \, x + \beta(c) \qquad \gamma(c) = \gamma + c W_\gamma \qquad \beta(c) = \beta + c W_\beta $$

A class is a condition with a 1 at its place and 0 elsewhere: then $W$ has a row per class.
"""

import math

import tensorflow as tf

from bn_keras.ops.moments import statistics_dtype


def modulate(
    x: tf.Tensor,
    condition: tf.Tensor,
    scale: tuple[tf.Tensor, tf.Tensor] | None,
    offset: tuple[tf.Tensor, tf.Tensor] | None,
    axes: tuple[int, ...],
    masked: bool = False,
) -> tf.Tensor:
    r"""Computes `γ(c) · x + β(c)` per example and channel.

    $$ y = (\gamma + c W_\gamma) x + \beta + c W_\beta $$

    Args:
        x: Float tensor `(batch, …)`.
        condition: Float tensor c `(batch, features)`, or of one row for all examples.
        scale: Tuple of the tensors γ, with the sizes of `x` along `axes`, and W_γ, with an axis of features before
            them; or `None` for a scale of 1.
        offset: Tuple of the tensors β and W_β, as in `scale`; or `None` for an offset of 0.
        axes: Tuple of rising ints ≥ 1, the channel axes of `x`.
        masked: Bool, whether elements of `x` may be NaN or infinity. Where the gradient of the output is 0, they do
            not reach the gradients of the weights then. Defaults to `False`.

    Returns:
        The output, of the dtype and shape of `x`. It is computed in float32 at least.

    Example:

    >>> gamma, kernel = tf.constant([1.0]), tf.constant([[0.0], [4.0]])
    >>> modulate(tf.constant([[2.0], [2.0]]), of_classes(tf.constant([0, 1]), 2), (gamma, kernel), None, (1,)).numpy()
    array([[ 2.],
           [10.]], dtype=float32)
    """
    dtype = statistics_dtype(x.dtype)
    y, condition = tf.cast(x, dtype), tf.cast(condition, dtype)

    def of_examples(base, kernel):
        """`base + condition · kernel`, which broadcasts against `x`."""
        sizes = base.shape.as_list()
        flat = tf.reshape(tf.cast(kernel, dtype), [-1, math.prod(sizes)])
        values = tf.linalg.matmul(condition, flat) + tf.reshape(tf.cast(base, dtype), [-1])
        along = dict(zip(axes, sizes, strict=True))
        return tf.reshape(values, [-1, *(along.get(i, 1) for i in range(1, x.shape.rank))])

    if scale is not None:
        # 0 · NaN is 0 in the gradient of the second one.
        y = (tf.math.multiply_no_nan if masked else tf.math.multiply)(y, of_examples(*scale))
    if offset is not None:
        y += of_examples(*offset)
    return tf.cast(y, x.dtype)


def of_classes(classes: tf.Tensor, number: int) -> tf.Tensor:
    """Classes as conditions: rows with a 1 at the place of the class.

    A class out of range gives a row of NaN, as compiled code cannot raise an error on every device.

    >>> of_classes(tf.constant([1, 2]), 2).numpy().tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    classes = tf.reshape(classes, [-1])
    if classes.dtype not in (tf.int32, tf.int64):  # a smaller dtype may not hold the number of classes
        classes = tf.cast(classes, tf.int64)
    rows = tf.one_hot(classes, number)
    known = (classes >= 0) & (classes < number)
    return tf.where(known[:, tf.newaxis], rows, float("nan"))

"""Sums over axes, in the form that TensorFlow or XLA computes fastest.

XLA's backend for processors reduces the values of a function in scalar steps, or writes all of them to memory first.
It computes functions element by element at the speed of the memory. So under XLA the tensors are cut into a few
slices along one summed axis, and the values of the slices are added up: one elementwise pass over each tensor, which
leaves a tensor of the size of one slice to reduce. The partial sums also round less.
"""

import collections.abc

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context

SLICES = 8


def total(
    function: collections.abc.Callable[..., tf.Tensor],
    tensors: list[tf.Tensor],
    axes: collections.abc.Sequence[int],
) -> tf.Tensor:
    """Σ `function(*tensors)` over `axes`, which are kept with size 1.

    Args:
        function: Of tensors to a tensor, element by element.
        tensors: Of one rank; each has the sizes of the first, or 1.
        axes: Non-negative ints.

    Example:

    >>> total(lambda a, b: a * b, [tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 4.0]])], [1]).numpy().tolist()
    [[11.0]]
    """
    axis = sliced_axis(tensors[0].shape, axes)
    if axis is None or accelerated() or not in_xla_context():
        return tf.reduce_sum(function(*tensors), axes, keepdims=True)
    slices, size = _slices_and_size(tensors[0], axis)

    def values(start, stop):
        return function(*(piece(tensor, axis, start, stop) for tensor in tensors))

    added = tf.add_n([values(i * size, (i + 1) * size) for i in range(slices)])
    summed = tf.reduce_sum(added, axes, keepdims=True)
    if tensors[0].shape[axis] == slices * size:
        return summed
    return summed + tf.reduce_sum(values(slices * size, None), axes, keepdims=True)


def first_part(x: tf.Tensor, axes: collections.abc.Sequence[int]) -> tf.Tensor:
    """About an eighth of `x`, from the start of one of the axes; all of it where that is too little to cut.

    >>> first_part(tf.zeros([2, 32]), [1]).shape.as_list()
    [2, 4]
    """
    axis = sliced_axis(x.shape, axes)
    return x if axis is None else piece(x, axis, 0, tf.maximum(_slices_and_size(x, axis)[1], 1))


def sliced_axis(shape: tf.TensorShape, axes: collections.abc.Sequence[int]) -> int | None:
    """The last axis if it is one of `axes`, as its elements are neighbours, or else the longest of them."""
    sizes = {axis: shape[axis] for axis in axes}
    known = {axis: size for axis, size in sizes.items() if size is not None and size >= SLICES // 2}
    if shape.rank - 1 in known:
        return shape.rank - 1
    if known:
        return max(known, key=known.get)
    return next((axis for axis, size in sizes.items() if size is None), None)


def _slices_and_size(x: tf.Tensor, axis: int) -> tuple[int, int | tf.Tensor]:
    """How many slices leave the least, and how long they are."""
    size = x.shape[axis]
    if size is None:
        return SLICES, tf.shape(x)[axis] // SLICES
    slices = min(range(SLICES, SLICES // 2 - 1, -1), key=lambda number: size % number)
    return slices, size // slices


def piece(x: tf.Tensor, axis: int, start: int | tf.Tensor, stop: int | tf.Tensor | None) -> tf.Tensor:
    """`x[…, start:stop, …]`, or `x` where its size is 1."""
    if x.shape[axis] == 1:
        return x
    index = (slice(None),) * axis + (slice(start, stop),)
    if x.dtype != tf.bfloat16:
        return x[index]
    # XLA on processors cuts a bfloat16 tensor by way of a copy in float32.
    return tf.bitcast(tf.bitcast(x, tf.uint16)[index], tf.bfloat16)

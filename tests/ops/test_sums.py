"""Sums in slices: of every size, and no less exact than they have to be."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.ops.moments import moments
from bn_keras.ops.sums import first_part, sliced_axis, total

SHAPES_AND_AXES = [
    ((8, 16), [0]),
    ((13, 5), [0]),
    ((3, 64), [1]),
    ((3, 149), [1]),
    ((3, 3), [1]),
    ((4, 17, 3, 5), [0, 1, 2]),
    ((2, 5, 28), [0, 2]),
    ((0, 4), [0]),
]


@pytest.mark.sample(19)
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "axes"), SHAPES_AND_AXES)
def test_total(random, shape, axes, dtype, known, jit_compile):
    a, b = (tf.cast(random.normal(size=shape), dtype) for _ in range(2))
    row = random.normal(size=[1 if i in axes else size for i, size in enumerate(shape)]).astype(np.float32)

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec(shape if known else None, dtype)] * 2)
    def product(a, b):
        a, b = (tf.ensure_shape(each, [None, *shape[1:]]) for each in (a, b))
        return total(lambda a, b, c: tf.cast(a, tf.float32) * tf.cast(b, tf.float32) + c, [a, b, row], axes)

    a64, b64 = (tf.cast(each, tf.float64).numpy() for each in (a, b))
    truth = np.sum(a64 * b64 + row, tuple(axes), keepdims=True)
    np.testing.assert_allclose(product(a, b), truth, rtol=1e-5, atol=1e-5)


def test_neighbours_are_kept_together():
    def axis(shape, axes):
        return sliced_axis(tf.TensorShape(shape), axes)

    assert axis([None, 32, 768], [1, 2]) == 2
    assert axis([None, 56, 28, 64], [0, 1, 2]) == 1
    assert axis([None, 64], [0]) == 0
    assert axis([5, 3, 2], [1, 2]) is None


def test_a_part_is_never_empty_where_there_is_something():
    """A pivot of nothing would be 0, and everything would cancel."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def part(x):
        return first_part(x, [0])

    assert [len(part(tf.zeros([size, 2]))) for size in (0, 1, 7, 8, 16, 100)] == [0, 1, 1, 1, 2, 12]


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_pivot_far_from_the_mean_costs_little(random, jit_compile):
    """All that is unlike the rest stands in the part that the pivot is taken from."""
    x = random.normal(0, 1, (4096, 3)).astype(np.float32)
    x[:512] += 1e4
    run = tf.function(lambda x: moments(x, [0]), jit_compile=jit_compile)
    _, mean, variance = run(x)
    truth = x.astype(np.float64)
    tolerance = 2e-6 if jit_compile else 5e-5  # TensorFlow adds the rows up one by one
    np.testing.assert_allclose(mean[0], truth.mean(0), rtol=tolerance)
    np.testing.assert_allclose(variance[0], truth.var(0), rtol=tolerance)

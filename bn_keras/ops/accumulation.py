r"""Moments of several batches, pooled into those of one large batch.

Two parts a and b of a batch merge into one (Chan, Golub and LeVeque 1979), with $M_2 = n \sigma^2$ and
$\delta = \mu_b - \mu_a$:

$$ n = n_a + n_b \qquad \mu = \mu_a + \frac{n_b}{n} \delta \qquad M_2 = M_{2a} + M_{2b} + \frac{n_a n_b}{n} \delta^2 $$
"""

import dataclasses

import tensorflow as tf

from bn_keras.ops.moments import Moments, unbiased_variance
from bn_keras.ops.settings import State


def accumulate(state: State, moments: Moments, steps: int) -> tuple[State, Moments]:
    """Pools the moments of a batch with those of the batches before it.

    Args:
        state: The statistics before this batch.
        moments: The moments of this batch, of all replicas.
        steps: The number of batches that are pooled.

    Returns:
        `(state, moments)`: the statistics with the sums after this batch, and the moments that the moving statistics
        have to average now: those of all `steps` batches after the last one, and a count of 0 before.

    Example:

    >>> zeros = tf.zeros([1])
    >>> state = State(zeros, zeros, None, None, None, None, zeros, zeros, zeros, tf.zeros([]))
    >>> for mean in (1.0, 5.0):
    ...     batch = Moments(*map(tf.constant, ([2.0], [mean], [1.0], [2.0])))
    ...     state, due = accumulate(state, batch, steps=2)
    >>> [float(each[0]) for each in (due.count, due.mean, due.variance)], float(state.accumulated_count[0])
    ([4.0, 3.0, 5.0], 0.0)
    """
    count, mean, squares = _merged(state, moments)
    batches = tf.add(state.accumulated_batches, 1)
    complete = batches >= steps
    variance = tf.math.divide_no_nan(squares, count)
    due = Moments(tf.where(complete, count, 0), mean, variance, unbiased_variance(variance, count))
    sums = {
        "accumulated_count": count,
        "accumulated_mean": mean,
        "accumulated_squares": squares,
        "accumulated_batches": batches,
    }
    rest = {name: tf.stop_gradient(tf.where(complete, tf.zeros_like(value), value)) for name, value in sums.items()}
    return dataclasses.replace(state, **rest), due


def _merged(state: State, moments: Moments) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Count, mean and M₂ of the batches before and of this one; what a batch of nothing holds does not matter."""
    present = moments.count > 0
    before, mean = state.accumulated_count, state.accumulated_mean
    added = tf.cast(moments.count, before.dtype)
    count = before + added
    share = tf.math.divide_no_nan(added, count)
    difference = tf.where(present, tf.cast(moments.mean, before.dtype) - mean, 0)
    squares = tf.where(present, added * tf.cast(moments.variance, before.dtype), 0)
    squares = state.accumulated_squares + squares + before * share * tf.square(difference)
    return count, mean + share * difference, squares

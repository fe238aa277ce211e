"""What travels through batch normalization: how to normalize, and what has been learned so far."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Renorm:
    """Batch renormalization, see `bn_keras.ops.renorm`.

    Attributes:
        momentum: The share of the old value that the renormalization statistics keep, in [0, 1].
        rmin, rmax, dmax: The limits of the corrections r and d; `None` for no limit.
    """

    momentum: float = 0.99
    rmin: float | None = None
    rmax: float | None = None
    dmax: float | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """How batch normalization normalizes.

    Attributes:
        axes: The channel axes, rising non-negative ints.
        epsilon: The number added to the variance, ≥ 0.
        momentum: The share of the old value that a moving statistic keeps, in [0, 1]. `None` averages all batches
            so far, which needs `State.steps`.
        unbiased: Whether the moving variance averages m/(m−1) σ² or σ².
        renorm: Batch renormalization, or `None`.
        virtual_batch_size: The number of examples that are normalized together; `None` for the whole batch.
        synchronized: Whether the moments are those of all replicas of the strategy. Otherwise each replica is
            normalized by its own moments. The moving statistics average all replicas either way.
        group_size: The number of neighbouring replicas that synchronize with each other; `None` for all.
        fused: Whether to use TensorFlow's kernel; `None` where it is safe and pays.
        relu: Whether the output is max(y, 0).
        accumulation_steps: The number of batches whose pooled moments update the moving statistics once, which needs
            the sums of `State`. `None` updates them with every batch.
    """

    axes: tuple[int, ...]
    epsilon: float
    momentum: float | None = 0.99
    unbiased: bool = True
    renorm: Renorm | None = None
    virtual_batch_size: int | None = None
    synchronized: bool = False
    group_size: int | None = None
    fused: bool | None = None
    relu: bool = False
    accumulation_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """The statistics that training updates, each `(channels,)` except for the numbers of batches.

    Attributes:
        moving_mean, moving_variance: What inference normalizes by.
        moving_stddev, renorm_mean, renorm_stddev: The statistics of batch renormalization, `None` without it.
        steps: The number of batches so far, a scalar. With it, the moving statistics carry no bias towards their
            first values. `None` does not count.
        accumulated_count, accumulated_mean, accumulated_squares: Count, mean and sum of squared deviations of the
            batches since the last update. `None` without accumulation.
        accumulated_batches: The number of these batches, a scalar.
    """

    moving_mean: tf.Tensor
    moving_variance: tf.Tensor
    moving_stddev: tf.Tensor | None = None
    renorm_mean: tf.Tensor | None = None
    renorm_stddev: tf.Tensor | None = None
    steps: tf.Tensor | None = None
    accumulated_count: tf.Tensor | None = None
    accumulated_mean: tf.Tensor | None = None
    accumulated_squares: tf.Tensor | None = None
    accumulated_batches: tf.Tensor | None = None

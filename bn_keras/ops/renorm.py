r"""Batch renormalization: makes the moments of a batch agree with those of past batches.

$$ y = \gamma \left( \hat x \cdot r + d \right) + \beta \qquad
   r = \frac{\sqrt{\sigma^2 + \epsilon}}{\sigma_r} \qquad d = \frac{\mu - \mu_r}{\sigma_r} $$

with the running mean μᵣ and deviation σᵣ of past batches, r clipped to [rmin, rmax] and d to [−dmax, dmax]. Neither
carries a gradient. Unclipped, a batch is normalized as in inference, with the gradient of training.

Source: Ioffe 2017, "Batch Renormalization", https://arxiv.org/abs/1702.03275, section 3.
"""

import tensorflow as tf

from bn_keras.ops.moments import Moments, broadcastable, finite_where_masked, in_dtype, moving_average, statistics_dtype
from bn_keras.ops.settings import Settings, State


def renormalize(
    normalized: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    moments: Moments,
    state: State,
    settings: Settings,
) -> tf.Tensor:
    """γ (x̂ r + d) + β, of `normalized`, which is x̂."""
    limits, epsilon, dtype = settings.renorm, settings.epsilon, moments.mean.dtype
    running = tf.maximum(tf.cast(state.renorm_stddev, dtype), epsilon**0.5)
    r = tf.sqrt(moments.variance + epsilon) / running
    d = (moments.mean - tf.cast(state.renorm_mean, dtype)) / running
    r = r if limits.rmin is None else tf.maximum(r, limits.rmin)
    r = r if limits.rmax is None else tf.minimum(r, limits.rmax)
    d = d if limits.dmax is None else tf.clip_by_value(d, -limits.dmax, limits.dmax)
    r, d = tf.stop_gradient(r), tf.stop_gradient(d)
    rank = normalized.shape.rank
    values = finite_where_masked(tf.cast(normalized, statistics_dtype(normalized.dtype)), mask)
    scale, offset = (broadcastable(each, rank, settings.axes) for each in (scale * r, scale * d + offset))
    y = tf.cast(values * scale + offset, normalized.dtype)
    return y if mask is None else tf.where(tf.math.is_finite(normalized), y, tf.stop_gradient(normalized))


def renorm_statistics(
    state: State, moments: Moments, variance: tf.Tensor, momentum: float | tf.Tensor, settings: Settings
) -> dict[str, tf.Tensor]:
    """The statistics after a batch, by name; inference averages the deviation rather than the variance."""
    count, epsilon = moments.count, settings.epsilon
    stddev = tf.sqrt(variance + epsilon)
    moving_stddev = moving_average(state.moving_stddev, stddev, momentum, count)
    moving_variance = tf.maximum(tf.square(moving_stddev) - in_dtype(epsilon, moving_stddev.dtype), 0)
    return {
        "renorm_mean": moving_average(state.renorm_mean, moments.mean, settings.renorm.momentum, count),
        "renorm_stddev": moving_average(state.renorm_stddev, stddev, settings.renorm.momentum, count),
        "moving_stddev": moving_stddev,
        "moving_variance": tf.where(count > 0, moving_variance, state.moving_variance),
    }

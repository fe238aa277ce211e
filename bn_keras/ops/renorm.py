r"""Batch renormalization: what makes a batch's own moments agree with the moving ones.

$$ y = \gamma \left( \hat x \cdot r + d \right) + \beta \qquad
   r = \frac{\sqrt{\sigma^2 + \epsilon}}{\sigma_r} \qquad d = \frac{\mu - \mu_r}{\sigma_r} $$

with the running mean μᵣ and deviation σᵣ of past batches, r clipped to [rmin, rmax], d to [−dmax, dmax],
and no gradient through either. Unclipped, a batch is normalized as in inference, with the gradient of
training.

Source: Ioffe 2017, "Batch Renormalization", https://arxiv.org/abs/1702.03275, section 3.
"""

import tensorflow as tf

from bn_keras.ops.moments import broadcastable, moving_average, statistics_dtype


def renormalize(normalized, gamma, beta, mean, variance, statistics, axes, epsilon, clipping):
    """The output, of `normalized` without scale and offset; `clipping` is `(rmin, rmax, dmax)`, each a
    number or `None`."""
    rmin, rmax, dmax = clipping
    running = tf.maximum(tf.cast(statistics["renorm_stddev"], mean.dtype), epsilon**0.5)
    r = tf.sqrt(variance + epsilon) / running
    d = (mean - tf.cast(statistics["renorm_mean"], mean.dtype)) / running
    r = r if rmin is None else tf.maximum(r, rmin)
    r = r if rmax is None else tf.minimum(r, rmax)
    d = d if dmax is None else tf.clip_by_value(d, -dmax, dmax)
    rank = normalized.shape.rank
    values = tf.cast(normalized, statistics_dtype(normalized.dtype))
    scale, offset = (broadcastable(each, rank, axes) for each in (gamma * r, gamma * d + beta))
    return tf.cast(values * scale + offset, normalized.dtype)


def renorm_statistics(statistics, mean, variance, count, momentum, renorm_momentum, epsilon):
    """The statistics after a batch; inference averages the deviation rather than the variance."""
    stddev = tf.sqrt(variance + epsilon)
    moving_stddev = moving_average(statistics["moving_stddev"], stddev, momentum, count)
    moving_variance = tf.maximum(tf.square(moving_stddev) - epsilon, 0)
    return {
        "renorm_mean": moving_average(statistics["renorm_mean"], mean, renorm_momentum, count),
        "renorm_stddev": moving_average(statistics["renorm_stddev"], stddev, renorm_momentum, count),
        "moving_stddev": moving_stddev,
        "moving_variance": tf.where(count > 0, moving_variance, statistics["moving_variance"]),
    }

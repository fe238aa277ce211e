r"""The one normalization that all layers are: moments over some axes, a scale and an offset.

$$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad y = \gamma \hat x + \beta $$

μ and σ² (biased) are taken over `axes`, γ and β broadcast against x. Batch norm reduces all axes but
those of the channels, layer norm those of the features, and γ has the size of the other or the same.
The gradient, with $g = \gamma \, \partial l / \partial y$, sums over `axes` and $m$ elements in each:

$$ \frac{\partial l}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
   \left( g - \frac1m \sum g - \frac{\hat x}{m} \sum g \hat x \right) $$

With weights $w$ (a mask), $m = \sum w$, the moments are weighted and the two sums multiplied by $w$:
every element is normalized, those of weight 0 have no part in the statistics.
"""

import tensorflow as tf

from bn_keras.ops.moments import shifted_moments, statistics_dtype


def normalize(x, gamma, beta, axes, epsilon, weights=None, centered=True):
    """Plain TensorFlow: any float dtype, any axes, any weights, any compiler.

    Shapes: `x` `(batch, …)`; `gamma`, `beta` and `weights` have its rank and broadcast against it;
    the moments have its rank and size 1 along `axes`. Dtypes: `x` any float, all else float32
    (float64 for float64 input).

    Args:
        x: The input.
        gamma, beta: Scale and offset.
        axes: The axes that are reduced, non-negative ints.
        epsilon: Added to the variance.
        weights: The weight of each element in the moments; `None` counts each once.
        centered: Whether the mean is taken off. If not, it stands as 0 in every equation above, and
            σ² is the mean square.

    Returns:
        `(y, count, mean, variance)`: the output, of the dtype of `x`, and what it was normalized
        by, whose gradient is 0.

    Example:

    >>> y, count, mean, variance = normalize(
    ...     tf.constant([[1.0, 3.0]]), tf.ones([1, 1]), tf.zeros([1, 1]), axes=[1], epsilon=0.0)
    >>> y.numpy().tolist(), float(count), mean.numpy().tolist(), variance.numpy().tolist()
    ([[-1.0, 1.0]], 2.0, [[2.0]], [[1.0]])
    """
    dtype = statistics_dtype(x.dtype)
    if weights is not None:
        weights = tf.cast(weights, dtype)
    axes = list(axes)
    spread = [i for i in range(x.shape.rank) if gamma.shape[i] == 1]

    @tf.custom_gradient
    def differentiable(x, gamma, beta):
        values = tf.cast(x, dtype)
        count, pivot, correction, variance, centred = shifted_moments(values, axes, weights, centered)
        inverse = tf.math.rsqrt(variance + epsilon)
        y = affine(centred, correction, inverse, gamma, beta)

        def gradient(dy, *of_the_moments):
            dy = tf.cast(dy, dtype)
            normalized = (tf.cast(x, dtype) - pivot) * inverse - correction * inverse
            dbeta = tf.reduce_sum(dy, spread, keepdims=True)
            dgamma = tf.reduce_sum(dy * normalized, spread, keepdims=True)
            if spread == axes:  # γ has one value for each sum, and can wait
                factor, scaled = gamma * inverse, dy
                through_mean, through_deviation = dbeta, dgamma
            else:
                factor, scaled = inverse, gamma * dy
                through_mean = tf.reduce_sum(scaled, axes, keepdims=True)
                through_deviation = tf.reduce_sum(scaled * normalized, axes, keepdims=True)
            through_moments = normalized * tf.math.divide_no_nan(through_deviation, count)
            if centered:
                through_moments += tf.math.divide_no_nan(through_mean, count)
            if weights is not None:
                through_moments *= weights
            return tf.cast(factor * (scaled - through_moments), x.dtype), dgamma, dbeta

        return (tf.cast(y, x.dtype), count, pivot + correction, variance), gradient

    return differentiable(x, gamma, beta)


def affine(centred, correction, inverse, gamma, beta):
    """γ (centred − correction) · inverse + β, with as few passes over the input as the shapes allow."""
    if gamma.shape == inverse.shape:
        scale = gamma * inverse
        return centred * scale + (beta - correction * scale)
    return (centred * inverse - correction * inverse) * gamma + beta


def scale_and_offset(gamma, beta, x, axes):
    """γ and β of the sizes of `x` along `axes`, in the dtype of its moments; `None` stands for 1 and 0."""
    dtype = statistics_dtype(x.dtype)
    sizes = [x.shape[axis] for axis in axes]
    gamma = tf.ones(sizes, dtype) if gamma is None else tf.cast(gamma, dtype)
    beta = tf.zeros(sizes, dtype) if beta is None else tf.cast(beta, dtype)
    return gamma, beta

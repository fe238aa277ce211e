"""The sizes of the table in `tolerances.py`, for any of the layers; and the truth of those that see one example."""

import numpy as np

from tests import reference


def sizes(x, gamma, beta, dy, axes, epsilon, weights=1.0, centered=True):
    """The sizes of y, dx, dgamma and dbeta, each of the shape of what it belongs to.

    Args:
        x, dy: The input and the gradient of the output, float64.
        gamma, beta: Broadcast against `x`, have its rank.
        axes: What the moments are taken over.
        epsilon: Added to the variance.
        weights: Of the elements in the moments.
        centered: Whether the mean is taken off.
    """
    weights = np.broadcast_to(weights, x.shape).astype(np.float64)
    count = weights.sum(axes, keepdims=True)

    def average(values):
        return values.sum(axes, keepdims=True) / np.maximum(count, 1)

    mean = average(weights * x) if centered else 0.0
    mean = mean + average(weights * (x - mean)) if centered else 0.0
    variance = average(weights * (x - mean) ** 2)
    inverse = 1 / np.sqrt(variance + epsilon)
    normalized = np.abs(x - mean) * inverse
    offset = (np.abs(mean) + np.sqrt(variance)) * inverse if centered else 0.0
    scaled = np.abs(gamma * dy)
    through_mean, through_deviation = average(scaled), average(scaled * normalized)
    through_moments = through_mean + (normalized + offset) * through_deviation + normalized * offset * through_mean
    return {
        "y": np.abs(gamma) * (normalized + offset) + np.abs(beta),
        "dx": inverse * (scaled + weights * through_moments),
        "dgamma": reference.sum_to(np.abs(dy) * (normalized + offset), gamma.shape),
        "dbeta": reference.sum_to(np.abs(dy), beta.shape),
    }


def near_zero(x, axes, weights=1.0):
    """`x` less its means over the axes, and those: what a mean is taken off from does not depend on it.

    The reference sums in float64 too, which is exact enough for float64 only where the mean is not large.
    """
    weights = np.broadcast_to(weights, x.shape)
    mean = (weights * x).sum(axes, keepdims=True) / np.maximum(weights.sum(axes, keepdims=True), 1)
    return x - mean, mean


def sizes_of_inference(x, gamma, beta, mean, variance, epsilon):
    """The size of the output of one affine map per channel."""
    return np.abs(gamma) / np.sqrt(variance + epsilon) * (np.abs(x) + np.abs(mean)) + np.abs(beta)


def features_truth(x, gamma, beta, dy, axes, epsilon, centered=True):
    """Truth and size of y, dx, dgamma and dbeta of a layer whose γ and β broadcast against `x`."""
    bounds = sizes(x, gamma, beta, dy, axes, epsilon, centered=centered)
    x = near_zero(x, axes)[0] if centered else x
    y = reference.layer_norm(x, gamma, beta, axes, epsilon, centered)
    gradients = reference.layer_norm_gradient(x, gamma, beta, dy, axes, epsilon, centered)
    return dict(zip(bounds, zip((y, *gradients), bounds.values(), strict=True), strict=True))

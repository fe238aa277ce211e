"""The truth: batch normalization in NumPy float64, forward and backward.

Written from the equations, term by term, with nothing simplified: the backward pass goes through
∂l/∂x̂, ∂l/∂σ² and ∂l/∂μ, as the chain rule gives them.
"""

import numpy as np


def per_channel(vector, rank, axis):
    shape = [1] * rank
    shape[axis] = -1
    return np.asarray(vector, np.float64).reshape(shape)


def batch_norm(x, gamma, beta, axis, epsilon, weights=None):
    """Algorithm 1. Returns `(y, count, mean, variance)`, the variance biased."""
    x = np.asarray(x, np.float64)
    axis %= x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    weights = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape).astype(np.float64)
    count = weights.sum(axes)
    mean = (weights * x).sum(axes) / count
    centred = x - per_channel(mean, x.ndim, axis)
    variance = (weights * centred**2).sum(axes) / count
    normalized = centred / np.sqrt(per_channel(variance, x.ndim, axis) + epsilon)
    y = per_channel(gamma, x.ndim, axis) * normalized + per_channel(beta, x.ndim, axis)
    return y, count, mean, variance


def batch_norm_gradient(x, gamma, dy, axis, epsilon, weights=None):
    """The chain rule through Algorithm 1. Returns `(dx, dgamma, dbeta)`."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    axis %= x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    weights = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape).astype(np.float64)
    count = weights.sum(axes, keepdims=True)
    mean = (weights * x).sum(axes, keepdims=True) / count
    centred = x - mean
    variance = (weights * centred**2).sum(axes, keepdims=True) / count
    deviation = np.sqrt(variance + epsilon)

    dbeta = dy.sum(axes)
    dgamma = (dy * centred / deviation).sum(axes)
    dnormalized = dy * per_channel(gamma, x.ndim, axis)
    dvariance = (dnormalized * centred * -0.5 * deviation**-3).sum(axes, keepdims=True)
    dmean = (-dnormalized / deviation).sum(axes, keepdims=True)
    dmean += dvariance * (weights * -2 * centred).sum(axes, keepdims=True) / count
    dx = dnormalized / deviation + dvariance * weights * 2 * centred / count + dmean * weights / count
    return dx, dgamma, dbeta


def batch_norm_inference(x, gamma, beta, mean, variance, axis, epsilon):
    """Algorithm 2, with given moments."""
    x = np.asarray(x, np.float64)
    gamma, beta, mean, variance = (per_channel(v, x.ndim, axis) for v in (gamma, beta, mean, variance))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta

"""The truth: batch normalization in NumPy float64, forward and backward.

Written from the equations, term by term, with nothing simplified: the backward pass goes through
∂l/∂x̂, ∂l/∂σ² and ∂l/∂μ, as the chain rule gives them.
"""

import numpy as np


def axes_of(axis, rank):
    """`axis` as rising non-negative ints, and all the others."""
    axes = sorted(each % rank for each in (axis if isinstance(axis, (list, tuple)) else [axis]))
    return axes, tuple(i for i in range(rank) if i not in axes)


def per_channel(values, rank, axis):
    axes, _ = axes_of(axis, rank)
    values = np.asarray(values, np.float64)
    return values.reshape([values.shape[axes.index(i)] if i in axes else 1 for i in range(rank)])


def batch_norm(x, gamma, beta, axis, epsilon, weights=None):
    """Algorithm 1. Returns `(y, count, mean, variance)`, the variance biased."""
    x = np.asarray(x, np.float64)
    _, axes = axes_of(axis, x.ndim)
    weights = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape).astype(np.float64)
    count = weights.sum(axes)
    mean = (weights * x).sum(axes) / np.where(count, count, np.nan)
    centred = x - per_channel(mean, x.ndim, axis)
    variance = (weights * centred**2).sum(axes) / count
    normalized = centred / np.sqrt(per_channel(variance, x.ndim, axis) + epsilon)
    y = per_channel(gamma, x.ndim, axis) * normalized + per_channel(beta, x.ndim, axis)
    return y, count, mean, variance


def batch_norm_gradient(x, gamma, dy, axis, epsilon, weights=None):
    """The chain rule through Algorithm 1. Returns `(dx, dgamma, dbeta)`."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    _, axes = axes_of(axis, x.ndim)
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


def layer_norm(x, gamma, beta, axes, epsilon, centered=True):
    """γ and β broadcast against x; the moments are over `axes`."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axes, keepdims=True) if centered else 0.0
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def layer_norm_gradient(x, gamma, beta, dy, axes, epsilon, centered=True):
    """The chain rule, term by term. Returns `(dx, dgamma, dbeta)`, the latter of the shapes of γ and β."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    count = np.prod([x.shape[i] for i in axes])
    mean = x.mean(axes, keepdims=True) if centered else 0.0
    centred = x - mean
    deviation = np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    dnormalized = dy * gamma
    dvariance = (dnormalized * centred * -0.5 * deviation**-3).sum(axes, keepdims=True)
    dx = dnormalized / deviation + dvariance * 2 * centred / count
    if centered:
        dmean = (-dnormalized / deviation).sum(axes, keepdims=True) + dvariance * (-2 * centred).sum(
            axes, keepdims=True
        ) / count
        dx = dx + dmean / count
    return dx, sum_to(dy * centred / deviation, np.shape(gamma)), sum_to(dy, np.shape(beta))


def sum_to(values, shape):
    """What broadcasting `shape` to that of the values did, in reverse."""
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return values.sum(axes, keepdims=True)

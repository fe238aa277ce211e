"""The truth: normalization in NumPy float64, forward and backward.

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


def in_groups(x, axis, groups):
    """`x` as `(groups, elements, size)`, and back with `out_of_groups`."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    return x.reshape(-1, groups, x.shape[-1] // groups).swapaxes(0, 1)


def out_of_groups(vectors, shape, axis):
    others = np.delete(shape, axis)
    return np.moveaxis(vectors.swapaxes(0, 1).reshape(*others, shape[axis]), -1, axis)


def covariance(x, epsilon, weights=None):
    """Of vectors `(groups, elements, size)`. Returns `(count, mean, covariance)`, the weights of two channels
    in the covariance the geometric mean of theirs."""
    weights = np.ones_like(x) if weights is None else weights
    count = weights.sum(1, keepdims=True)
    mean = (weights * x).sum(1, keepdims=True) / count
    spread = np.sqrt(weights / count) * (x - mean)
    return count, mean, np.einsum("gmi,gmj->gij", spread, spread) + epsilon * np.eye(x.shape[-1])


def newton(sigma, iterations):
    """Every P of Newton's iteration, as in the paper."""
    normalized = sigma / np.trace(sigma, axis1=1, axis2=2)[:, None, None]
    steps = [np.broadcast_to(np.eye(sigma.shape[-1]), sigma.shape)]
    for _ in range(iterations):
        p = steps[-1]
        steps.append(0.5 * (3 * p - p @ p @ p @ normalized))
    return steps


def exact_whitening(sigma):
    """The inverse root of symmetric matrices, by their eigenvalues (ZCA whitening)."""
    values, vectors = np.linalg.eigh(sigma)
    return (vectors / np.sqrt(values)[:, None, :]) @ vectors.swapaxes(1, 2)


def decorrelated_batch_norm(x, gamma, beta, axis, groups, iterations, epsilon, weights=None):
    """Returns `(y, count, mean, whitening)`, the latter `(groups, size, size)`."""
    weights = None if weights is None else in_groups(np.broadcast_to(weights, np.shape(x)), axis, groups)
    vectors = in_groups(x, axis, groups)
    count, mean, sigma = covariance(vectors, epsilon, weights)
    whitening = newton(sigma, iterations)[-1] / np.sqrt(np.trace(sigma, axis1=1, axis2=2))[:, None, None]
    y = decorrelated_batch_norm_inference(x, gamma, beta, mean.ravel(), whitening, axis, groups)
    return y, count.ravel(), mean.ravel(), whitening


def decorrelated_batch_norm_inference(x, gamma, beta, mean, whitening, axis, groups):
    """With given mean and whitening."""
    mean, gamma, beta = (np.reshape(values, (groups, 1, -1)).astype(np.float64) for values in (mean, gamma, beta))
    whitened = np.einsum("gij,gmj->gmi", np.asarray(whitening, np.float64), in_groups(x, axis, groups) - mean)
    return out_of_groups(gamma * whitened + beta, np.shape(x), axis)


def decorrelated_batch_norm_gradient(x, gamma, dy, axis, groups, iterations, epsilon, weights=None):
    """The chain rule, backward through every step of the iteration. Returns `(dx, dgamma, dbeta)`."""
    shape, x, dy = np.shape(x), in_groups(x, axis, groups), in_groups(dy, axis, groups)
    weights = np.ones_like(x) if weights is None else in_groups(np.broadcast_to(weights, shape), axis, groups)
    count, mean, sigma = covariance(x, epsilon, weights)
    trace = np.trace(sigma, axis1=1, axis2=2)[:, None, None]
    normalized, steps = sigma / trace, newton(sigma, iterations)
    centred, whitening = x - mean, steps[-1] / np.sqrt(trace)

    dbeta = dy.sum(1)
    dgamma = (dy * np.einsum("gij,gmj->gmi", whitening, centred)).sum(1)
    dwhitened = dy * np.reshape(gamma, (groups, 1, -1))
    dwhitening = np.einsum("gmi,gmj->gij", dwhitened, centred)
    dp, dnormalized = dwhitening / np.sqrt(trace), np.zeros_like(sigma)
    for p in steps[-2::-1]:
        p, back = p.swapaxes(1, 2), dp
        s = normalized.swapaxes(1, 2)
        dnormalized -= 0.5 * p @ p @ p @ back
        dp = 1.5 * back - 0.5 * (back @ s @ p @ p + p @ back @ s @ p + p @ p @ back @ s)
    dtrace = -0.5 * (dwhitening * whitening).sum((1, 2), keepdims=True) / trace
    dtrace -= (dnormalized * normalized).sum((1, 2), keepdims=True) / trace
    dsigma = dnormalized / trace + dtrace * np.eye(sigma.shape[-1])
    share = weights / count
    dcentred = np.einsum("gmi,gij->gmj", dwhitened, whitening)
    dcentred += np.sqrt(share) * np.einsum("gmi,gij->gmj", np.sqrt(share) * centred, dsigma + dsigma.swapaxes(1, 2))
    dx = dcentred - share * dcentred.sum(1, keepdims=True)
    return out_of_groups(dx, shape, axis), dgamma.ravel(), dbeta.ravel()


def weight_norm(v, g, axes, epsilon):
    """Salimans and Kingma, equation 2, with ε."""
    norm = np.sqrt((v**2).sum(axes, keepdims=True) + epsilon)
    return g * v / norm


def weight_norm_gradient(v, g, dw, axes, epsilon):
    """The chain rule through the norm. Returns `(dv, dg)`; g has the sizes of v along the channels, and 1."""
    norm = np.sqrt((v**2).sum(axes, keepdims=True) + epsilon)
    dnorm = (-dw * g * v / norm**2).sum(axes, keepdims=True)
    return dw * g / norm + dnorm * v / norm, (dw * v / norm).sum(axes, keepdims=True)


def weight_standardization(v, gain, axes, epsilon, scaled):
    """Qiao et al., equation 4, with ε under the root; `scaled` divides by the root of the fan-in, as in NFNets."""
    count = v.size / gain.size if scaled else 1
    centred = v - v.mean(axes, keepdims=True)
    return gain * centred / np.sqrt(v.var(axes, keepdims=True) + epsilon) / np.sqrt(count)


def weight_standardization_gradient(v, gain, dw, axes, epsilon, scaled):
    """The chain rule through mean and variance. Returns `(dv, dgain)`."""
    count = v.size / gain.size
    dw = dw / np.sqrt(count) if scaled else dw
    centred = v - v.mean(axes, keepdims=True)
    deviation = np.sqrt(v.var(axes, keepdims=True) + epsilon)
    dnormalized = dw * gain
    dvariance = (dnormalized * centred * -0.5 * deviation**-3).sum(axes, keepdims=True)
    dmean = (-dnormalized / deviation).sum(axes, keepdims=True)
    dv = dnormalized / deviation + dvariance * 2 * centred / count + dmean / count
    return dv, (dw * centred / deviation).sum(axes, keepdims=True)

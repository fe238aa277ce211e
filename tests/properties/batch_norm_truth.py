"""What a training step of `BatchNorm` should give: of the whole batch, or of a few examples at a time."""

import numpy as np

from tests import reference
from tests.properties.sizes import near_zero, sizes

QUANTITIES = ("y", "dx", "dgamma", "dbeta")


def training_step(x, dy, weights, case, mask, settings):
    """Truth and size of every quantity.

    Args:
        x, dy: Float64.
        weights: Those of the layer, by name.
        case: Has the axes and ε.
        mask: With the rank of `x`, or `None`.
        settings: `momentum`, `unbiased` and `virtual_batch_size` of the layer.
    """
    mask = np.ones(x.shape) if mask is None else np.broadcast_to(mask, x.shape).astype(np.float64)
    size = settings["virtual_batch_size"] or len(x)
    parts = [slice(i, i + size) for i in range(0, len(x), size)]
    groups = [of_group(x[part], dy[part], weights, case, mask[part], settings["unbiased"]) for part in parts]
    joined = {name: np.concatenate([each[name] for each in groups], axis=1) for name in ("y", "dx")}
    summed = {name: np.sum([each[name] for each in groups], axis=0) for name in ("dgamma", "dbeta")}
    return {**joined, **summed, **statistics_after(groups, weights, settings["momentum"])}


def of_group(x, dy, weights, case, mask, unbiased):
    """Truth and size, stacked, and the moments; a channel where nothing counts has mean 0 and variance 0."""
    gamma, beta, axis, epsilon = weights["gamma"], weights["beta"], list(case.axes), case.epsilon
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted, rough = near_zero(x, case.others, mask)
        y, count, mean, variance = reference.batch_norm(shifted, gamma, beta, axis, epsilon, mask)
        mean += rough.reshape(mean.shape)
        gradients = reference.batch_norm_gradient(shifted, gamma, dy, axis, epsilon, mask)
    of_none = without_moments(x, gamma, beta, dy, axis, epsilon)
    nothing = count == 0
    nothing_here = reference.per_channel(nothing, x.ndim, axis) == 1
    where = (nothing_here, nothing_here, nothing, nothing)
    truths = [np.where(*each) for each in zip(where, of_none, (y, *gradients), strict=True)]
    gamma, beta = (reference.per_channel(each, x.ndim, axis) for each in (gamma, beta))
    bounds = sizes(x, gamma, beta, dy, case.others, epsilon, mask)
    stacked = {
        name: np.stack([truth, bounds[name].reshape(truth.shape)])
        for name, truth in zip(QUANTITIES, truths, strict=True)
    }
    mean, variance = np.where(nothing, 0, mean), np.where(nothing, 0, variance)
    bessel = count / np.maximum(count - 1, 1) if unbiased else 1
    return stacked | {"count": count, "mean": mean, "variance": variance * bessel}


def without_moments(x, gamma, beta, dy, axis, epsilon):
    """y, dx, dgamma and dbeta of the affine map that mean 0 and variance 0 make of the layer."""
    none = np.zeros(gamma.shape)
    reduced = tuple(i for i in range(x.ndim) if i not in axis)
    y = reference.batch_norm_inference(x, gamma, beta, none, none, axis, epsilon)
    inverse = 1 / np.sqrt(epsilon)
    return (
        y,
        reference.per_channel(gamma, x.ndim, axis) * dy * inverse,
        (dy * x * inverse).sum(reduced),
        dy.sum(reduced),
    )


def statistics_after(groups, weights, momentum):
    """The moving statistics after the average of the groups, weighted by their counts."""
    counts, means, variances = (np.stack([each[name] for each in groups]) for name in ("count", "mean", "variance"))
    count = counts.sum(0)

    def after(name, value, size):
        average, largest = ((counts * each).sum(0) / np.maximum(count, 1) for each in (value, size))
        old = weights[name]
        truth = np.where(count > 0, momentum * old + (1 - momentum) * average, old)
        return truth, np.abs(old) + largest

    mean, mean_size = after("moving_mean", means, np.abs(means) + np.sqrt(variances))
    variance, variance_size = after("moving_variance", variances, variances)
    return {"moving mean": np.stack([mean, mean_size]), "moving variance": np.stack([variance, variance_size])}

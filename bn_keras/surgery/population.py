r"""Moments of batches put together into those of all data: NumPy, float64.

A batch comes as its count $m$, mean $\mu_B$ and biased variance $\sigma_B^2$ per channel. Two parts of a population
merge into one (Chan, Golub and LeVeque 1979), with $M_2 = m \sigma^2$ and $\delta = \mu_b - \mu_a$:

$$ m = m_a + m_b \qquad \mu = \mu_a + \frac{m_b}{m} \delta \qquad M_2 = M_{2a} + M_{2b} + \frac{m_a m_b}{m} \delta^2 $$

Algorithm 2 of the paper averages what the batches had instead, here each weighted by its count:

$$ \mathrm{E}[x] = \mathrm{E}_B[\mu_B] \qquad \mathrm{Var}[x] = \mathrm{E}_B\!\left[ \frac{m}{m-1} \sigma_B^2 \right] $$

For whitening the variance is a covariance, with one more axis, and $\delta^2$ is $\delta \delta^\top$.
"""

import numpy as np


class Population:
    """Count, mean and biased variance over all elements of all batches.

    Shapes: count and mean alike; the variance as the mean, or with one more axis, of the size of its last, for a
    covariance.

    Example:

    >>> population = Population()
    >>> population.add(np.array([1.0]), np.array([3.0]), np.array([0.0]))
    >>> population.add(np.array([3.0]), np.array([7.0]), np.array([4.0]))
    >>> count, mean, variance = population.result()
    >>> count.tolist(), mean.tolist(), variance.tolist()
    ([4.0], [6.0], [6.0])
    """

    def __init__(self):
        self.count = self.mean = self.squares = np.zeros(())

    def add(self, count, mean, variance):
        whole = self.count + count
        share, difference = divided(count, whole), np.where(count > 0, mean, 0) - self.mean
        between = square(difference, variance) * wide(self.count * share, variance)
        self.squares = self.squares + np.where(wide(count, variance) > 0, wide(count, variance) * variance, 0) + between
        self.mean = self.mean + difference * share
        self.count = whole

    def result(self):
        """`(count, mean, variance)`; 0 where there was no element."""
        return self.count, self.mean, divided(self.squares, wide(self.count, self.squares))


class Algorithm2:
    """Count, and the averages over batches of the mean and the unbiased variance, each weighted by its count.

    A batch of one element has no unbiased variance: it has its part in the mean alone.

    Example:

    >>> expected = Algorithm2()
    >>> expected.add(np.array([1.0]), np.array([3.0]), np.array([0.0]))
    >>> expected.add(np.array([3.0]), np.array([7.0]), np.array([4.0]))
    >>> count, mean, variance = expected.result()
    >>> count.tolist(), mean.tolist(), variance.tolist()
    ([4.0], [6.0], [6.0])
    """

    def __init__(self):
        self.count = self.total = self.counted = self.variances = np.zeros(())

    def add(self, count, mean, variance):
        counted = np.where(count > 1, count, 0.0)
        corrected = divided(counted**2, counted - 1)
        self.count = self.count + count
        self.total = self.total + np.where(count > 0, count * mean, 0)
        self.counted = self.counted + counted
        self.variances = self.variances + wide(corrected, variance) * np.where(wide(counted, variance) > 0, variance, 0)

    def result(self):
        """`(count, mean, variance)`; the count is 0 where there was no batch of two elements."""
        variance = divided(self.variances, wide(self.counted, self.variances))
        return np.where(self.counted > 0, self.count, 0), divided(self.total, self.count), variance


METHODS = {"population": Population, "algorithm2": Algorithm2}


def divided(a, b):
    """a / b, and 0 where there is nothing to divide by."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.greater(b, 0))


def wide(count, variance):
    """A count that broadcasts against a variance or covariance."""
    return count[..., np.newaxis] if np.ndim(variance) > np.ndim(count) > 0 else count


def square(difference, variance):
    """δ², or δδᵀ for a covariance."""
    if np.ndim(variance) > np.ndim(difference):
        return difference[..., :, np.newaxis] * difference[..., np.newaxis, :]
    return difference**2

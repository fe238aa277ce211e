r"""How far the moving statistics of a batch norm are from those of the batches, and from what chance explains.

Per channel, with the averages μ and σ² over batches of the moments that `fit` would average:

$$ d = \frac{\text{moving mean} - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad
   l = \log \frac{\sigma^2 + \epsilon}{\text{moving variance} + \epsilon} $$

A layer has the root mean square of each over its channels. Batches differ, so $d$ is not 0 in a healthy model: with the
standard deviation s of the batch means (in units of σ) over B batches, and momentum m, its standard error is

$$ s \sqrt{\frac1B + \frac{1 - m}{1 + m}} $$

The first term is the noise of μ, the second that of a moving average of batches as noisy as these.
"""

import dataclasses

import keras
import numpy as np

from bn_keras.doctor.measuring import Pass

# A healthy gap stays below three standard errors: channels are correlated, so their root mean square scatters too.
ERRORS = 3.0
# Below this a change of the output cannot be told from batch noise: batches of 100 values bring 0.1 σ themselves.
MEAN_GAP = 0.1
# A variance within a quarter: the deviation is then off by 12 % at most, which batches of 32 values bring too.
VARIANCE_FACTOR = 1.25
TINY = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class LayerGap:
    """The gap between the moving statistics of one batch norm and those of the batches.

    Attributes:
        layer: Str, the name of the layer.
        kind: Str, the name of its class.
        channels: Int, the number of channels.
        values: Int, the least number of values per channel that the layer normalizes together.
        mean_gap: Float, the distance of the means in standard deviations, root mean square over channels.
        mean_noise: Float, the standard error of `mean_gap`, from the differences between batches.
        variance_ratio: Float, the variance of the batches over the moving variance, geometric mean over channels; 1 for
            whitening, which keeps no variances.
        variance_factor: Float ≥ 1, the factor between the variances, up or down, root mean square over channels.
        variance_noise: Float ≥ 1, the standard error of `variance_factor`, as a factor.
        batch_noise: Float, the standard deviation of the batch means in standard deviations, root mean square over
            channels.
        by_batch: Bool, whether training normalizes this layer by the batch: neither frozen nor called otherwise.
    """

    layer: str
    kind: str
    channels: int
    values: int
    mean_gap: float
    mean_noise: float
    variance_ratio: float
    variance_factor: float
    variance_noise: float
    batch_noise: float
    by_batch: bool

    @property
    def exceeds_noise(self) -> bool:
        """Whether the gap is larger than batch noise explains, and large enough to matter."""
        mean = self.mean_gap > max(MEAN_GAP, ERRORS * self.mean_noise)
        variance = np.log(self.variance_factor) > max(np.log(VARIANCE_FACTOR), ERRORS * np.log(self.variance_noise))
        return bool(mean or variance)

    def __str__(self):
        mean = f"mean off by {self.mean_gap:.2g} σ (noise {self.mean_noise:.2g} σ)"
        return f"{mean}, variance of the batches × {self.variance_ratio:.3g} the moving one"


def gap_of(layer, found: Pass, sizes: list[int]) -> LayerGap:
    """The gap of a layer by what a pass has measured of it."""
    counts, means, variances = (np.array(each) for each in zip(*found.moments[layer], strict=True))
    weights = np.where(counts > 0, counts, 0)
    total = np.maximum(weights.sum(axis=0), 1)
    mean, variance = ((weights * each).sum(axis=0) / total for each in (means, variances))
    pooled = variance + (weights * (means - mean) ** 2).sum(axis=0) / total
    unit = pooled + layer.epsilon + TINY
    few = len(counts) == 1  # no other batch tells the noise: that of independent examples is the most there can be
    scatter = 1 / np.sqrt(sizes[0]) + 0 * mean if few else means.std(axis=0, ddof=1) / np.sqrt(unit)
    wobble = np.sqrt(2 / sizes[0]) + 0 * mean if few else variances.std(axis=0, ddof=1) / unit
    error = np.sqrt(1 / len(counts) + share_of_average(layer))
    moving = numbers_of(layer.moving_mean)
    logs = log_ratio(layer, variance, pooled)
    return LayerGap(
        layer=layer.name,
        kind=type(layer).__name__,
        channels=len(mean),
        values=int(min(found.values[layer])),
        mean_gap=rms((moving - mean) / np.sqrt(unit)),
        mean_noise=rms(scatter) * float(error),
        variance_ratio=float(np.exp(np.mean(logs))),
        variance_factor=float(np.exp(min(rms(logs), 80.0))),
        variance_noise=float(np.exp(rms(wobble) * error)),
        batch_noise=rms(scatter),
        by_batch=layer in found.by_batch,
    )


def log_ratio(layer, variance, pooled):
    """The logarithm of the batches' variance over the moving one, per channel.

    Moving averages take the variances within batches, Keras' the biased ones, and recalibration takes the variance of
    all data, which is larger by the noise of the means. Whatever lies between is right.
    """
    if not hasattr(layer, "moving_variance"):
        return np.zeros_like(variance)
    moving = numbers_of(layer.moving_variance) + layer.epsilon + TINY
    low, high = (np.log((each + layer.epsilon + TINY) / moving) for each in (variance, pooled))
    return np.where(low > 0, low, np.where(high < 0, high, 0 * low))  # NaN stays NaN


def share_of_average(layer) -> float:
    """The variance of a moving average, in variances of one batch."""
    momentum = getattr(layer, "momentum", None)
    return 0.0 if momentum is None else (1 - momentum) / (1 + momentum)


def numbers_of(variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64).ravel()


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

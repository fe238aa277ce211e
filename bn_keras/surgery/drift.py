"""What `recalibrate` reports: how far the statistics of each layer have moved."""

import dataclasses

import keras
import numpy as np

from bn_keras.layers import DecorrelatedBatchNorm
from bn_keras.surgery.reports import Report, Row


@dataclasses.dataclass(frozen=True)
class Recalibrated(Row):
    """What became of one layer.

    Attributes:
        count: The number of elements per channel, the least of all channels; `None` if the layer keeps its statistics,
            and so are the others then.
        drift: How far the mean has moved, in new deviations √(σ² + ε): the most of all channels.
        ratio: The new σ² + ε over the old one, of the channel where it is furthest from 1; `None` for whitening,
            which has no variances.
    """

    count: int | None = None
    drift: float | None = None
    ratio: float | None = None

    def cells(self) -> list[str]:
        if self.count is None:
            return [self.layer, f"kept: {self.why}", "", ""]
        ratio = "" if self.ratio is None else f"× {self.ratio:.3g}"
        return [self.layer, f"{self.count:,}", f"{self.drift:.2g} σ", ratio]


@dataclasses.dataclass(frozen=True)
class Recalibration(Report):
    """What `recalibrate` did: how many batches and samples each pass read, and a `Recalibrated` per layer."""

    method: str = "population"
    sequential: bool = False
    batches: int = 0
    samples: int = 0
    passes: int = 1

    def __str__(self):
        cells = [["layer", "elements", "mean moved by", "variance"], *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        data = f"{self.samples:,} samples in {self.batches:,} batches, {self.passes} pass{'es' * (self.passes > 1)}"
        head = f"Statistics of {data} (method={self.method!r}, sequential={self.sequential})"
        return "\n".join([head, *lines, *self.facts, str(self.verified)])


def row_of(layer, count, mean, variance) -> Recalibrated:
    """The row of a layer that still has its old statistics, for the new ones."""
    mean = mean.ravel()
    if isinstance(layer, DecorrelatedBatchNorm):
        variance = np.diagonal(variance, axis1=1, axis2=2)
    variance = variance.ravel() + layer.epsilon + np.finfo(np.float32).tiny  # a constant channel with an ε of 0
    drift = np.max(np.abs(mean - numbers_of(layer.moving_mean)) / np.sqrt(variance))
    ratio = None
    if not isinstance(layer, DecorrelatedBatchNorm):
        ratios = variance / (numbers_of(layer.moving_variance) + layer.epsilon + np.finfo(np.float32).tiny)
        ratio = float(ratios[np.argmax(np.abs(np.log(ratios)))])
    kind = type(layer).__name__
    return Recalibrated(layer.name, kind, "recalibrated", count=int(np.min(count)), drift=float(drift), ratio=ratio)


def numbers_of(variable):
    return keras.ops.convert_to_numpy(variable).astype(np.float64).ravel()

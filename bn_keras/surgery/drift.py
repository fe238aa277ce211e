"""What `recalibrate` says of what it did."""

import dataclasses

import keras
import numpy as np

from bn_keras.layers import DecorrelatedBatchNorm


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one layer.

    Attributes:
        name: Of the layer.
        count: The number of elements per channel, the least of all channels; `None` if the layer is frozen and
            keeps its statistics. The others are then `None` too.
        drift: How far the mean has moved, in new deviations √(σ² + ε): the most of all channels.
        ratio: The new σ² + ε over the old one, of the channel where it is furthest from 1; `None` for whitening,
            which has no variances.
    """

    name: str
    count: int | None = None
    drift: float | None = None
    ratio: float | None = None

    @property
    def kept(self):
        return self.count is None

    def cells(self):
        if self.kept:
            return [self.name, "kept: frozen", "", ""]
        ratio = "" if self.ratio is None else f"× {self.ratio:.3g}"
        return [self.name, f"{self.count:,}", f"{self.drift:.2g} σ", ratio]


@dataclasses.dataclass(frozen=True)
class Report:
    """What `recalibrate` did: how many batches and samples each pass took, and a `Row` per layer."""

    method: str
    sequential: bool
    batches: int
    samples: int
    passes: int
    layers: tuple

    def __str__(self):
        cells = [["layer", "elements", "mean moved by", "variance"], *(row.cells() for row in self.layers)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        data = f"{self.samples:,} samples in {self.batches:,} batches, {self.passes} pass{'es' * (self.passes > 1)}"
        return "\n".join([f"Statistics of {data} (method={self.method!r}, sequential={self.sequential})", *lines])


def row_of(layer, count, mean, variance):
    """The row of a layer that has its old statistics still, for the new ones."""
    mean = mean.ravel()
    if isinstance(layer, DecorrelatedBatchNorm):
        variance = np.diagonal(variance, axis1=1, axis2=2)
    variance = variance.ravel() + layer.epsilon + np.finfo(np.float32).tiny  # a constant channel with an ε of 0
    drift = np.max(np.abs(mean - numbers_of(layer.moving_mean)) / np.sqrt(variance))
    ratio = None
    if not isinstance(layer, DecorrelatedBatchNorm):
        ratios = variance / (numbers_of(layer.moving_variance) + layer.epsilon + np.finfo(np.float32).tiny)
        ratio = float(ratios[np.argmax(np.abs(np.log(ratios)))])
    return Row(layer.name, int(np.min(count)), float(drift), ratio)


def numbers_of(variable):
    return keras.ops.convert_to_numpy(variable).astype(np.float64).ravel()

"""How many times fewer steps one group of runs needs than another one to the same accuracy."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence

import numpy as np

from bn_keras.experiments.claims.claim import Values
from bn_keras.experiments.claims.training import best_accuracy, first_step_at
from bn_keras.experiments.comparison.analysis import interval, log_of_ratio, ratio_of

# A speed-up that counts.
FASTER = 1.2
# The targets: the best accuracy that every seed of the baseline reaches, and the median one.
LOWEST, MEDIAN = "lowest best", "median best"


@dataclasses.dataclass(frozen=True)
class Speedup:
    """How many times fewer steps an arm needs than the baseline to a target.

    Attributes:
        target: The validation accuracy to reach.
        baseline: The steps of each seed of the baseline; ∞ for a miss or a divergence.
        crossings: The same of the arm.
    """

    target: float
    baseline: tuple[float, ...]
    crossings: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return ratio_of(statistics.median(self.baseline), statistics.median(self.crossings))

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % bootstrap interval of the ratio over the seeds; the target stays."""
        return interval_of(self.baseline, self.crossings)

    @property
    def clear(self) -> bool:
        """Whether every seed is faster than every seed of the baseline, and the median by enough."""
        return max(self.crossings) < min(self.baseline) and self.ratio >= FASTER


@functools.lru_cache(maxsize=256)
def interval_of(baseline: tuple[float, ...], crossings: tuple[float, ...]) -> tuple[float, float]:
    """The bootstrap interval of the ratio of the medians."""
    steps = [np.array(each) for each in (baseline, crossings)]

    def log_ratio(*picks, axis):
        return log_of_ratio(*(np.median(each[own], axis) for each, own in zip(steps, picks, strict=True)))

    return interval([len(each) for each in steps], log_ratio)


def targets_of(baseline: Sequence[Values]) -> dict[str, float]:
    """The targets that the seeds of a baseline set; a seed that diverges sets none."""
    best = [best_accuracy(run) for run in baseline if not run["diverged_at"]] or [math.inf]
    return {LOWEST: min(best), MEDIAN: statistics.median_low(best)}


def speedup(baseline: Sequence[Values], runs: Sequence[Values], target: float) -> Speedup:
    """The speed-up of an arm to a target."""
    return Speedup(target, *(tuple(first_step_at(run, target) for run in each) for each in (baseline, runs)))


def words_of(gain: Speedup) -> str:
    """A speed-up and its interval."""
    if math.isinf(statistics.median(gain.crossings)):
        return "the median seed never gets there"
    low, high = map(times, gain.interval)
    return f"×{times(gain.ratio)} (95 %: {low}–{high})"


def times(ratio: float) -> str:
    """A ratio; of a miss it is 0 or infinite."""
    return "–" if math.isnan(ratio) else "∞" if math.isinf(ratio) else f"{ratio:.1f}"

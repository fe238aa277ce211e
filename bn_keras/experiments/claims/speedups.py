"""How many times fewer steps one group of runs needs than another one to the same accuracy."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from bn_keras.experiments.claims.claim import Values
from bn_keras.experiments.claims.training import best_accuracy, first_step_at
from bn_keras.experiments.comparison.analysis import ratio_of

# A speed-up that counts.
FASTER = 1.2


@dataclasses.dataclass(frozen=True)
class Speedup:
    """How many times fewer steps an arm needs than the baseline; the range of the seeds pairs the extremes.

    Attributes:
        crossings: The steps to the target of each seed; ∞ for a miss or a divergence.
        ratio: The baseline's median over the arm's.
        low: The baseline's fastest seed over the arm's slowest.
        high: The baseline's slowest seed over the arm's fastest.
        cost: The time of a step, in those of the baseline.
    """

    crossings: list[float]
    ratio: float
    low: float
    high: float
    cost: float

    @property
    def clear(self) -> bool:
        """Whether every seed is faster than every seed of the baseline, and the median by enough."""
        return self.low > 1 and self.ratio >= FASTER


def target_of(runs: Sequence[Values]) -> float:
    """The median over seeds of the best validation accuracy, of two the lower one."""
    return statistics.median_low([best_accuracy(run) for run in runs])


def speedup(baseline: Sequence[Values], runs: Sequence[Values], target: float) -> Speedup:
    """The speed-up of an arm to a target."""
    without, crossings = ([first_step_at(run, target) for run in each] for each in (baseline, runs))
    return Speedup(
        crossings,
        ratio_of(statistics.median(without), statistics.median(crossings)),
        ratio_of(min(without), max(crossings)),
        ratio_of(max(without), min(crossings)),
        step_seconds(runs) / step_seconds(baseline),
    )


def step_seconds(runs: Sequence[Values]) -> float:
    """The median time of a step; NaN where every run diverged at once."""
    times = [run["training_seconds"][-1] / run["steps"][-1] for run in runs if run["steps"][-1]]
    return statistics.median(times) if times else math.nan


def words_of(gain: Speedup) -> str:
    """A speed-up and its range."""
    if math.isnan(gain.ratio):
        return "neither gets there"
    return f"×{times(gain.ratio)} ({times(gain.low)}–{times(gain.high)})"


def times(ratio: float) -> str:
    """A ratio; of a miss it is 0 or infinite."""
    return "–" if math.isnan(ratio) else "∞" if math.isinf(ratio) else f"{ratio:.1f}"

"""What the tuning searches: the space, the trials drawn from it, and how it is widened."""

import dataclasses
import math

from scipy.stats import qmc

DRAW_SEED = 0
# A winner in the outer eighth of a range, half a decade of four, lies at its edge.
EDGE = 1 / 8
# How far a range is widened, and the level that follows the highest one.
FACTORS = {"learning_rate": 10.0, "initial_gain": 2.0}
NEXT_LEVELS = {"warmup": 0.5, "weight_decay": 2e-3}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting of everything that is tuned.

    Args:
        learning_rate: The learning rate after the warm-up.
        warmup: The share of the steps in which the learning rate rises to its peak.
        weight_decay: Decoupled weight decay of the kernels.
        initial_gain: Factor on the first values of all kernels.
    """

    learning_rate: float
    warmup: float
    weight_decay: float
    initial_gain: float


@dataclasses.dataclass(frozen=True)
class Space:
    """The settings that trials are drawn from: two ranges, uniform in the logarithm, and two lists of levels."""

    learning_rate: tuple[float, float]
    initial_gain: tuple[float, float] = (0.5, 2.0)
    warmup: tuple[float, ...] = (0.0, 0.05, 0.2)
    weight_decay: tuple[float, ...] = (0.0, 1e-4, 5e-4)

    def draw(self, count: int) -> tuple[Trial, ...]:
        """The first `count` trials of a scrambled Sobol sequence with a fixed seed.

        >>> trials = Space(learning_rate=(0.001, 10.0)).draw(16)
        >>> sum(trial.learning_rate < 0.1 for trial in trials)
        8
        """
        sequence = qmc.Sobol(d=4, scramble=True, rng=DRAW_SEED)
        points = sequence.random_base2((count - 1).bit_length())[:count]
        return tuple(
            Trial(
                learning_rate=within(self.learning_rate, rate),
                warmup=level(self.warmup, warmup),
                weight_decay=level(self.weight_decay, decay),
                initial_gain=within(self.initial_gain, gain),
            )
            for rate, warmup, decay, gain in points.tolist()
        )

    def edges_of(self, trial: Trial) -> list[tuple[str, str]]:
        """The ends of the space that a trial lies at: pairs of a field and `"low"` or `"high"`.

        Levels have no low end: no warm-up and no weight decay are the least there is.
        """
        ends = []
        for field in FACTORS:
            low, high = getattr(self, field)
            share = math.log(getattr(trial, field) / low) / math.log(high / low)
            if not EDGE <= share <= 1 - EDGE:
                ends.append((field, "low" if share < EDGE else "high"))
        return ends + [
            (field, "high")
            for field, following in NEXT_LEVELS.items()
            if getattr(trial, field) == max(getattr(self, field)) < following
        ]

    def widened(self, field: str, end: str) -> tuple["Space", "Space"]:
        """The part beyond an end, and the whole space with it."""
        values = getattr(self, field)
        if field in NEXT_LEVELS:
            beyond = (NEXT_LEVELS[field],)
            whole = values + beyond
        else:
            low, high = values
            factor = FACTORS[field]
            beyond = (low / factor, low) if end == "low" else (high, high * factor)
            whole = (min(low, beyond[0]), max(high, beyond[1]))
        return dataclasses.replace(self, **{field: beyond}), dataclasses.replace(self, **{field: whole})


def within(ends: tuple[float, float], share: float) -> float:
    """The number at a share of a range in the logarithm, to three digits."""
    low, high = ends
    return float(f"{low * (high / low) ** share:.3g}")


def level(levels: tuple[float, ...], share: float) -> float:
    """The level at a share of a list."""
    return levels[int(share * len(levels))]

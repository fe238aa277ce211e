"""The ranges of numbers. Each upper end keeps a slip of the finger from taking the memory of the machine."""

import dataclasses
import math
import numbers


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`.

    Args:
        kind: `int` or `float`.
        least: The lower end.
        most: The upper end.
        above: Whether the lower end itself is left out.
        below: Whether the upper end itself is left out.

    >>> Range(float, 0, 16, above=True).words
    'a number in (0, 16]'
    >>> [value in Range(int, 2, 8) for value in (2, 9, 2.5, True, None)]
    [True, False, False, False, False]
    """

    kind: type
    least: float
    most: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if not (is_int(value) if self.kind is int else is_real(value)):
            return False
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    @property
    def words(self) -> str:
        """The range as an error message names it."""
        kind = "an int" if self.kind is int else "a number"
        return f"{kind} in {'(' if self.above else '['}{self.least}, {self.most}{')' if self.below else ']'}"


def is_int(value: object) -> bool:
    """Whether a value is a whole number, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


STEPS = 1_000_000_000
RANGES = {
    "accumulate": Range(int, 1, 256),
    "batch_size": Range(int, 2, 65_536),
    "clip_norm": Range(float, 0, 1_000_000, above=True),
    "epochs": Range(int, 1, 1_000_000),
    "evaluate_every": Range(int, 1, STEPS),
    "evaluation_examples": Range(int, 1, STEPS),
    "examined_batches": Range(int, 1, 1_000),  # which stay in memory
    "extensions": Range(int, 0, 10),
    "image_size": Range(int, 1, 4_096),
    "initial_gain": Range(float, 0, 1_000, above=True),
    "join_timeout": Range(float, 0, 604_800, above=True),
    "learning_rate": Range(float, 0, 1_000_000, above=True),
    "norm_momentum": Range(float, 0, 1),
    "opset": Range(int, 9, 99),
    "replicas": Range(int, 1, 64),
    "restarts": Range(int, 0, 1_000),
    "rounds": Range(int, 1, 10_000),
    "seed": Range(int, 0, 2**32 - 1),
    "seeds": Range(int, 1, 1_000),
    "steps": Range(int, 1, STEPS),
    "target": Range(float, 0, 1, above=True),
    "timeout": Range(float, 0, 604_800, above=True),
    "trials": Range(int, 1, 1_024),
    "validation_examples": Range(int, 1, STEPS),
    "warmup": Range(int, 0, STEPS),
    "weight_decay": Range(float, 0, 1, below=True),
    "width": Range(float, 0, 16, above=True),
}

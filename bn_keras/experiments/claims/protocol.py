"""The protocol of every arm: tune the learning rate, then train with fresh seeds; and what a reader has to know."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from bn_keras.experiments.claims.claim import Cell, Found, Values, key_of
from bn_keras.experiments.claims.training import TUNING_SEED, best_rate, tuning_cells


def tuned_cells(found: Found, arm: Cell, rates: Sequence[float], seeds: int) -> list[Cell]:
    """The runs of an arm: one for each learning rate, and then fresh seeds with the best one.

    Args:
        found: The measurements so far.
        arm: The settings of the arm.
        rates: The learning rates.
        seeds: The number of fresh seeds; they start behind the seed of tuning.
    """
    tuning = tuning_cells([arm], rates)
    if not found.has(tuning):
        return tuning
    return tuning + fresh_cells(arm, best_rate(found, rates, **arm), seeds)


def fresh_cells(arm: Cell, learning_rate: float, seeds: int) -> list[Cell]:
    """The runs of an arm with a learning rate and fresh seeds."""
    first = TUNING_SEED + 1
    return [arm | {"learning_rate": learning_rate, "seed": seed} for seed in range(first, first + seeds)]


def fresh_runs(found: Found, **settings) -> list[Values]:
    """The measurements with these settings and a fresh seed."""
    return [values for cell, values in found.where(**settings) if cell["seed"] != TUNING_SEED]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once: two arms may share a run."""
    return list({key_of(cell): cell for cell in cells}.values())


def edge_notes(found: Found, sweeps: Mapping[str, tuple[Cell, Sequence[float]]]) -> tuple[str, ...]:
    """A note that lists the arms whose best learning rate lies at an edge of the sweep.

    Args:
        found: The measurements.
        sweeps: The settings and the learning rates of each arm, by its name in words.
    """
    at_edges = []
    for name, (arm, rates) in sweeps.items():
        rate = best_rate(found, rates, **arm)
        if rate in (min(rates), max(rates)):
            at_edges.append(f"{name} ({rate:g}, the {'lowest' if rate == min(rates) else 'highest'})")
    return (f"The best learning rate lies at an edge of the sweep: {', '.join(at_edges)}.",) if at_edges else ()


def divergence_notes(found: Found, name_of: Callable[[Cell], str]) -> tuple[str, ...]:
    """A note that lists the runs that diverged, by arm, learning rate and seed; seed 0 is that of tuning."""
    runs = [(cell, values["diverged_at"]) for cell, values in found.pairs.values() if "diverged_at" in values]
    seeds: dict[str, list[str]] = {}
    for cell, diverged_at in runs:
        if diverged_at:
            seeds.setdefault(f"{name_of(cell)} at {cell['learning_rate']:g}", []).append(str(cell["seed"]))
    words = "; ".join(f"{arm} (seed{'s' * (len(each) > 1)} {', '.join(each)})" for arm, each in seeds.items())
    count = sum(map(len, seeds.values()))
    return (f"{count} of {len(runs)} runs diverged: {words}.",) if seeds else ()


def surely_above(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether every value is above every other: for 3 seeds each, chance does this once in 20 times.

    >>> surely_above([0.9, 0.92], [0.8, 0.89]), surely_above([0.9, 0.92], [0.8, 0.91])
    (True, False)
    """
    return min(values) > max(others)

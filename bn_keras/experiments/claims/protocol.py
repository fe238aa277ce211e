"""The protocol of every arm: tune the learning rate, then train with fresh seeds; and what a reader has to know."""

from collections.abc import Sequence

from bn_keras.experiments.claims.claim import Cell, Found, Values
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


def fresh_cells(arm: Cell, rate: float, seeds: int) -> list[Cell]:
    """The runs of an arm with a learning rate and fresh seeds."""
    first = TUNING_SEED + 1
    return [arm | {"learning_rate": rate, "seed": seed} for seed in range(first, first + seeds)]


def fresh_runs(found: Found, **settings) -> list[Values]:
    """The measurements with these settings and a fresh seed."""
    return [values for cell, values in found.where(**settings) if cell["seed"] != TUNING_SEED]


def edge_note(found: Found, arm: Cell, rates: Sequence[float], name: str) -> list[str]:
    """A note where the best learning rate lies at an edge of the sweep."""
    rate = best_rate(found, rates, **arm)
    if min(rates) < rate < max(rates):
        return []
    edge = "lowest" if rate == min(rates) else "highest"
    return [f"The best learning rate of {name}, {rate:g}, is the {edge} that was tried."]


def divergence_note(found: Found) -> list[str]:
    """A note that counts the runs that diverged."""
    runs = [(cell, values) for cell, values in found.pairs.values() if "diverged_at" in values]
    diverged = [cell for cell, values in runs if values["diverged_at"]]
    if not diverged:
        return []
    fresh = sum(cell["seed"] != TUNING_SEED for cell in diverged)
    return [f"{len(diverged)} of {len(runs)} runs diverged, {fresh} of them with a fresh seed."]


def surely_above(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether every value is above every other: for 3 seeds each, chance does this once in 20 times.

    >>> surely_above([0.9, 0.92], [0.8, 0.89]), surely_above([0.9, 0.92], [0.8, 0.91])
    (True, False)
    """
    return min(values) > max(others)

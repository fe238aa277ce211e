"""The protocol of every arm: tune the learning rate, then train with fresh seeds; and what a reader has to know."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from bn_keras.experiments.claims.claim import CONDITIONALLY, HOLDS, Cell, Found, Values, key_of
from bn_keras.experiments.claims.figures import spread
from bn_keras.experiments.claims.training import TUNING_SEED, best_rate, tuning_cells

# How many learning rates a sweep may add at each edge.
EXTRA = 2
# A sentence for rules.
CAPPED = "A claim holds under conditions at most if the best learning rate of an arm that the rule reads is at an edge."


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


def swept_rates(found: Found, arms: Sequence[Cell], rates: Sequence[float]) -> tuple[float, ...]:
    """The learning rates that all of these arms try: the planned ones, and more where an arm is best at an edge.

    A sweep grows by half a decade beyond the edge, for all arms alike, and at most `EXTRA` times at each edge.

    Args:
        found: The measurements so far.
        arms: The settings of the arms that are compared.
        rates: The planned learning rates, in ascending order.
    """
    rates = tuple(rates)
    for _ in range(EXTRA):
        if not found.has(tuning_cells(arms, rates)):
            break
        best = {best_rate(found, rates, **arm) for arm in arms}
        lower = (half_decade_from(rates[0], -1),) if rates[0] in best else ()
        higher = (half_decade_from(rates[-1], 1),) if rates[-1] in best else ()
        rates = (*lower, *rates, *higher)
    return rates


def half_decade_from(rate: float, direction: int) -> float:
    """The next rate of 1, 3, 10, 30 and so on; up for a direction of 1, down for -1.

    >>> half_decade_from(10, 1), half_decade_from(0.003, -1)
    (30.0, 0.001)
    """
    place = round(2 * math.log10(rate)) + direction
    return float(f"{10 ** (place / 2):.1g}")


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


def within_the_sweep(verdict: str, conditions: str, edges: Sequence[str]) -> tuple[str, str]:
    """A verdict and its conditions. No claim holds outright while a better rate may lie beyond the sweep.

    >>> within_the_sweep("holds", "", ["The best learning rate lies at an edge of the sweep: without norm."])
    ('holds under conditions', 'within the swept learning rates')
    """
    if verdict == HOLDS and edges:
        return CONDITIONALLY, "within the swept learning rates"
    return verdict, conditions


def rise_note(name: str, runs: Sequence[Values]) -> str:
    """A note that says how much a baseline still gains over the last fifth of its steps."""
    gains = []
    for run in runs:
        if not run["diverged_at"]:
            early = [
                accuracy
                for step, accuracy in zip(run["steps"], run["accuracy"], strict=True)
                if step <= 0.8 * run["steps"][-1]
            ]
            gains.append(100 * (max(run["accuracy"]) - max(early)))
    return (
        f"Over the last fifth of its steps, {name} gains {spread(gains, '.2f')} points on its best validation accuracy."
    )


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

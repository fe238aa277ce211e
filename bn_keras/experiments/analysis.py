"""What results say: the best learning rates, the target, and when each arm gets there."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
    """The runs of one arm at one learning rate, over seeds.

    A run that diverged counts with the accuracy of chance from where it did.
    """

    arm: str
    learning_rate: float
    steps: np.ndarray  # (evaluations,)
    seconds: np.ndarray  # (evaluations,): mean over the seeds still running
    accuracy: np.ndarray  # (seeds, evaluations)
    diverged: int

    @property
    def mean(self):
        return self.accuracy.mean(axis=0)

    @property
    def best(self):
        """The highest mean accuracy."""
        return float(self.mean.max())

    def reaches(self, target):
        """When the mean accuracy first gets to `target`, and when that of each seed does."""
        return Crossing(
            step=first_step(self.steps, self.mean, target),
            seconds=first_step(self.seconds, self.mean, target),
            step_of_seed=tuple(first_step(self.steps, curve, target) for curve in self.accuracy),
        )


@dataclasses.dataclass(frozen=True)
class Crossing:
    """`None` for never."""

    step: int | None
    seconds: float | None
    step_of_seed: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Answer:
    """One question: both arms at a learning rate each, and when they reach the target."""

    question: str
    without: Curve
    with_norm: Curve
    target: float

    @property
    def crossings(self):
        return self.without.reaches(self.target), self.with_norm.reaches(self.target)

    @property
    def fewer_steps(self):
        """How many times fewer steps the arm with norm needs; `None` if it never gets there."""
        return ratio(*(crossing.step for crossing in self.crossings))

    @property
    def less_time(self):
        """How many times fewer seconds the arm with norm needs; `None` if it never gets there."""
        return ratio(*(crossing.seconds for crossing in self.crossings))


def answers(results, lowered_by=0.0):
    """Both questions of a comparison.

    The target is the accuracy that the arm without norm reaches at its best: the highest
    mean accuracy over seeds, at any evaluation and any learning rate. The learning rate at
    which it does is the one of the question at the same rate; with each arm's own best, the
    arm with norm has the rate of its own highest mean accuracy.

    Args:
        results: What `compare` returns; all its runs must be there.
        lowered_by: Taken off the target, to see how much of an answer hangs on the last
            lucky examples of a flat curve; `standard_error` is a natural amount.

    Returns:
        Two `Answer`s: at the same learning rate, and at each arm's own best.

    Raises:
        ValueError: When runs are missing.
    """
    by_rate = curves(results)
    without, with_norm = best_curve(by_rate["none"]), best_curve(by_rate["batch"])
    same = by_rate["batch"][without.learning_rate]
    target = without.best - lowered_by
    return (
        Answer("the same learning rate", without, same, target),
        Answer("each arm's best learning rate", without, with_norm, target),
    )


def standard_error(results):
    """That of the target, as a proportion counted over the test images and seeds."""
    recipe, target = results["recipe"], answers(results)[0].target
    images = min(recipe["evaluation_examples"] or math.inf, results["data"]["test_examples"])
    return math.sqrt(target * (1 - target) / (images * len(recipe["seeds"])))


def curves(results):
    """A `Curve` for each arm and learning rate."""
    recipe = results["recipe"]
    grid = np.arange(0, recipe["steps"] + 1, recipe["evaluate_every"])
    runs = {(run["arm"], run["learning_rate"], run["seed"]): run for run in results["runs"]}
    wanted = {
        arm: {rate: [(arm, rate, seed) for seed in recipe["seeds"]] for rate in recipe["learning_rates"]}
        for arm in ("none", "batch")
    }
    missing = sum(key not in runs for rates in wanted.values() for keys in rates.values() for key in keys)
    if missing:
        raise ValueError(f"{missing} runs of the recipe are not in the results. Finish them with --resume.")
    chance = 1 / results["data"]["classes"]
    return {
        arm: {rate: over_seeds([runs[key] for key in keys], grid, chance) for rate, keys in rates.items()}
        for arm, rates in wanted.items()
    }


def over_seeds(runs, grid, chance):
    accuracy = np.full((len(runs), len(grid)), chance)
    seconds = np.full((len(runs), len(grid)), np.nan)
    for i, run in enumerate(runs):
        kept = len(run["step"]) - (run["diverged_at"] is not None)
        accuracy[i, :kept] = run["accuracy"][:kept]
        seconds[i, :kept] = run["seconds"][:kept]
    running = ~np.isnan(seconds)
    count = np.maximum(running.sum(axis=0), 1)
    mean_seconds = np.where(running, seconds, 0).sum(axis=0) / count
    diverged = sum(run["diverged_at"] is not None for run in runs)
    return Curve(runs[0]["arm"], runs[0]["learning_rate"], grid, mean_seconds, accuracy, diverged)


def best_curve(by_rate):
    """The one with the highest mean accuracy; of equals the one that is there first."""
    return max(by_rate.values(), key=lambda curve: (curve.best, -int(curve.mean.argmax())))


def first_step(position, accuracy, target):
    # The mean of float32 values may miss its own maximum by a rounding.
    reached = np.flatnonzero(accuracy >= target - 1e-9)
    return position[reached[0]].item() if len(reached) else None


def ratio(without, with_norm):
    return without / with_norm if without and with_norm else None

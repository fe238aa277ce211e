"""A comparison without training: runs whose accuracy is a logistic curve with noise."""

import dataclasses
import functools
import json
import math
import pathlib
import zlib
from collections.abc import Mapping

import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.compare import COMPARISON, RUNS
from bn_keras.experiments.comparison.plan import Plan, plan
from bn_keras.experiments.comparison.recipe import Recipe
from bn_keras.experiments.comparison.runs import Job, Run, RunStore
from bn_keras.experiments.comparison.step_cost import StepCost, StepCosts, write_costs

CHANCE = 0.1
DATA = {
    "name": "digits",
    "training_examples": 1438,
    "test_examples": 359,
    "input_shape": [8, 8, 1],
    "classes": 10,
    "skipped": 0,
    "fingerprint": "made up",
}
PROVENANCE = {
    "started": "2000-01-01T00:00:00+00:00",
    "machine": {"processor": "made up", "cores": 1, "memory": "1 kB", "system": "made up"},
    "versions": {"bn_keras": "0", "tensorflow": "0", "keras": "0", "numpy": "0", "python": "0"},
}
COSTS = {"none": 1e-3, "batch": 1.25e-3}


@dataclasses.dataclass(frozen=True)
class Learner:
    """How an arm learns.

    Args:
        best: Its accuracy after many steps at its best learning rate.
        rate: Its best learning rate; away from it the accuracy is lower.
        steps: The steps to half of its accuracy at that rate; fewer with a higher rate.
        limit: Runs with a higher learning rate diverge.
    """

    best: float
    rate: float
    steps: float
    limit: float = math.inf


LEARNERS = {
    "none": Learner(best=0.93, rate=1.0, steps=260.0, limit=8.0),
    "batch": Learner(best=0.965, rate=3.0, steps=90.0, limit=60.0),
    "layer": Learner(best=0.95, rate=2.0, steps=150.0, limit=30.0),
    "group": Learner(best=0.94, rate=2.0, steps=190.0, limit=30.0),
}


def recipe(**changes) -> Recipe:
    """A recipe with any field changed."""
    fields = {
        "preset": "mlp_sigmoid", "data": "digits", "optimizer": "sgd", "learning_rates": (0.01, 100.0), "steps": 1_000,
        "evaluate_every": 10, "validation_examples": 300, "extensions": 0,
    }  # fmt: skip
    return Recipe(**fields | changes)


def comparison(learners: Mapping[str, Learner] | None = None, **changes) -> Comparison:
    """A finished comparison.

    Args:
        learners: How arms learn, by the name of the arm or of its norm, where it is not as in `LEARNERS`.
        **changes: Fields of the recipe.
    """
    made_up, find, found = finished(learners, **changes)
    seeds = {
        (arm, role): tuple(find(job) for job in found.jobs if (job.arm, job.trial) == (arm, trial))
        for (arm, role), trial in found.winners.items()
    }
    return Comparison(made_up, DATA, found, seeds, costs(made_up))


def folder(path: pathlib.Path, learners: Mapping[str, Learner] | None = None, **changes) -> pathlib.Path:
    """The same comparison as stored files; `read_comparison` reads it back from the folder that is returned."""
    made_up, find, found = finished(learners, **changes)
    store = RunStore(path / RUNS)
    for job in [*(run.job for pool in found.pools.values() for run in pool), *found.jobs]:
        store.put(job.key(made_up), find(job), {"parameters": 1000, "seconds": 1.0})
    header = {"recipe": made_up.to_dict(), "data": DATA, **PROVENANCE}
    (path / COMPARISON).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    write_costs(path, costs(made_up))
    return path


def finished(learners: Mapping[str, Learner] | None = None, **changes):
    """The recipe, the function that finds a run, and the plan of which no run is missing."""
    made_up = recipe(**changes)
    learners = LEARNERS | (learners or {})
    find = functools.cache(functools.partial(run_of, recipe=made_up, learners=learners))
    found: Plan = plan(made_up, find)
    return made_up, find, found


def run_of(job: Job, recipe: Recipe, learners: Mapping[str, Learner]) -> Run:
    """The run of a job; the same job gives the same run."""
    learner = learners.get(job.arm) or learners.get(job.arm.split(":")[0]) or LEARNERS["layer"]
    generator = np.random.default_rng(zlib.crc32(words_of(job).encode()))
    rate = job.trial.learning_rate * job.trial.initial_gain
    steps = np.arange(0, job.steps + 1, recipe.evaluate_every)
    half = learner.steps * (learner.rate / rate) ** 0.8 * math.exp(generator.normal(0, 0.1))
    best = learner.best - (learner.best - CHANCE) * min(1.0, 0.05 * math.log10(rate / learner.rate) ** 2)
    best += 0.004 * generator.normal()
    rise = 1 / (1 + (np.maximum(steps, 1e-9) / half) ** -1.8)
    accuracy = CHANCE + (best - CHANCE) * rise + 0.006 * generator.normal(size=len(steps))
    accuracy = np.round(np.clip(accuracy, 0, 1) * recipe.validation_examples) / recipe.validation_examples
    accuracy = np.round(accuracy, 6)
    test = round(float(accuracy.max()) - 0.005, 6) if job.tests else None
    if rate <= learner.limit:
        return Run(job, steps, accuracy, None, test)
    kept = 1 + int(generator.integers(0, len(steps) // 2))
    return Run(job, steps[:kept], accuracy[:kept], int(steps[kept]), test)


def costs(recipe: Recipe) -> StepCosts:
    """The cost of a step of each arm; norms that `COSTS` lacks cost 1.5 ms."""
    seconds = {arm: COSTS.get(arm, 1.5e-3) for arm in recipe.arms}
    arms = {arm: StepCost((cost, 1.02 * cost, 0.98 * cost), 1.5, 1_000) for arm, cost in seconds.items()}
    return StepCosts(arms, PROVENANCE)


def words_of(job: Job) -> str:
    """A text that differs where the job does; the seed of its noise."""
    trial = job.trial
    return (
        f"{job.arm}, lr {trial.learning_rate:g}, warm-up {trial.warmup:.0%}, decay {trial.weight_decay:g}, "
        f"gain {trial.initial_gain:g}, seed {job.seed}"
    )

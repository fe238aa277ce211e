"""What a step costs: measured apart from the training runs, all arms in turns."""

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Mapping

from bn_keras.experiments.data import Data
from bn_keras.experiments.trainer import Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.lab.machine import provenance
from bn_keras.lab.markdown import three_digits
from bn_keras.lab.results import ResultsError, write_whole
from bn_keras.lab.watcher import Watcher

COSTS = "costs.json"
ROUNDS = 7
# Each turn of an arm lasts about so long; in a sketch this share of it.
TURN_SECONDS = 1.0
SKETCH_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The cost of a training step of one arm.

    Args:
        seconds: The seconds of a step in each round.
        compile_seconds: The seconds of the first call, which traces and compiles the step, without its steps.
        parameters: Weights and moving statistics of the network.
    """

    seconds: tuple[float, ...]
    compile_seconds: float
    parameters: int

    @property
    def median(self) -> float:
        """The median over the rounds, in seconds."""
        return statistics.median(self.seconds)


@dataclasses.dataclass(frozen=True)
class StepCosts:
    """The costs of all arms, and the machine and versions that they were measured with."""

    arms: Mapping[str, StepCost]
    provenance: Mapping[str, object]

    def ratio(self, arm: str, other: str) -> float:
        """How many times a step of `other` a step of `arm` costs."""
        return self.arms[arm].median / self.arms[other].median


def measure_costs(
    recipes: Mapping[str, TrainingRecipe], data: Data, watcher: Watcher, *, sketch: bool = False
) -> StepCosts:
    """Measures all arms in turns, so that a slow minute of the machine hits all of them alike.

    Args:
        recipes: The recipe of each arm.
        data: The data that all arms train on.
        watcher: Shows the progress.
        sketch: Whether the turns are short. Defaults to `False`.
    """
    turn_seconds = TURN_SECONDS * (SKETCH_SHARE if sketch else 1.0)
    trainers, compile_seconds, counts = {}, {}, {}
    for arm, recipe in recipes.items():
        watcher.item_begins(f"compiling {arm}")
        trainers[arm] = trainer = Trainer(recipe, data)
        started = time.perf_counter()
        trainer.start()
        _, warm = trainer.advance(1)
        compile_seconds[arm] = time.perf_counter() - started - 2 * warm
        counts[arm] = max(1, min(100, round(turn_seconds / max(warm, 1e-4))))
    seconds = {arm: [] for arm in recipes}
    for turn in range(ROUNDS):
        for arm, trainer in trainers.items():
            watcher.item_advances(turn / ROUNDS, f"round {turn + 1} of {ROUNDS}: {arm}")
            spent, done = 0.0, 0
            while spent < turn_seconds:
                spent += trainer.advance(counts[arm])[1]
                done += counts[arm]
            seconds[arm].append(spent / done)
    arms = {
        arm: StepCost(tuple(seconds[arm]), max(0.0, compile_seconds[arm]), trainers[arm].model.count_params())
        for arm in recipes
    }
    watcher.item_ends(", ".join(f"{arm} {three_digits(1000 * cost.median)} ms" for arm, cost in arms.items()))
    return StepCosts(arms, provenance())


def write_costs(out: pathlib.Path, costs: StepCosts) -> None:
    """Stores the costs in the folder of a comparison."""
    values = {
        arm: {
            "seconds": [float(f"{value:.4g}") for value in cost.seconds],
            "compile_seconds": round(cost.compile_seconds, 2),
            "parameters": cost.parameters,
        }
        for arm, cost in costs.arms.items()
    }
    write_whole(out / COSTS, json.dumps({"arms": values, **costs.provenance}, indent=1) + "\n")


def read_costs(out: pathlib.Path) -> StepCosts | None:
    """The stored costs, or `None`.

    Raises:
        ResultsError: When the file holds something else.
    """
    path = out / COSTS
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        arms = {
            arm: StepCost(tuple(cost["seconds"]), cost["compile_seconds"], cost["parameters"])
            for arm, cost in values.pop("arms").items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{str(path)!r} holds no costs: {error}. Remove it, and resume.") from None
    return StepCosts(arms, values)

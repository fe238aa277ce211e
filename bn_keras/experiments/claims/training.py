"""Training for the claims: one curve per cell, and the choice of a learning rate that all arms share."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import keras

from bn_keras.experiments.claims.claim import Cell, Found, Values
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.trainer import Evaluation, Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe

TUNING_SEED = 0
last_trainer: dict[str, Trainer] = {}


def trainer_of(recipe: TrainingRecipe, data: Data, make_network: Callable = build_network) -> Trainer:
    """A trainer; the last one where only the seed, the learning rate and the gain differ, as its steps are compiled."""
    same = dataclasses.replace(recipe, seed=0, learning_rate=1.0, initial_gain=1.0).to_dict()
    key = str((same, data.name, data.input_shape, examples_of(data), make_network))
    if key not in last_trainer:
        last_trainer.clear()
        keras.backend.clear_session()  # Keras collects garbage here
        last_trainer[key] = Trainer(recipe, data, make_network=make_network)
    trainer = last_trainer[key]
    trainer.recipe = recipe
    return trainer


def examples_of(data: Data) -> list[int]:
    """The number of examples in each split: a part of a data set has the name of the whole."""
    return [split.examples for split in (data.train, data.validation, data.test) if split is not None]


def train_curve(
    recipe: TrainingRecipe,
    data: Data,
    *,
    make_network: Callable = build_network,
    observe: Callable[[Trainer, Evaluation], Values] | None = None,
    last_step: int | None = None,
) -> Values:
    """Trains a recipe and returns its curve.

    Args:
        recipe: A `TrainingRecipe`; its validation examples make the curve.
        data: What `load` returns.
        make_network: As in `Trainer`.
        observe: Returns further values at each evaluation, before the first step too.
        last_step: Ends the run before the schedule of the learning rate is through; `None` trains all steps.

    Returns:
        Lists `steps`, `accuracy` and `loss` (mean training loss since the evaluation before), one more for each value
        of `observe`, and `diverged_at`, `train_accuracy` and `test_accuracy`. The accuracies of a run that diverged
        are `None`.
    """
    trainer = trainer_of(recipe, data, make_network)
    curve: dict[str, list] = {"steps": [], "accuracy": [], "loss": []}
    for evaluation in trainer.run(recipe.learning_rate, recipe.seed):
        if evaluation.loss is not None and not math.isfinite(evaluation.loss):
            return curve | {"diverged_at": evaluation.step, "train_accuracy": None, "test_accuracy": None}
        row = {"steps": evaluation.step, "accuracy": round(evaluation.accuracy, 5), "loss": rounded(evaluation.loss)}
        for name, value in (row | (observe(trainer, evaluation) if observe else {})).items():
            curve.setdefault(name, []).append(value)
        if evaluation.step == last_step:
            break
    return curve | {
        "diverged_at": None,
        "train_accuracy": round(trainer.evaluate(trainer.data.train), 5),
        "test_accuracy": round(trainer.evaluate(trainer.data.test), 5),
    }


def rounded(value: float | None, digits: int = 5) -> float | None:
    """A value with a number of significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


def best_accuracy(values: Values) -> float:
    """The best validation accuracy of a curve; 0 for a run that diverged."""
    return 0.0 if values["diverged_at"] else max(values["accuracy"])


def first_step_at(values: Values, target: float) -> float:
    """The step of the first evaluation at a target or above it; ∞ for a miss or a divergence."""
    if values["diverged_at"]:
        return math.inf
    curve = zip(values["steps"], values["accuracy"], strict=True)
    return min((step for step, accuracy in curve if accuracy >= target), default=math.inf)


def best_rate(found: Found, rates: Sequence[float], **settings) -> float:
    """The learning rate whose tuning run has the best validation accuracy; the lower one of two equal ones.

    Args:
        found: The measurements, with one tuning run for each rate.
        rates: The learning rates that were tried.
        **settings: All settings of the arm.
    """
    runs = {rate: best_accuracy(found[settings | {"learning_rate": rate, "seed": TUNING_SEED}]) for rate in rates}
    return max(sorted(runs), key=lambda rate: (runs[rate], -rate))


def tuning_cells(arms: Sequence[Cell], rates: Sequence[float]) -> list[Cell]:
    """One run for each arm and learning rate, with the seed of tuning."""
    return [arm | {"learning_rate": rate, "seed": TUNING_SEED} for arm in arms for rate in rates]

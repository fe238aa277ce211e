"""Training for the claims: one curve per cell, and the choice of a learning rate that all arms share."""

import math
from collections.abc import Callable, Sequence

from bn_keras.experiments.claims.claim import Cell, Found, Values
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.shared_trainer import shared_trainer
from bn_keras.experiments.trainer import Evaluation, Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe

TUNING_SEED = 0


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
    trainer = shared_trainer(recipe, data, make_network)
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

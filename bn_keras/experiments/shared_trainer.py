"""One compiled trainer for all runs that differ in values alone, as compiling takes longer than a short run."""

from collections.abc import Callable, Hashable

import keras

from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.trainer import Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe

# Values of variables, of the first weights, or of the Python loop around the compiled steps. Warm-up and weight decay
# are constants of the compiled step: as variables they would change the last bits, because Grappler folds constants.
NOT_COMPILED = ("seed", "learning_rate", "initial_gain", "evaluate_every")

last_trainer: dict[Hashable, Trainer] = {}  # one at most; `clear` frees its memory


def shared_trainer(recipe: TrainingRecipe, data: Data, make_network: Callable = build_network) -> Trainer:
    """Returns the last trainer if it has compiled the steps of a recipe, and a new trainer otherwise.

    A run of a shared trainer is bit-identical to the run of a new trainer. `Trainer.run` takes the learning rate and
    the seed, and starts from the first weights.

    Args:
        recipe: A `TrainingRecipe`, which the trainer follows from now on.
        data: A `Data`. Equal data in another object get a new trainer.
        make_network: As in `Trainer`. Defaults to `build_network`.

    Returns:
        A `Trainer`. The next call may hand it to another recipe.

    Raises:
        RecipeError: As `Trainer` does.
    """
    key = key_of(recipe, data, make_network)
    if key not in last_trainer:
        last_trainer.clear()
        keras.backend.clear_session()  # Keras collects garbage here
        last_trainer[key] = Trainer(recipe, data, make_network=make_network)
    trainer = last_trainer[key]
    trainer.recipe = recipe
    return trainer


def is_compiled(recipe: TrainingRecipe, data: Data, make_network: Callable = build_network) -> bool:
    """Whether `shared_trainer` would return the last trainer."""
    return key_of(recipe, data, make_network) in last_trainer


def key_of(recipe: TrainingRecipe, data: Data, make_network: Callable) -> Hashable:
    """What two runs must have in common to share a trainer."""
    fields = recipe.to_dict()
    for name in NOT_COMPILED:
        del fields[name]
    if recipe.schedule == "constant" and not recipe.warmup:
        del fields["steps"]
    return str(fields), data, make_network

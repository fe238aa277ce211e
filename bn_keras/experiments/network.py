"""The network of a recipe, in the recipe's precision."""

import contextlib
from collections.abc import Iterator

import keras

from bn_keras.experiments.data import Data
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.models import build


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made in the block have this dtype policy; afterwards the global one is as before."""
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(earlier)


def build_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """A new network that takes the raw examples of a data set: it standardizes images itself."""
    return build(
        recipe.preset,
        norm=recipe.norm,
        classes=data.classes,
        input_shape=tuple(data.input_shape),
        width=recipe.width,
        preprocessing=data.preprocessing(),
        **recipe.options,
    )

"""The network of a recipe, in the recipe's precision."""

import contextlib
from collections.abc import Iterator

import keras

from bn_keras.choices.fields import RecipeError
from bn_keras.experiments.data import Data
from bn_keras.experiments.memory import WIDE, check_width
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.models import build, preset


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made in the block have this dtype policy; afterwards the global one is as before."""
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(earlier)


class NetworkError(ValueError):
    """The network of a recipe cannot be built for its data."""


def build_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """A new network that takes the raw examples of a data set: it standardizes images itself.

    Raises:
        RecipeError: When the weights do not fit into the memory.
        NetworkError: When the norm, the width or the input shape do not fit the network.
    """
    arguments = {
        "norm": recipe.norm,
        "classes": data.classes,
        "input_shape": tuple(data.input_shape),
        "preprocessing": data.preprocessing(),
        **recipe.options,
    }
    try:
        if recipe.width > WIDE:
            check_width(recipe, build(recipe.preset, width=1.0, **arguments).count_params())
        return build(recipe.preset, width=recipe.width, **arguments)
    except RecipeError:
        raise
    except (ValueError, TypeError) as error:
        hint = kind_wanted(recipe.preset, data)
        raise NetworkError(f"{recipe.preset!r} cannot be built for the data {data.name!r}: {error}{hint}") from error


def kind_wanted(name: str, data: Data) -> str:
    """A sentence with the data that a preset takes, if the data set is of the other kind."""
    if len(preset(name).input_shape) == len(data.input_shape):
        return ""
    text = len(preset(name).input_shape) == 1
    return f" This network takes {'text, such as text:PATH or tiny_shakespeare' if text else 'images'}."

"""Experiments that show what normalization does to training."""

from bn_keras.experiments.analysis import answers
from bn_keras.experiments.compare import compare, read_results
from bn_keras.experiments.data import Data, DataError, load
from bn_keras.experiments.plot import draw
from bn_keras.experiments.recipe import Recipe, RecipeError, default_recipe
from bn_keras.lab.results import ResultsError

__all__ = [
    "Data",
    "DataError",
    "Recipe",
    "RecipeError",
    "ResultsError",
    "answers",
    "compare",
    "default_recipe",
    "draw",
    "load",
    "read_results",
]

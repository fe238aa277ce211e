"""Experiments that show what normalization does to training, and the training itself."""

from bn_keras.lab.extras import packages_of

with packages_of("lab", "matplotlib"):  # the figures import it when they are drawn
    from bn_keras.choices.fields import RecipeError
    from bn_keras.experiments.cluster import make_strategy
    from bn_keras.experiments.comparison.analysis import Comparison
    from bn_keras.experiments.comparison.compare import compare, read_comparison
    from bn_keras.experiments.comparison.figures import draw
    from bn_keras.experiments.comparison.recipe import Recipe, default_recipe
    from bn_keras.experiments.comparison.report import summarize
    from bn_keras.experiments.data import Data, DataError, load
    from bn_keras.experiments.network import NetworkError
    from bn_keras.experiments.rendezvous import ClusterError
    from bn_keras.experiments.train import train
    from bn_keras.experiments.trainer import Trainer
    from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
    from bn_keras.experiments.workers import LostWorkerError
    from bn_keras.lab.results import ResultsError

__all__ = [
    "ClusterError",
    "Comparison",
    "Data",
    "DataError",
    "LostWorkerError",
    "NetworkError",
    "Recipe",
    "RecipeError",
    "ResultsError",
    "Trainer",
    "TrainingRecipe",
    "compare",
    "default_recipe",
    "draw",
    "load",
    "make_strategy",
    "read_comparison",
    "summarize",
    "train",
    "training_recipe",
]

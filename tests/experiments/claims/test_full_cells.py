"""The cells of the full forms, which take minutes to train, make valid recipes and networks."""

import importlib

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.catalog import MODULES, claim_named
from bn_keras.experiments.claims.claim import Form
from bn_keras.experiments.claims.paper_arms import make_paper_network
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

TRAINED_IN = {"C1": ("mnist_figure", "paper_arms"), "C2": (MODULES["C2"],), "C3": (MODULES["C3"],),
              "C4": ("mnist_figure", MODULES["C4"]), "C6": ("mnist_figure",)}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED_IN)
def test_every_cell_of_the_full_form_makes_a_recipe_with_its_settings(name, monkeypatch):
    claim, recipes = claim_named(name), []

    def train_nothing(recipe, data, **options):
        recipes.append(recipe)
        return planted_curve(diverged=True)  # without percentiles

    for module in TRAINED_IN[name]:
        monkeypatch.setattr(
            importlib.import_module(f"bn_keras.experiments.claims.{module}"), "train_curve", train_nothing
        )
    monkeypatch.setattr("bn_keras.experiments.claims.c01_faster.measure_cost", lambda cell, load: {"ratio": 1.0})
    found = planted_measurements(claim, Form(), lambda cell: claim.measure(cell, lambda name, **options: None))
    trained = [cell for cell, _ in found.pairs.values() if "learning_rate" in cell]
    for recipe, cell in zip(recipes, trained, strict=True):
        assert recipe.data == cell["data"]
        assert recipe.seed == cell["seed"]
        assert recipe.learning_rate == cell["learning_rate"]
        assert (recipe.norm is None) == (cell["norm"] == "none")
        assert recipe.image_size in (cell.get("image_size"), None)


@pytest.mark.slow
def test_inception_takes_sigmoids_and_dropout():
    digits = load("digits")
    recipe = TrainingRecipe(preset="inception_small", data="digits", width=0.125, norm="batch")
    variant, plain = make_paper_network(recipe, digits, sigmoid=True, dropout=True), build_network(recipe, digits)
    assert [weight.shape for weight in variant.weights] == [weight.shape for weight in plain.weights]
    activations = {layer.activation.__name__ for layer in variant.layers if layer.name.endswith("_relu")}
    assert activations == {"sigmoid"}
    assert "dropout" in [layer.name for layer in variant.layers]

"""Recipes refuse what cannot be run."""

import dataclasses

import pytest

from bn_keras.experiments import Recipe, RecipeError, default_recipe
from bn_keras.models import list_presets


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_has_a_recipe(name):
    recipe = default_recipe(name)
    assert recipe.preset == name
    assert len(recipe.seeds) >= 3
    assert max(recipe.learning_rates) / min(recipe.learning_rates) >= 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", ""),
        ("width", 0),
        ("width", float("inf")),
        ("optimizer", "adm"),
        ("batch_size", 1),
        ("batch_size", 2.5),
        ("learning_rates", ()),
        ("learning_rates", (0.1, 0.1)),
        ("learning_rates", (0.1, -1)),
        ("learning_rates", 0.1),
        ("steps", 0),
        ("evaluate_every", True),
        ("evaluation_examples", 0),
        ("norm_momentum", 1.5),
        ("seeds", (0.5,)),
        ("seeds", (-1,)),
    ],
)
def test_a_wrong_value_names_its_field(field, value):
    with pytest.raises(RecipeError, match=f"`{field}` must be .* Received: {field}="):
        default_recipe("mlp_sigmoid", **{field: value})


def test_steps_are_a_multiple_of_the_evaluation_interval():
    with pytest.raises(RecipeError, match="`steps` must be a multiple of evaluate_every=30"):
        default_recipe("mlp_sigmoid", steps=100, evaluate_every=30)
    for steps in (1, 7, 30, 101, 3000):
        assert steps % default_recipe("mlp_sigmoid", steps=steps).evaluate_every == 0


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'mlp_sigmoid'"):
        default_recipe("mlp_sigmod")


def test_a_recipe_is_frozen_and_survives_json():
    recipe = default_recipe("inception_small", seeds=[4, 5])
    assert Recipe(**recipe.to_dict()) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 3

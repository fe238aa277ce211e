"""Recipes refuse what cannot be run."""

import dataclasses
import json

import numpy as np
import pytest

from bn_keras.experiments import Recipe, RecipeError, TrainingRecipe, default_recipe, training_recipe
from bn_keras.models import list_presets, preset


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


def test_numbers_of_numpy_can_be_stored():
    recipe = training_recipe("mlp_sigmoid", steps=np.int64(20), learning_rate=np.float32(0.5), seed=np.int32(3))
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()
    recipe = default_recipe("mlp_sigmoid", learning_rates=tuple(np.array([0.1, 0.2])), seeds=tuple(np.arange(2)))
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_has_a_recipe_of_training(name):
    recipe = training_recipe(name, options=dict(preset(name).options))
    assert TrainingRecipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": lambda: None}, "`norm` must be a name"),
        ({"options": {"depth": 3}}, "`options` must be options of 'mlp_sigmoid': none"),
        ({"dtype": "int8"}, "`dtype` must be one of"),
        ({"augment": "flip"}, "`augment` must be different names"),
        ({"augment": ("flip", "flip")}, "`augment` must be different names"),
        ({"clip_norm": 0}, "`clip_norm` must be a number > 0"),
        ({"weight_decay": 1}, "`weight_decay` must be a number in"),
        ({"warmup": 1000}, "`warmup` must be less than steps=1000"),
        ({"accumulate": 3}, "`batch_size` must be a multiple of accumulate=3"),
        ({"target": 1.5}, "`target` must be a number in"),
        ({"schedule": "step"}, "`schedule` must be one of"),
        ({"image_size": 0}, "`image_size` must be an int ≥ 1"),
        ({"seed": -1}, "`seed` must be an int in"),
    ],
)
def test_a_wrong_value_of_training_names_its_field(changes, words):
    with pytest.raises(RecipeError, match=words):
        training_recipe("mlp_sigmoid", **({"batch_size": 64} | changes))

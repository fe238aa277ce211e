"""Recipes of training refuse what cannot be run."""

import dataclasses
import json

import numpy as np
import pytest

from bn_keras.experiments import RecipeError, TrainingRecipe, training_recipe
from bn_keras.models import list_presets, preset


def test_numbers_of_numpy_can_be_stored():
    recipe = training_recipe("mlp_sigmoid", steps=np.int64(20), learning_rate=np.float32(0.5), seed=np.int32(3))
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        training_recipe("mlp_sigmoid").steps = 3


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_has_a_recipe_of_training(name):
    recipe = training_recipe(name, options=dict(preset(name).options), validation_examples=300, initial_gain=2.0)
    assert TrainingRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": lambda: None}, "`norm` must be a name"),
        ({"options": {"depth": 3}}, "`options` must be left out: 'mlp_sigmoid' has no options"),
        ({"dtype": "int8"}, "`dtype` must be one of"),
        ({"augment": "flip"}, "`augment` must be different names"),
        ({"augment": ("flip", "flip")}, "`augment` must be different names"),
        ({"clip_norm": 0}, "`clip_norm` must be a number in .0, 1000000."),
        ({"weight_decay": 1}, "`weight_decay` must be a number in"),
        ({"warmup": 1000}, "`warmup` must be less than steps=1000"),
        ({"accumulate": 3}, "`batch_size` must be a multiple of accumulate=3"),
        ({"target": 1.5}, "`target` must be a number in"),
        ({"schedule": "step"}, "`schedule` must be one of"),
        ({"image_size": 0}, "`image_size` must be an int in .1, 4096."),
        ({"seed": -1}, "`seed` must be an int in"),
        ({"validation_examples": 0}, "`validation_examples` must be an int in .*. Received: validation_examples=0"),
        ({"validation_examples": 2.5}, "`validation_examples` must be an int in"),
        ({"initial_gain": 0}, "`initial_gain` must be a number in .0, 1000.. Received: initial_gain=0"),
        ({"initial_gain": float("nan")}, "`initial_gain` must be a number in"),
        ({"initial_gain": "2"}, "`initial_gain` must be a number in"),
    ],
)
def test_a_wrong_value_of_training_names_its_field(changes, words):
    with pytest.raises(RecipeError, match=words):
        training_recipe("mlp_sigmoid", **({"batch_size": 64} | changes))

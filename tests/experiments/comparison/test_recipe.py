"""The recipe of a comparison refuses what cannot be compared."""

import dataclasses
import json

import numpy as np
import pytest

from bn_keras.experiments import Recipe, RecipeError, default_recipe
from bn_keras.experiments.comparison.space import Trial
from bn_keras.models import list_presets

TRIAL = Trial(learning_rate=0.5, warmup=0.05, weight_decay=1e-4, initial_gain=2.0)
NORMS = (None, "batch", ("group", {"groups": 4}), "layer")


def recipe(**changes):
    return Recipe(**{"preset": "mlp_sigmoid", "data": "digits", "validation_examples": 300} | changes)


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_has_a_recipe_with_sixteen_trials_over_four_decades(name):
    found = default_recipe(name)
    assert (found.preset, found.trials, found.seeds) == (name, 16, 10)
    assert max(found.learning_rates) / min(found.learning_rates) == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", ""),
        ("norms", "batch"),
        ("norms", ()),
        ("norms", (None,)),
        ("norms", ("batch", "layer")),
        ("norms", (None, "batch", "batch")),
        ("norms", (None, lambda: None)),
        ("width", 0),
        ("width", float("inf")),
        ("image_size", 0),
        ("image_size", 8.5),
        ("optimizer", "adm"),
        ("batch_size", 1),
        ("batch_size", 2.5),
        ("learning_rates", ()),
        ("learning_rates", 0.1),
        ("learning_rates", (0.1,)),
        ("learning_rates", (0.1, 0.1)),
        ("learning_rates", (1.0, 0.1)),
        ("learning_rates", (0.0, 1.0)),
        ("learning_rates", (0.1, float("nan"))),
        ("learning_rates", (0.1, 1.0, 10.0)),
        ("steps", 0),
        ("steps", 10.5),
        ("evaluate_every", True),
        ("validation_examples", 0),
        ("validation_examples", None),
        ("norm_momentum", 1.5),
        ("trials", 0),
        ("trials", "16"),
        ("seeds", 0),
        ("seeds", (0, 1)),
        ("extensions", -1),
        ("extensions", 0.5),
        ("sketch", "no"),
    ],
)
def test_a_wrong_value_names_its_field(field, value):
    with pytest.raises(RecipeError, match=f"`{field}` .*Received: "):
        recipe(**{field: value})


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'mlp_sigmoid'"):
        default_recipe("mlp_sigmod")
    with pytest.raises(ValueError, match="Did you mean 'batch'"):
        recipe(norms=(None, "bacth"))


@pytest.mark.parametrize("norm", [3, ("batch",), ("group", 4)])
def test_what_is_no_norm_is_refused(norm):
    with pytest.raises((ValueError, TypeError), match="Received: norm="):
        recipe(norms=(None, norm))


def test_every_field_has_a_wrong_value_here():
    tested = {
        mark.args[1][i][0] for mark in test_a_wrong_value_names_its_field.pytestmark for i in range(len(mark.args[1]))
    }
    assert tested == {field.name for field in dataclasses.fields(Recipe)} - {"preset"}


def test_steps_are_a_multiple_of_the_evaluation_interval():
    with pytest.raises(RecipeError, match="`steps` must be a multiple of evaluate_every=30"):
        recipe(steps=100, evaluate_every=30)
    for steps in (4, 7, 30, 101, 999, 3000, 20_000):
        assert steps % default_recipe("mlp_sigmoid", steps=steps).evaluate_every == 0


def test_a_run_has_at_least_four_evaluations():
    assert recipe(steps=40, evaluate_every=10).steps == 40
    with pytest.raises(RecipeError, match="`steps` must be a multiple of evaluate_every=10, at least 4 of them"):
        recipe(steps=30, evaluate_every=10)


def test_a_recipe_is_frozen_and_survives_json():
    found = recipe(norms=NORMS, learning_rates=[0.01, 1], sketch=True)
    assert Recipe.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.steps = 3


def test_numbers_of_numpy_can_be_stored():
    found = recipe(steps=np.int64(40), width=np.float32(0.5), learning_rates=list(np.array([0.01, 1.0])))
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert found == recipe(steps=40, width=0.5, learning_rates=(0.01, 1.0))


def test_the_baseline_is_the_first_arm_wherever_it_is_listed():
    assert recipe(norms=NORMS).arms == ("none", "batch", "group:groups=4", "layer")
    assert recipe(norms=("layer", None, "batch")).arms == ("none", "layer", "batch")


def test_recipes_that_differ_have_different_hashes():
    hashes = {each.hash for each in (recipe(), recipe(), recipe(seeds=3), recipe(norms=NORMS))}
    assert len(hashes) == 3
    assert {len(each) for each in hashes} == {16}


def test_momentum_is_given_to_the_norms_that_have_it():
    found = recipe(norms=(None, "batch", "layer", "group", ("sync", {"momentum": 0.5})), norm_momentum=0.8)
    assert found.norm_of_arm("batch") == ("batch", {"momentum": 0.8})
    assert found.norm_of_arm("sync:momentum=0.5") == ("sync", {"momentum": 0.5})
    assert found.norm_of_arm("none") is None
    assert found.norm_of_arm("layer") == "layer"
    assert found.norm_of_arm("group") == "group"


def test_a_run_has_the_settings_of_its_trial_and_a_constant_rate():
    run = recipe(batch_size=32, width=0.5).training("batch", TRIAL, steps=200, seed=3)
    assert (run.learning_rate, run.weight_decay, run.initial_gain, run.seed) == (0.5, 1e-4, 2.0, 3)
    assert (run.steps, run.warmup, run.schedule) == (200, 10, "constant")
    assert (run.batch_size, run.width, run.validation_examples) == (32, 0.5, 300)
    assert (run.augment, run.target, run.evaluation_examples) == ((), None, None)


def test_quick_makes_a_sketch():
    found = default_recipe("mlp_sigmoid", quick=True)
    assert (found.trials, found.seeds, found.extensions, found.sketch) == (4, 3, 0, True)
    assert not default_recipe("mlp_sigmoid").sketch
    assert default_recipe("mlp_sigmoid", quick=True, trials=8).trials == 8


def test_the_hash_does_not_count_fields_at_their_defaults():
    """So that a field that later versions add leaves the hash of stored recipes as it is."""
    plain = recipe()
    without = {field: value for field, value in plain.to_dict().items() if field != "image_size"}
    assert Recipe.from_dict(without).hash == plain.hash
    assert recipe(image_size=16).hash != plain.hash


def test_images_are_resized_for_every_arm():
    assert recipe(image_size=16).training("batch", TRIAL, steps=200, seed=3).image_size == 16

"""Runs that share a compiled trainer: which of them do, and that no bit of their results tells."""

import dataclasses

import numpy as np
import pytest

from bn_keras.experiments import load
from bn_keras.experiments.shared_trainer import is_compiled, last_trainer, shared_trainer
from bn_keras.experiments.trainer import Trainer
from bn_keras.experiments.training_recipe import training_recipe

RECIPE = training_recipe("mlp_sigmoid", "digits", width=0.1, batch_size=60, steps=10, evaluate_every=5)
EARLIER = dataclasses.replace(RECIPE, seed=3, learning_rate=0.5, initial_gain=0.7, steps=40, evaluate_every=20)


@pytest.fixture(scope="module")
def digits():
    yield load("digits")
    last_trainer.clear()


def first(data, examples):
    """The data with some of the training examples, under the same name."""
    inputs, labels = data.train.inputs[:examples], data.train.labels[:examples]
    return dataclasses.replace(data, train=dataclasses.replace(data.train, inputs=inputs, labels=labels))


def run_of(trainer, recipe):
    """The losses, accuracies and final weights of a run."""
    found = [(each.step, each.loss, each.accuracy) for each in trainer.run(recipe.learning_rate, recipe.seed)]
    return found, trainer.model.get_weights()


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "momentum"},
        {"norm": "renorm", "optimizer": "adamw", "weight_decay": 5e-4, "clip_norm": 1.0},
        {"steps": 40, "warmup": 4, "schedule": "cosine", "augment": ("shift",)},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_shared_trainer_gives_the_bits_of_a_trainer_of_its_own(digits, changes):
    """The trainer has made another run before, which leaves weights, statistics, moments and random states behind."""
    changes = {"width": 0.2} | changes
    recipe, earlier = (dataclasses.replace(each, **changes) for each in (RECIPE, EARLIER))
    trainer = shared_trainer(earlier, digits)
    run_of(trainer, earlier)
    assert shared_trainer(recipe, digits) is trainer
    found, weights = run_of(trainer, recipe)
    expected, expected_weights = run_of(Trainer(recipe, digits), recipe)
    assert found == expected
    assert [step for step, *_ in found] == list(range(0, recipe.steps + 1, recipe.evaluate_every))
    for ours, theirs in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "changes",
    [{"warmup": 3}, {"weight_decay": 1e-3}, {"norm": None}, {"batch_size": 30}, {"clip_norm": 1.0}, {"width": 0.2}],
    ids=str,
)
def test_what_is_compiled_into_the_steps_takes_a_trainer_of_its_own(digits, changes):
    shared_trainer(RECIPE, digits)
    assert is_compiled(EARLIER, digits)
    assert not is_compiled(dataclasses.replace(RECIPE, **changes), digits)


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"warmup": 2}], ids=str)
def test_a_schedule_over_other_steps_takes_a_trainer_of_its_own(digits, changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    shared_trainer(recipe, digits)
    assert is_compiled(dataclasses.replace(recipe, seed=3, evaluate_every=2), digits)
    assert not is_compiled(dataclasses.replace(recipe, steps=20), digits)


@pytest.mark.slow
def test_other_data_of_the_same_name_have_a_trainer_of_their_own(digits):
    assert shared_trainer(RECIPE, digits).data.train.examples == 1437
    assert shared_trainer(RECIPE, first(digits, 120)).data.train.examples == 120
    assert not is_compiled(RECIPE, first(digits, 120)), "equal data in another object"
    assert shared_trainer(RECIPE, load("digits", image_size=4)).data.input_shape == (4, 4, 1)


def test_only_the_last_trainer_is_kept(digits):
    shared_trainer(RECIPE, digits)
    shared_trainer(dataclasses.replace(RECIPE, norm=None), digits)
    assert len(last_trainer) == 1

"""Runs with validation examples and with a gain on the first kernels."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from bn_keras.experiments import RecipeError, ResultsError, Trainer, load, train, training_recipe
from bn_keras.experiments.network import build_network
from bn_keras.experiments.trainer import first_weights
from bn_keras.lab.watcher import Watcher


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def recipe_of(preset="mlp_sigmoid", **changes):
    return training_recipe(preset, "digits", **({"steps": 20, "evaluate_every": 10, "width": 0.2} | changes))


def accuracies(trainer):
    return [evaluation.accuracy for evaluation in trainer.run()]


@pytest.mark.slow
def test_evaluations_use_the_validation_examples_and_training_uses_the_others(digits):
    trainer = Trainer(recipe_of(validation_examples=300), digits)
    split = digits.with_validation(300)
    np.testing.assert_array_equal(trainer.data.train.inputs, split.train.inputs)
    last = accuracies(trainer)[-1]
    guesses = trainer.model.predict(split.validation.inputs, verbose=0).argmax(-1)
    assert last == pytest.approx((guesses == split.validation.labels).mean())
    guesses = trainer.model.predict(split.test.inputs, verbose=0).argmax(-1)
    assert trainer.evaluate(split.test) == pytest.approx((guesses == split.test.labels).mean())


@pytest.mark.slow
def test_data_that_are_split_already_are_taken_as_they_are(digits):
    recipe = recipe_of(validation_examples=300)
    assert accuracies(Trainer(recipe, digits.with_validation(300))) == accuracies(Trainer(recipe, digits))


@pytest.mark.slow
def test_a_stored_run_has_the_test_accuracy_of_the_trained_model(digits, tmp_path):
    results = train(recipe_of(validation_examples=300), tmp_path / "held", data=digits)
    assert results["recipe"]["validation_examples"] == 300
    trainer = Trainer(recipe_of(validation_examples=300), digits)
    last = accuracies(trainer)[-1]
    assert results["evaluations"][-1]["accuracy"] == pytest.approx(last, abs=1e-6)
    assert results["test_accuracy"] == pytest.approx(trainer.evaluate(digits.test), abs=1e-6)
    assert "test_accuracy" not in train(recipe_of(), tmp_path / "plain", data=digits)


@pytest.mark.parametrize("preset", ["mlp_sigmoid", "resnet20"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_gain_multiplies_the_kernels_alone(digits, preset, norm):
    recipe = recipe_of(preset, norm=norm, width=0.25)
    names = [weight.name for weight in build_network(recipe, digits).weights]
    keras.utils.set_random_seed(3)
    plain = first_weights(recipe, digits)
    keras.utils.set_random_seed(3)
    gained = first_weights(dataclasses.replace(recipe, initial_gain=2.0), digits)
    for name, ours, other in zip(names, gained, plain, strict=True):
        np.testing.assert_array_equal(ours, 2 * other if name == "kernel" else other, err_msg=name)
    assert names.count("kernel") > 2
    assert names[-2] == "kernel", "the last layer's kernel too"


def test_the_gain_multiplies_the_norm_of_a_kernel_in_a_wrapper(digits):
    """What the layer computes with has the size of g, whatever that of v."""
    recipe = recipe_of(norm="weight")
    names = [weight.name for weight in build_network(recipe, digits).weights]
    starts = []
    for gain in (1.0, 2.0):
        keras.utils.set_random_seed(3)
        starts.append(first_weights(dataclasses.replace(recipe, initial_gain=gain), digits))
    assert names.count("g") == 3
    for name, plain, gained in zip(names, *starts, strict=True):
        np.testing.assert_array_equal(gained, 2 * plain if name in ("kernel", "g") else plain, err_msg=name)


@pytest.mark.slow
def test_every_run_of_a_trainer_starts_with_the_gain(digits):
    trainer = Trainer(recipe_of(initial_gain=2.0), digits)
    starts = []
    for _ in range(2):
        trainer.start(seed=3)
        starts.append(np.abs(trainer.model.get_weights()[0]).mean())
    plain = Trainer(recipe_of(), digits)
    plain.start(seed=3)
    assert starts == [pytest.approx(2 * np.abs(plain.model.get_weights()[0]).mean())] * 2


class Stop(Watcher):
    """Interrupts a run in its second interval."""

    count = 0

    def item_begins(self, name):
        self.count += 1
        if self.count == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_was_stored_before_these_fields_resumes(digits, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(recipe_of(), tmp_path, data=digits, watcher=Stop())
    path = tmp_path / "results.json"
    stored = json.loads(path.read_text())
    del stored["recipe"]["validation_examples"], stored["recipe"]["initial_gain"]
    path.write_text(json.dumps(stored))
    with pytest.raises(ResultsError, match="was made with validation_examples=None, not 300"):
        train(recipe_of(validation_examples=300), tmp_path, data=digits, resume=True)
    with pytest.raises(ResultsError, match="was made with initial_gain=1.0, not 2"):
        train(recipe_of(initial_gain=2.0), tmp_path, data=digits, resume=True)
    resumed = train(recipe_of(), tmp_path, data=digits, resume=True)
    assert [row["step"] for row in resumed["evaluations"]] == [0, 10, 20]
    whole = train(recipe_of(), tmp_path / "whole", data=digits)
    assert [row["accuracy"] for row in resumed["evaluations"]] == [row["accuracy"] for row in whole["evaluations"]]


def test_a_network_without_kernels_has_no_gain(digits):
    class Bare:
        weights = ()

    with pytest.raises(RecipeError, match="`initial_gain` must be 1 for 'mlp_sigmoid', which has no kernels"):
        first_weights(recipe_of(initial_gain=2.0), digits, lambda recipe, data: Bare())

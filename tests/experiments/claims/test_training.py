"""The trainer that the cells of a claim share."""

import dataclasses

from bn_keras.experiments import load
from bn_keras.experiments.claims.training import trainer_of
from bn_keras.experiments.training_recipe import training_recipe

RECIPE = training_recipe("mlp_sigmoid", "digits", width=0.1, batch_size=60, steps=10)


def first(data, examples):
    """The data with some of the training examples, under the same name."""
    inputs, labels = data.train.inputs[:examples], data.train.labels[:examples]
    return dataclasses.replace(data, train=dataclasses.replace(data.train, inputs=inputs, labels=labels))


def test_runs_that_differ_in_seed_and_rate_share_a_compiled_trainer():
    digits = load("digits")
    trainer = trainer_of(RECIPE, digits)
    assert trainer_of(dataclasses.replace(RECIPE, seed=3, learning_rate=0.5), digits) is trainer
    assert trainer.recipe.seed == 3


def test_a_part_of_the_data_and_another_size_have_a_trainer_of_their_own():
    digits = load("digits")
    assert trainer_of(RECIPE, digits).data.train.examples == 1437
    assert trainer_of(RECIPE, first(digits, 120)).data.train.examples == 120
    assert trainer_of(RECIPE, load("digits", image_size=4)).data.input_shape == (4, 4, 1)

"""C10: the rule on planted measurements, and each measured quantity against numbers that are known."""

import keras
import numpy as np
import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims import c10_population as c10
from bn_keras.experiments.claims import population
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.shared_trainer import shared_trainer
from bn_keras.experiments.training_recipe import training_recipe
from bn_keras.layers import BatchNorm
from tests.experiments.claims.filled import verdict

FORM = Form(quick=True)


def planted(constant=0.0, inference=0.0, training=1.0, late=0.0, early=-0.3, few=0.0, only=None):
    """Moving averages that lack `early` of the accuracy while they lag, and `late` once they have settled.

    `only` is a step that keeps to this; at the others the averages have no lack.
    """

    def values_of(cell):
        if cell["part"] == "constant":
            return {"moving_mean": c10.expected_mean(cell) + constant}
        lagging = [step * (1 - cell["momentum"]) < 5 for step in cell["at"]]
        noise = 0.001 * cell["seed"]
        return {
            "moving": [
                0.9 + noise + (early if lags else late) * (only in (None, step))
                for step, lags in zip(cell["at"], lagging, strict=True)
            ],
            "recalibrated": [0.9 + noise] * len(lagging),
            "batch": [0.9] * len(lagging),
            "mean_off": [0.5] * len(lagging),
            "variance_off": [0.5] * len(lagging),
            "sample_accuracy": [0.9 + noise + few for _ in cell["samples"]],
            "sample_mean_off": [0.1 for _ in cell["samples"]],
            "change_in_inference": inference,
            "change_in_training": training,
        }

    return verdict(c10.CLAIM, FORM, values_of)


def test_the_claim_holds_with_outputs_of_their_own_and_a_gain_that_ends():
    finding = planted()
    assert finding.verdict == HOLDS
    assert finding.number.startswith("6.340 of 10 after 100 steps")


@pytest.mark.parametrize("changes", [{"constant": 0.01}, {"inference": 1e-4}, {"training": 1e-6}])
def test_the_claim_fails_where_inference_depends_on_the_batch_or_the_average_is_another(changes):
    assert planted(**changes).verdict == FAILS


@pytest.mark.parametrize("changes", [{"early": -0.0099}, {"late": -0.0101}, {"late": 0.0101}])
def test_the_claim_fails_where_moving_averages_are_never_late_or_never_settle(changes):
    assert planted(**changes).verdict == FAILS


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({"late": -0.02, "early": -0.3, "only": 100}, "settled"),
        ({"only": 10}, "cost more than a percentage point at 2 of 3 steps"),
        ({"few": -0.02}, "more than 1,000 samples"),
    ],
)
def test_the_claim_holds_under_conditions_where_recalibration_is_not_what_it_should_be(changes, condition):
    finding = planted(**changes)
    assert finding.verdict == CONDITIONALLY
    assert condition in finding.conditions


def test_differences_within_the_margins_change_nothing():
    assert planted(constant=0.0005, inference=5e-6, late=-0.009, few=0.009).verdict == HOLDS


@pytest.mark.slow
def test_the_moving_mean_of_constant_batches_is_63_percent_after_100_steps():
    cell = {"part": "constant", "momentum": 0.99, "bias_correction": False, "steps": 100}
    assert c10.measure(cell, None)["moving_mean"] == pytest.approx(6.3397, abs=1e-3)
    assert c10.measure(cell | {"bias_correction": True}, None)["moving_mean"] == pytest.approx(10, abs=1e-3)


@pytest.fixture(scope="module")
def trainer():
    recipe = training_recipe("mlp_sigmoid", "digits", norm="batch", width=0.2, batch_size=60, steps=50)
    trainer = shared_trainer(recipe, load("digits"))
    trainer.start(1.0, 1)
    trainer.advance(50)
    return trainer


@pytest.mark.slow
def test_recalibration_gives_the_moments_of_the_first_layer_in_numpy(trainer):
    new = population.recalibrated(trainer, 600)
    images = trainer.data.train.inputs[:600].astype("float32")
    before = keras.Model(trainer.model.input, trainer.model.get_layer("hidden_1").output)(images).numpy()
    norm = new.get_layer("hidden_1_norm")
    np.testing.assert_allclose(norm.moving_mean, before.mean(0), rtol=1e-4, atol=1e-5)
    variances = before.reshape(10, 60, -1).var(1, ddof=1).mean(0)
    np.testing.assert_allclose(norm.moving_variance, variances, rtol=1e-4)


@pytest.mark.slow
def test_looking_at_a_network_leaves_it_as_it_was(trainer):
    before = trainer.model.get_weights()
    exact = population.recalibrated(trainer, 600)
    assert population.accuracy_with(trainer, exact) > trainer.evaluate()
    assert population.accuracy_by_batches(trainer) > 0.5
    assert population.change_of_output(trainer, training=False) <= 1e-5
    assert population.change_of_output(trainer, training=True) > 0.1
    for value, other in zip(before, trainer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_the_distance_of_moments_is_in_deviations_and_logarithms():
    def network(mean, variance):
        layer = BatchNorm(epsilon=0.0, name="norm")
        model = keras.Sequential([keras.Input((2,)), layer])
        layer.moving_mean.assign([mean, mean])
        layer.moving_variance.assign([variance, variance])
        return model

    mean_off, variance_off = population.distance(network(1.0, 8.0), network(5.0, 4.0))
    assert mean_off == pytest.approx(2.0)
    assert variance_off == pytest.approx(np.log(2), rel=1e-3)

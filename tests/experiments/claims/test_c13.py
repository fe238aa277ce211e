"""C13: the rule on planted runs, and the correlation of features that are known."""

import keras
import numpy as np
import pytest

from bn_keras.experiments import load, training_recipe
from bn_keras.experiments.claims import c13_decorrelation as c13
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.network import build_network
from tests.experiments.claims.filled import run, tuned, verdict

QUICK, FULL = Form(quick=True), Form()


def planted(form=QUICK, correlation=0.05, fast=True, whitened=0.92, slow_networks=(), diverged=(), best=1):
    """Batch norm gets to its target with the last evaluation, whitening, if it is fast, with the one before."""

    def values_of(cell):
        whitens = cell["norm"] == "decorrelated"
        if cell["seed"] == 0:
            rate = c13.RATES[cell["network"]][best]
            return run(tuned(cell, rate), correlation=[0.3, None, 0.2], training_seconds=[0.0, 0.1, 0.2])
        if (cell["norm"], cell["seed"]) in diverged:
            return run(None, correlation=[0.2], training_seconds=[0.0])
        values = run(whitened if whitens else 0.9)
        if whitens and fast and cell["network"] not in slow_networks:
            values["accuracy"][1] = max(0.9, whitened)
        last = correlation if whitens else 0.2
        return values | {"correlation": [0.3, None, last], "training_seconds": [0.0, 0.1, 0.2]}

    return verdict(c13.CLAIM, form, values_of)


@pytest.mark.parametrize("form", [QUICK, FULL])
def test_the_claim_holds_with_less_correlation_and_fewer_steps_in_every_network(form):
    finding = planted(form)
    assert finding.verdict == HOLDS
    assert "mlp_sigmoid: 20 steps with batch norm, 10 with whitening" in finding.number
    assert planted(form, best=-1).conditions == "within the swept learning rates"


def test_the_claim_holds_under_conditions_where_one_network_gains_nothing():
    finding = planted(FULL, whitened=0.9, slow_networks=["vgg_small"])
    assert finding.verdict == CONDITIONALLY
    assert "in vgg_small, whitening decorrelates and does not take fewer steps" in finding.conditions


def test_the_claim_holds_under_conditions_where_speed_costs_accuracy():
    finding = planted(whitened=0.89)
    assert finding.verdict == CONDITIONALLY
    assert "takes fewer steps but is less accurate" in finding.conditions


def test_the_claim_fails_without_fewer_steps_and_where_features_stay_correlated():
    assert planted(fast=False, whitened=0.9).verdict == FAILS
    assert planted(fast=False, whitened=0.92).verdict == FAILS, "accuracy is no speed"
    assert planted(correlation=0.20).verdict == FAILS
    assert planted(correlation=0.19).verdict == HOLDS


def test_a_run_that_diverged_counts_as_a_miss_and_is_noted():
    finding = planted(diverged=[("decorrelated", 2)])
    assert finding.verdict == FAILS
    assert any("1 of 18 runs diverged" in note for note in finding.notes)
    assert "never" in str(finding.rows)
    assert "∞" in str(finding.rows)


def test_a_run_of_batch_norm_that_diverged_leaves_the_target_to_the_others():
    finding = planted(diverged=[("batch", 2)])
    assert finding.verdict == HOLDS
    assert finding.number == "mlp_sigmoid: 20 (20–never) steps with batch norm, 10 with whitening"
    assert planted(fast=False, whitened=0.92, diverged=[("batch", 2)]).verdict == FAILS
    everyone = planted(diverged=[("batch", seed) for seed in range(1, 6)])
    assert "never steps with batch norm" in everyone.number


def test_the_mean_correlation_is_that_of_numpy_and_leaves_constant_channels_out():
    x, other = np.random.default_rng(0).normal(size=(2, 4000))
    features = np.stack([x, -x, other, np.ones(4000)], -1).reshape(40, 100, 4)
    assert c13.mean_correlation(features) == pytest.approx((1 + 2 * abs(np.corrcoef(x, other)[0, 1])) / 3)


def test_whitening_takes_the_correlation_out_of_the_features_of_a_network():
    digits, found = load("digits"), {}
    for norm in c13.ARMS:
        recipe = training_recipe("mlp_sigmoid", "digits", norm=norm, width=0.2)
        keras.utils.set_random_seed(0)
        network = build_network(recipe, digits)
        before = [variable.numpy() for variable in network.variables]
        found[norm] = c13.feature_correlation(network, digits.test.inputs)
        for value, variable in zip(before, network.variables, strict=True):
            np.testing.assert_array_equal(value, variable)
        outputs = keras.Model(network.input, network.get_layer("hidden_1_norm").output)
        x = outputs(digits.test.inputs.astype("float32"), training=True).numpy()
        found[norm, 1] = c13.mean_correlation(x)
    assert found["decorrelated"] < 0.5 * found["batch"]
    assert found["decorrelated", 1] < 0.5 * found["batch", 1]


@pytest.mark.slow
def test_a_cell_trains():
    (network,) = c13.networks_of(QUICK)
    values = c13.measure(network | {"norm": "batch", "learning_rate": 0.3, "seed": 1, "steps": 40}, load)
    assert values["steps"] == [0, 10, 20, 30, 40]
    assert values["correlation"][1:-1] == [None] * 3
    assert 0 < values["correlation"][-1] < 1

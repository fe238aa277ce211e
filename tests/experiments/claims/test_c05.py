"""C5: the rule on planted runs, and the networks and data that the runs train with."""

import keras
import numpy as np
import pytest

from bn_keras.experiments import load, training_recipe
from bn_keras.experiments.claims import c05_regularizes as c05
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.network import build_network
from bn_keras.models import norm as make_norm
from tests.experiments.claims.filled import filled, run, tuned, verdict

FORM = Form(quick=True)
HOLDING = {"none": 0.80, "dropout": 0.84, "batch norm": 0.86, "both": 0.855}


def planted(test=HOLDING, few=0.82, many=0.83, diverged=(), best=0.03):
    """Runs whose test accuracies differ by the arm, by the examples per moments and a little by the seed."""

    def values_of(cell):
        if cell["seed"] == 0:
            return run(tuned(cell, best))
        if (cell["arm"], cell["batch"], cell["seed"]) in diverged:
            return run(None)
        accuracy = {8: few, 32: test[cell["arm"]], 128: many}[cell["group"]]
        return run(accuracy + 0.002 * cell["seed"])

    return verdict(c05.CLAIM, FORM, values_of)


def test_the_claim_holds_with_a_smaller_gap_no_need_of_dropout_and_a_best_moderate_batch():
    finding = planted()
    assert finding.verdict == HOLDS
    assert "gap of 13.6" in finding.number
    assert not finding.notes


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({"test": HOLDING | {"both": 0.88}}, "dropout still adds"),
        ({"test": HOLDING | {"dropout": 0.88}}, "dropout alone does better"),
        ({"few": 0.859}, "not clearly better"),
        ({"many": 0.9}, "not clearly better"),
    ],
)
def test_the_claim_holds_under_conditions_where_one_part_of_it_misses(changes, condition):
    finding = planted(**changes)
    assert finding.verdict == CONDITIONALLY
    assert condition in finding.conditions


@pytest.mark.parametrize("arm", ["dropout", "both"])
def test_dropout_adds_nothing_up_to_a_point_in_the_mean(arm):
    assert planted(test=HOLDING | {arm: 0.8699}).verdict == HOLDS
    assert planted(test=HOLDING | {arm: 0.8701}).verdict == CONDITIONALLY


def test_a_gain_that_one_seed_lacks_is_no_gain():
    assert planted(test=HOLDING | {"none": 0.857}).verdict == FAILS
    assert planted(test=HOLDING | {"none": 0.855}).verdict == HOLDS


def test_a_run_that_diverged_counts_as_a_miss_and_is_noted():
    finding = planted(diverged=[("batch norm", 32, 2)])
    assert finding.verdict == FAILS
    assert any(
        "1 of 63 runs diverged: batch norm with batches of 32 at 0.03 (seed 2)." in note for note in finding.notes
    )


def test_a_best_rate_at_the_edge_is_noted():
    finding = planted(best=1.0)
    assert finding.conditions == "within the swept learning rates"
    (note,) = finding.notes
    assert "at an edge of the sweep: none with batches of 32 (1, the highest), dropout" in note
    assert "batch norm with batches of 128 and moments of 8 (1, the highest)" in note


def test_fresh_runs_have_the_rate_that_tuning_chose():
    found = filled(c05.CLAIM, FORM, lambda cell: run(tuned(cell, {"none": 0.01, "both": 0.1}.get(cell["arm"], 0.03))))
    assert {cell["learning_rate"] for cell, _ in found.where(arm="none", seed=2)} == {0.01}
    assert {cell["learning_rate"] for cell, _ in found.where(arm="both", seed=2)} == {0.1}


def test_the_network_with_dropout_is_the_preset_and_drops_half_in_training_only():
    digits = load("digits")
    for norm in (None, "batch"):
        recipe = training_recipe("mlp_relu_deep", "digits", norm=norm, options={"depth": 2, "units": 16})
        network, preset = c05.network_with_dropout(recipe, digits), build_network(recipe, digits)
        assert [weight.shape for weight in network.weights] == [weight.shape for weight in preset.weights]
        network.set_weights(preset.get_weights())
        images = digits.test.inputs[:50].astype("float32")
        np.testing.assert_allclose(network(images), preset(images), rtol=1e-4, atol=1e-4)
        assert [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("form", [FORM, Form()], ids=["quick", "full"])
def test_only_the_moments_differ_in_the_second_experiment(form):
    arms = [arm for arm in c05.arms_of(form) if arm["batch"] == c05.groups_of(form)[0]]
    layers = [make_norm(("batch", c05.options_of(arm))) for arm in arms]
    assert len({layer.momentum for layer in layers}) == 1
    sizes = [layer.virtual_batch_size or arm["batch"] for layer, arm in zip(layers, arms, strict=True)]
    assert sizes == list(c05.groups_of(form)[1])
    assert {arm["batch"] % size for arm, size in zip(arms, sizes, strict=True)} == {0}


def test_few_examples_leave_validation_and_test_as_they_are():
    whole = load("digits")
    few = c05.fewer(whole, 64, 300)
    assert (few.train.examples, few.validation.examples, few.test.examples) == (64, 300, 360)
    np.testing.assert_array_equal(few.validation.inputs, whole.with_validation(300).validation.inputs)


@pytest.mark.slow
def test_a_cell_trains():
    arm = {"data": "digits", "arm": "batch norm", "batch": 32, "group": 8, "learning_rate": 0.03, "seed": 1}
    values = c05.measure(arm | {"examples": 256, "validation": 300, "epochs": 6, "units": 64}, load)
    assert values["steps"] == [0, 48]
    assert values["test_accuracy"] > 0.3

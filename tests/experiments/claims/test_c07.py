"""C7: the rule on planted runs, the noise, and the changes of gradients against numbers that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import load
from bn_keras.experiments.claims import c07_covariate_shift as c07
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.claims.shifting import ShiftingBatchNorm
from bn_keras.experiments.claims.smoothness import gradient_changes, mean_shift
from bn_keras.layers import BatchNorm
from tests.experiments.claims.filled import filled, run, tuned, verdict

FORM = Form(quick=True)
BEST = {"none": 0.03, "batch": 0.1, "shifting": 0.1}


def planted(noisy=0.5, batch=0.5, shift=0.5, earlier=1.0, along=0.5, diverged=()):
    """Runs with norm have a share of their accuracy at the first evaluation; that of runs without is 0.45."""
    firsts = {"none": 0.45, "batch": batch, "shifting": noisy}

    def values_of(cell):
        arm = cell["arm"]
        if cell["seed"] == 0:
            return run(tuned(cell, BEST[arm]))
        if (arm, cell["seed"]) in diverged:
            return run(None, shift=[0.1], earlier_layers=[0.1], along_gradient=[0.1], loss_range=[0.1])
        values = run(0.5)
        values["accuracy"][1] = firsts[arm]
        normed = arm != "none"
        return values | {
            "shift": [{"none": 0.2, "batch": 0.01, "shifting": shift}[arm], None, None],
            "earlier_layers": [earlier if normed else 0.8, None, 0.01 * cell["seed"] + (earlier if normed else 0.8)],
            "along_gradient": [along if normed else 0.9, None, along if normed else 0.9],
            "loss_range": [1.0, None, 1.0],
        }

    return verdict(c07.CLAIM, FORM, values_of)


def test_the_claim_holds_where_noise_shifts_more_and_costs_no_steps():
    finding = planted()
    assert finding.verdict == HOLDS
    assert finding.number.startswith("10 steps with shifting noise")


@pytest.mark.parametrize(
    "changes",
    [
        {"noisy": 0.4},  # no faster than without norm
        {"shift": 0.2},  # no more shift than without norm
        {"diverged": [("shifting", 2)]},
    ],
)
def test_the_claim_fails_where_noise_costs_the_gain_or_shifts_nothing(changes):
    assert planted(**changes).verdict == FAILS


def test_noise_may_cost_a_quarter_of_the_steps_and_no_more(monkeypatch):
    steps = {"none": [50, 50, 50], "batch": [20, 20, 20], "shifting": [25, 25, 25]}
    monkeypatch.setattr(c07, "steps_of", lambda form, found, arm, own=True: steps[arm])
    assert planted().verdict == HOLDS
    steps["shifting"] = [26, 26, 26]
    assert planted().verdict == FAILS


@pytest.mark.parametrize(
    ("changes", "condition"),
    [({"earlier": 0.5}, "lowers the change"), ({"along": 0.9}, "does not lower the change of the gradient along")],
)
def test_the_claim_holds_under_conditions_where_another_explanation_stays(changes, condition):
    finding = planted(**changes)
    assert finding.verdict == CONDITIONALLY
    assert condition in finding.conditions


def test_runs_that_diverged_are_noted():
    assert any(
        "diverged: batch norm at 0.1 (seed 1); batch norm at 0.03 (seed 1)." in note
        for note in planted(diverged=[("batch", 1)]).notes
    )


def test_each_arm_has_fresh_seeds_at_its_own_rate_and_at_that_without_norm():
    found = filled(c07.CLAIM, FORM, lambda cell: run(tuned(cell, BEST[cell["arm"]])))
    fresh = {(cell["arm"], cell["learning_rate"]) for cell, _ in found.pairs.values() if cell["seed"]}
    assert fresh == {("none", 0.03), ("batch", 0.03), ("batch", 0.1), ("shifting", 0.03), ("shifting", 0.1)}


def test_the_noise_shifts_each_channel_anew_in_training_and_not_in_inference():
    keras.utils.set_random_seed(0)
    x = tf.random.normal((64, 5, 200))
    layer, plain = ShiftingBatchNorm(), BatchNorm()
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    for outputs in (first, second):
        means = outputs.mean((0, 1))
        assert means.std() == pytest.approx(1 / 12**0.5, rel=0.15)
        assert np.abs(means).max() < 0.6
        assert outputs.std((0, 1)).mean() == pytest.approx(1.125, rel=0.03)
    assert abs(np.corrcoef(first.mean((0, 1)), second.mean((0, 1)))[0, 1]) < 0.25
    plain(x, training=True)
    plain(x, training=True)
    np.testing.assert_allclose(layer(x), 1.125 * plain(x).numpy(), rtol=1e-4, atol=1e-4)


def two_layers():
    """A linear network with two kernels, so that its gradients are known."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, use_bias=False)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(x))


def gradients_by_hand(x, labels, first, second):
    """The loss and the gradients of the linear network, in float64."""
    hidden = x @ first
    logits = hidden @ second
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.arange(len(x))
    error = (shares - np.eye(3)[labels]) / len(x)
    return -np.mean(np.log(shares[rows, labels])), x.T @ (error @ second.T), hidden.T @ error


def test_the_changes_of_gradients_are_those_of_a_linear_network_by_hand():
    model, rate = two_layers(), 0.5
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(16, 4)), rng.integers(0, 3, 16).astype(np.int32)
    earlier, along, spread = gradient_changes(model, x, labels, rate)
    first, second = (weight.astype(np.float64) for weight in model.get_weights())
    loss, of_first, of_second = gradients_by_hand(x, labels, first, second)
    _, _, moved = gradients_by_hand(x, labels, first - rate * of_first, second)
    assert earlier == pytest.approx(np.linalg.norm(moved - of_second) / np.linalg.norm(of_second), rel=1e-3)
    whole, losses, changes = np.concatenate([of_first.ravel(), of_second.ravel()]), [loss], []
    for stride in (0.5, 1.0, 2.0, 4.0):
        size = stride * rate
        other_loss, *other = gradients_by_hand(x, labels, first - size * of_first, second - size * of_second)
        losses.append(other_loss)
        changes.append(np.linalg.norm(np.concatenate([each.ravel() for each in other]) - whole))
    assert along == pytest.approx(max(changes) / np.linalg.norm(whole), rel=1e-3)
    assert spread == pytest.approx(max(losses) - min(losses), rel=1e-3)


def test_looking_at_gradients_with_noise_leaves_the_network_as_it_was():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.ReLU()(ShiftingBatchNorm()(keras.layers.Dense(5)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    images, labels = np.random.default_rng(0).normal(size=(16, 4)), np.zeros(16, np.int32)
    before = [variable.numpy() for variable in model.variables]
    _, along, _ = gradient_changes(model, images, labels, 1e-6)
    assert along < 1e-3  # the noise is the same at each place
    mean_shift(model, images, images)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)


def test_the_shift_of_means_is_in_deviations():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.ReLU()(inputs))
    x = np.array([[1.0, -3.0], [3.0, 3.0]])  # deviations of 1 and 3
    assert mean_shift(model, x, x + 2.0) == pytest.approx(np.sqrt((2**2 + (2 / 3) ** 2) / 2), rel=1e-4)


def test_a_cell_trains_and_is_looked_at():
    arm = c07.arms_of(FORM)["shifting"] | {"learning_rate": 0.1, "seed": 1, "steps": 60}
    values = c07.measure(arm, load)
    assert [step for step, shift in zip(values["steps"], values["shift"], strict=True) if shift is not None] == [0, 60]
    assert values["shift"][0] > 0.2
    assert values["test_accuracy"] > 0.2

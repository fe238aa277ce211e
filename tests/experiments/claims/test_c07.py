"""C7: the rule on planted runs, the noise, and the changes of gradients against numbers that are known."""

import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import load
from bn_keras.experiments.claims import c07_covariate_shift as c07
from bn_keras.experiments.claims import smoothness
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.claims.shifting import ShiftingBatchNorm
from bn_keras.experiments.claims.smoothness import channel_moments, gradient_changes, mean_shift, observer
from bn_keras.layers import BatchNorm
from tests.experiments.claims.filled import filled, run, tuned, verdict

FORM = Form(quick=True)
BEST = {"none": 0.1, "batch": 0.3, "shifting": 0.3}


SHIFTS = {"none": 0.2, "batch": 0.01, "shifting": 0.5}
# Two evaluations in each phase.
EVALUATED = [0, 6, 12, 30, 60, 90, 120]


def planted(noisy=0.5, batch=0.5, shift=SHIFTS, none_at_first=0.2, earlier=1.0, along=0.5, diverged=(), best=BEST):
    """Runs with norm have a share of their accuracy at the first evaluation; that of runs without is 0.45."""
    firsts = {"none": 0.45, "batch": batch, "shifting": noisy}

    def values_of(cell):
        arm = cell["arm"]
        if cell["seed"] == 0:
            return run(tuned(cell, best[arm]))
        normed = arm != "none"
        shifts = [None, *[shift[arm]] * 6]
        if arm == "none":
            shifts[1:3] = [none_at_first] * 2
        changes = {
            "earlier_layers": [earlier if normed else 0.8, *[None] * 5, earlier if normed else 0.8],
            "along_gradient": [along if normed else 0.9, *[None] * 5, along if normed else 0.9],
            "loss_range": [1.0, *[None] * 5, 1.0],
        }
        curve = {"steps": EVALUATED, "accuracy": [0.1, firsts[arm], *[0.5] * 5], "shift": shifts, **changes}
        if (arm, cell["seed"]) in diverged:
            count = EVALUATED.index(90) + 1  # in the middle of the second half
            return run(None) | {name: values[:count] for name, values in curve.items()}
        return run(0.5) | curve

    return verdict(c07.CLAIM, FORM, values_of)


def test_the_claim_holds_where_noise_shifts_more_and_costs_no_steps():
    finding = planted()
    assert finding.verdict == HOLDS
    assert finding.number.startswith("6 steps with shifting noise")
    assert planted(best=BEST | {"batch": 1.0}).conditions == "within the swept learning rates"


@pytest.mark.parametrize(
    "changes",
    [
        {"noisy": 0.4},  # no faster than without norm
        {"shift": SHIFTS | {"shifting": 0.2}},  # no more shift than without norm
        {"shift": SHIFTS | {"batch": 0.5}},  # no more shift than with batch norm alone
        {"diverged": [("shifting", 2)]},
    ],
)
def test_the_claim_fails_where_noise_costs_the_gain_or_shifts_nothing(changes):
    assert planted(**changes).verdict == FAILS


def test_noise_that_shifts_less_than_early_training_without_norm_is_a_condition():
    finding = planted(none_at_first=1.0)
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions == (
        "in the first tenth of training, the noise does not make the distributions less stable"
    )


def test_runs_without_norm_that_diverge_leave_the_target_to_the_others_and_are_no_evidence_against_the_claim():
    finding = planted(diverged=[("none", 2)])
    assert finding.verdict == CONDITIONALLY
    assert finding.number == "6 steps with shifting noise, 6 with batch norm alone, 12 (12–never) without norm"
    assert "in the second half of training" in finding.conditions
    assert "first tenth" not in finding.conditions
    everyone = planted(diverged=[("none", seed) for seed in (1, 2, 3)])
    assert everyone.verdict == CONDITIONALLY
    assert everyone.number.endswith("never without norm")


def test_a_run_of_batch_norm_that_diverges_counts():
    finding = planted(diverged=[("batch", 2)])
    assert finding.verdict == CONDITIONALLY
    assert "does not lower the change of the gradient along itself" in finding.conditions
    assert "in the second half of training" in finding.conditions
    assert "∞" in str(finding.rows)


def test_noise_may_cost_a_quarter_of_the_steps_and_no_more(monkeypatch):
    steps = {"none": [50, 50, 50], "batch": [20, 20, 20], "shifting": [25, 25, 25]}
    monkeypatch.setattr(c07, "steps_of", lambda form, found, arm, own=True: steps[arm])
    assert planted().verdict == HOLDS
    steps["shifting"] = [26, 26, 26]
    assert planted().verdict == FAILS


def test_the_change_by_earlier_layers_may_be_a_tenth_lower_and_no_more():
    assert planted(earlier=0.73).verdict == HOLDS
    assert planted(earlier=0.71).verdict == CONDITIONALLY


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
        "diverged: batch norm at 0.3 (seed 1); batch norm at 0.1 (seed 1)." in note
        for note in planted(diverged=[("batch", 1)]).notes
    )


def test_each_arm_has_fresh_seeds_at_its_own_rate_and_at_that_without_norm():
    found = filled(c07.CLAIM, FORM, lambda cell: run(tuned(cell, BEST[cell["arm"]])))
    fresh = {(cell["arm"], cell["learning_rate"]) for cell, _ in found.pairs.values() if cell["seed"]}
    assert fresh == {("none", 0.1), ("batch", 0.1), ("batch", 0.3), ("shifting", 0.1), ("shifting", 0.3)}


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


@pytest.mark.slow
def test_looking_at_gradients_with_noise_leaves_the_network_as_it_was():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.ReLU()(ShiftingBatchNorm()(keras.layers.Dense(5)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    images, labels = np.random.default_rng(0).normal(size=(16, 4)), np.zeros(16, np.int32)
    before = [variable.numpy() for variable in model.variables]
    _, along, _ = gradient_changes(model, images, labels, 1e-6)
    assert along < 1e-3  # the noise is the same at each place
    channel_moments(model, images)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)


def test_the_shift_of_means_is_in_deviations():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.ReLU()(inputs))
    x = np.array([[1.0, -3.0], [3.0, 3.0]])  # deviations of 1 and 3
    first, second = channel_moments(model, x), channel_moments(model, x + 2.0)
    assert mean_shift(first, second) == pytest.approx(np.sqrt((2**2 + (2 / 3) ** 2) / 2), rel=1e-4)


def observed(norm, change, every=100):
    """What is observed at two evaluations of a network with one norm, between which its bias changes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.ReLU()(norm()(keras.layers.Dense(50)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    images, labels = np.random.default_rng(0).normal(size=(64, 4)), np.zeros(64, np.int32)
    trainer = types.SimpleNamespace(
        model=model, recipe=types.SimpleNamespace(batch_size=32), schedule=types.SimpleNamespace(peak=0.1),
        data=types.SimpleNamespace(validation=types.SimpleNamespace(inputs=images, labels=labels)),
    )  # fmt: skip
    observe = observer(every)
    first = observe(trainer, types.SimpleNamespace(step=0))
    model(images, training=True)  # as training does, this draws noise
    bias = model.layers[1].bias
    bias.assign(bias + change)
    return first, observe(trainer, types.SimpleNamespace(step=10))


@pytest.mark.slow
def test_the_shift_is_that_of_one_batch_over_training_and_not_noise_between_batches():
    assert observed(keras.layers.Identity, 0.0)[1]["shift"] == 0
    assert observed(keras.layers.Identity, 1.0)[1]["shift"] > 0.3
    assert observed(BatchNorm, 1.0)[1]["shift"] < 1e-4
    assert observed(ShiftingBatchNorm, 0.0)[1]["shift"] == pytest.approx(np.sqrt(2 / 12) / 1.125, rel=0.2)


def test_gradients_are_looked_at_every_so_many_steps_and_a_change_without_a_number_is_infinite(monkeypatch):
    first, second = observed(keras.layers.Identity, 0.0)
    assert first["shift"] is None
    assert first["along_gradient"] > 0
    assert second["along_gradient"] is None
    monkeypatch.setattr(smoothness, "gradient_changes", lambda *_: (1.0, math.nan, math.nan))
    first, _ = observed(keras.layers.Identity, 0.0)
    assert list(first.values()) == [None, 1.0, math.inf, math.inf]


@pytest.mark.slow
def test_a_cell_trains_and_is_looked_at():
    arm = c07.arms_of(FORM)["shifting"] | {"learning_rate": 0.1, "seed": 1, "steps": 60}
    values = c07.measure(arm, load)
    assert values["shift"][0] is None
    assert min(values["shift"][1:]) > 0.2
    looked = [step for step, value in zip(values["steps"], values["along_gradient"], strict=True) if value is not None]
    assert looked == [0, 60]
    assert values["test_accuracy"] > 0.2

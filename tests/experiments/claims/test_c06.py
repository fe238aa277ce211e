"""C6: the rule on planted runs, the percentiles against NumPy, and the drift of planted curves."""

import numpy as np
import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.c06_distributions import CLAIM
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.claims.mnist_figure import PERCENTILES, drift, percentiles
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()
TYPICAL = {"typical": [[-1.0, 0.0, 1.0]] * 3}


def measurements(slow, same, own, *, diverged=False):
    """Drifts (without norm, with batch norm) by setting. The best rates are 1 and, with batch norm, 3."""

    def values_of(cell):
        batch = cell["norm"] == "batch"
        rate = cell["learning_rate"]
        pair = slow if rate == 0.01 else own if batch and rate == 3.0 else same
        best = rate == (3.0 if batch else 1.0)
        value = pair[batch] * (1 + 0.01 * cell["seed"])
        if diverged and batch and cell["seed"] == 1:
            return planted_curve(diverged=True) | {"drift": None, "variation": None, "typical": None}
        return planted_curve(0.9 if best else 0.5) | {"drift": value, "variation": 3 * value} | TYPICAL

    return planted_measurements(CLAIM, FORM, values_of)


@pytest.mark.parametrize(
    ("slow", "same", "own", "verdict"),
    [
        ((1, 1), (3, 1), (3, 1), HOLDS),
        ((1, 1), (3, 1), (3, 3), CONDITIONALLY),
        ((3, 1), (3, 3), (3, 3), CONDITIONALLY),
        ((1, 1), (3, 2.1), (3, 2.1), FAILS),  # less than a factor of 1.5 between the worst seeds
        ((1, 3), (1, 3), (1, 3), FAILS),
    ],
)
def test_the_rule(slow, same, own, verdict):
    assert CLAIM.judge(FORM, measurements(slow, same, own)).verdict == verdict


def test_the_finding_names_the_settings_in_which_batch_norm_is_calmer():
    finding = CLAIM.judge(FORM, measurements((3, 1), (3, 1), (3, 3)))
    assert finding.because == (
        "Batch norm drifts at least 1.5 times less in every seed at: the rate 0.01; the best rate without norm."
    )
    assert finding.conditions == "at the rate 0.01; the best rate without norm"


def test_a_diverged_run_has_an_infinite_drift():
    finding = CLAIM.judge(FORM, measurements((3, 1), (3, 1), (3, 1), diverged=True))
    assert finding.verdict == FAILS
    assert any("never" in cell for row in finding.rows for cell in row)
    assert any("diverged" in note for note in finding.notes)


def test_the_percentiles_are_those_of_the_normalized_input_and_leave_the_moving_statistics_alone():
    digits = load("digits")
    model = build_network(TrainingRecipe(preset="mlp_sigmoid", data="digits"), digits)
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))
    moving = [value.numpy() for value in model.non_trainable_variables]
    images = digits.train.inputs[:50]
    mean, deviation = digits.moments()
    x = ((images - mean) / deviation).reshape(50, -1).astype(np.float64)
    for i in (1, 2, 3):
        norm = model.get_layer(f"hidden_{i}_norm")
        x = x @ model.get_layer(f"hidden_{i}").kernel.numpy()
        x = norm.gamma.numpy() * (x - x.mean(0)) / np.sqrt(x.var(0) + norm.epsilon) + norm.beta.numpy()
        if i < 3:
            x = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(percentiles(model, images), np.percentile(x, PERCENTILES, axis=0), atol=1e-4)
    for value, before in zip(model.non_trainable_variables, moving, strict=True):
        np.testing.assert_array_equal(value.numpy(), before)


def curves(shifts, widths):
    """Percentiles of three units that move alike, at eleven steps."""
    bands = np.stack([shifts - widths / 2, shifts, shifts + widths / 2], axis=1)
    return np.repeat(bands[:, :, None], 3, axis=2)


STEPS = np.arange(0, 1100, 100)


def test_a_distribution_that_stands_still_has_no_drift():
    assert drift(curves(np.zeros(11), np.full(11, 2.0)), STEPS)["drift"] == 0


def test_a_distribution_that_moves_by_its_width_and_back_drifts_by_one_and_goes_two():
    shifts = np.array([9, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0.0])  # before the first tenth nothing counts
    values = drift(curves(shifts, np.full(11, 2.0)), STEPS)
    assert values["drift"] == pytest.approx(1)
    assert values["variation"] == pytest.approx(2)
    assert values["typical"] == [[8.0, 9.0, 10.0], [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]  # every fourth


def test_the_drift_of_a_run_is_that_of_its_median_unit():
    still, moving = curves(np.zeros(11), np.ones(11)), curves(np.arange(11.0), np.ones(11))
    units = np.concatenate([still[:, :, :1], still[:, :, :1], moving[:, :, :1]], axis=2)
    assert drift(units, STEPS)["drift"] == 0
    units = np.concatenate([still[:, :, :1], moving[:, :, :1], moving[:, :, :1]], axis=2)
    assert drift(units, STEPS)["drift"] == 9


def test_the_figure_draws():
    CLAIM.draw(FORM, measurements((3, 1), (3, 1), (3, 1))).canvas.draw()
    CLAIM.draw(FORM, measurements((3, 1), (3, 1), (3, 1), diverged=True)).canvas.draw()

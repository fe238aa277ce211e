"""C4: the rule on planted runs."""

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.c04_saturating import CLAIM, effect
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()


def measurements(mlp, inception, *, slow=(0.2, 0.95), diverged=False):
    """Accuracies at the best rates, (without norm, with batch norm) each, and of the MLP at 0.01."""

    def values_of(cell):
        batch = cell["norm"] == "batch"
        pair = mlp if cell["network"] == "mlp_sigmoid" else inception
        if cell["seed"] == 0:
            return planted_curve(0.9 if cell["learning_rate"] == 0.3 else 0.5)
        if cell["learning_rate"] == 0.01:
            pair = slow
        if diverged and not batch:
            return planted_curve(diverged=True)
        return planted_curve(pair[batch])

    return planted_measurements(CLAIM, FORM, values_of)


@pytest.mark.parametrize(
    ("mlp", "inception", "slow", "verdict"),
    [
        ((0.2, 0.98), (0.1, 0.6), (0.2, 0.95), HOLDS),
        ((0.97, 0.98), (0.1, 0.6), (0.2, 0.95), CONDITIONALLY),
        ((0.97, 0.98), (0.6, 0.6), (0.83, 0.97), CONDITIONALLY),
        ((0.97, 0.98), (0.6, 0.61), (0.95, 0.96), FAILS),
        ((0.98, 0.2), (0.6, 0.1), (0.95, 0.2), FAILS),
    ],
)
def test_the_rule(mlp, inception, slow, verdict):
    assert CLAIM.judge(FORM, measurements(mlp, inception, slow=slow)).verdict == verdict


def test_the_finding_says_that_the_network_without_norm_trains_at_its_best_rate():
    finding = CLAIM.judge(FORM, measurements((0.97, 0.98), (0.1, 0.6)))
    assert "The MLP without norm trains at its best rate." in finding.because
    assert finding.conditions == (
        "is needed by the MLP at the rate 0.01 and Inception at each arm's best rate; it makes no clear difference to "
        "the MLP at each arm's best rate"
    )


def test_the_finding_says_where_batch_norm_hurts():
    finding = CLAIM.judge(FORM, measurements((0.97, 0.9), (0.1, 0.6)))
    assert "it hurts the MLP at each arm's best rate" in finding.conditions


def test_runs_that_diverge_count_as_zero_and_are_named():
    finding = CLAIM.judge(FORM, measurements((0.97, 0.98), (0.6, 0.6), diverged=True))
    assert finding.verdict == HOLDS
    assert any("without norm" in note and "diverged" in note for note in finding.notes)


@pytest.mark.parametrize(
    ("none", "batch", "words"),
    [
        ([0.5, 0.1, 0.1], [0.9, 0.9, 0.9], "needed"),  # half way is not above half way
        ([0.51, 0.1, 0.1], [0.9, 0.9, 0.9], "helps"),
        ([0.1, 0.1, 0.1], [0.9, 0.9, 0.11], "no clear difference"),  # one seed of batch norm fails
        ([0.9, 0.9, 0.9], [0.93, 0.93, 0.93], "helps"),
        ([0.92, 0.9, 0.9], [0.93, 0.93, 0.93], "no clear difference"),
        ([0.93, 0.93, 0.93], [0.9, 0.9, 0.9], "hurts"),
        ([0.93, 0.93, 0.93], [0.92, 0.9, 0.9], "no clear difference"),
        ([0.9, 0.9, 0.9], [0.1, 0.1, 0.1], "hurts"),
    ],
)
def test_the_worst_seeds_decide_about_an_effect(none, batch, words):
    assert effect({"none": none, "batch": batch}) == words


@pytest.mark.slow
def test_a_sigmoid_network_learns_with_batch_norm():
    cell = {"shared": "section 4.1", "network": "mlp_sigmoid", "data": "digits", "norm": "batch", "steps": 100,
            "learning_rate": 1.0, "seed": 1}  # fmt: skip
    curve = CLAIM.measure(cell, lambda name, **options: load(name))
    assert curve["steps"][-1] == 100
    assert curve["drift"] > 0
    assert curve["test_accuracy"] > 0.6


def test_the_figure_draws_when_all_runs_of_an_arm_diverged():
    CLAIM.draw(FORM, measurements((0.97, 0.98), (0.1, 0.6), diverged=True)).canvas.draw()

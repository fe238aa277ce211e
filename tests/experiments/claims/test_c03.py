"""C3: the rule on planted runs, and the width of a range."""

import itertools

import pytest

from bn_keras.experiments.claims.c03_initialization import CLAIM, GAINS, decades, range_of
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form, Found
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()
# The best rates for other scales, and for the scale 1.
BEST = (0.1, 0.3)


def trains_until(limits, *, tuned_limits=None):
    """Measurements whose arms train from the scale 0.1 up to a limit by (network, arm)."""

    def values_of(cell):
        best = BEST[cell["gain"] == 1]  # so that the fresh runs at the rate tuned for another scale are others
        if cell["seed"] == 0:
            return planted_curve(0.9 if cell["learning_rate"] == best else 0.5)
        own = (tuned_limits or limits) if cell["learning_rate"] == BEST[False] else limits
        trains = 0.1 <= cell["gain"] <= own[cell["network"], cell["norm"]]
        return planted_curve(0.9 if trains else 0.2)

    return planted_measurements(CLAIM, FORM, values_of)


def limits(sigmoid, relu):
    """The limits of both networks, (without norm, with batch norm) each."""
    return {
        ("mlp_sigmoid", "none"): sigmoid[0], ("mlp_sigmoid", "batch"): sigmoid[1],
        ("mlp_relu_deep", "none"): relu[0], ("mlp_relu_deep", "batch"): relu[1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sigmoid", "relu", "verdict"),
    [
        ((1, 100), (1, 10), HOLDS),
        ((1, 100), (10, 10), CONDITIONALLY),
        ((1, 1), (10, 10), FAILS),
        ((10, 1), (1, 1), FAILS),
    ],
)
def test_the_decades_that_batch_norm_adds_decide(sigmoid, relu, verdict):
    assert CLAIM.judge(FORM, trains_until(limits(sigmoid, relu))).verdict == verdict


def test_a_gain_that_tuning_makes_up_for_is_a_condition():
    found = trains_until(limits((1, 100), (1, 100)), tuned_limits=limits((100, 100), (100, 100)))
    finding = CLAIM.judge(FORM, found)
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions == "wider for sigmoids, one rate; ReLU, one rate"


def rows(**worst):
    """Accuracies of 0.9, with the worst seed of some scales."""
    return {gain: [0.9, 0.9, worst.get(f"at_{gain:g}".replace(".", "_"), 0.9)] for gain in GAINS}


def test_the_range_is_all_scales_when_every_seed_trains():
    assert decades(rows()) == [5.0] * 3


def test_a_seed_more_than_five_points_below_ends_its_range():
    assert range_of(rows(at_100=0.849), 0.85) == (0.01, 30.0)
    assert range_of(rows(at_100=0.851), 0.85) == (0.01, 1000.0)
    assert decades(rows(at_100=0.849)) == [5.0, 5.0, 3.5]
    assert decades(rows(at_100=0.0, at_0_1=0.0)) == [5.0, 5.0, 2.0]  # 0.3 to 30


def test_a_scale_beyond_a_gap_does_not_count():
    own = {gain: [0.9 if gain in (1.0, 100.0) else 0.1] * 3 for gain in GAINS}
    assert decades(own) == [0.0] * 3


def test_a_seed_that_never_trains_has_no_range():
    own = {gain: [0.9, 0.9, 0.1] for gain in GAINS}
    assert decades(own) == [5.0, 5.0, 0.0]
    assert range_of(own, 0.85) is None


def test_the_narrowest_range_with_batch_norm_and_the_widest_one_without_decide():
    def values_of(cell):
        if cell["seed"] == 0:
            return planted_curve(0.9 if cell["learning_rate"] == 0.3 else 0.5)
        limit = 3 if cell["norm"] == "none" else 30 if cell["seed"] == 3 else 300
        return planted_curve(0.9 if 0.1 <= cell["gain"] <= limit else 0.2)

    finding = CLAIM.judge(FORM, planted_measurements(CLAIM, FORM, values_of))
    assert "sigmoids 1.5 (1.5–1.5) and 3.5 (2.5–3.5)" in finding.number
    assert "+1 decades (sigmoids, one rate)" in finding.because


def test_a_diverged_seed_ends_the_range():
    found = planted_measurements(
        CLAIM, FORM, lambda cell: planted_curve(0.9, diverged=cell["gain"] == 1000 and cell["seed"] == 2)
    )
    finding = CLAIM.judge(FORM, found)
    assert all("0.01 to 300" in row for row in finding.rows if row[1] == "one rate")
    assert any("diverged" in note for note in finding.notes)


def test_the_figure_draws():
    CLAIM.draw(FORM, trains_until(limits((1, 100), (1, 10)))).canvas.draw()


def test_tuning_runs_arm_by_arm():
    """A change of the arm compiles the training steps anew."""
    arms = [(cell["network"], cell["norm"]) for cell in CLAIM.cells(FORM, Found())]
    changes = sum(one != other for one, other in itertools.pairwise(arms))
    assert changes == len(set(arms)) - 1 == 3

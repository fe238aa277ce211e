"""C1: the rule on planted runs, the speed-up of seeds, and what an arm of section 4.2 trains."""

import math

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.c01_faster import CLAIM, EASY, HARD, OWN, SAME, paper_arm, speedups
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.claims.paper_arms import PAPER_ARMS, make_paper_network, recipe_of
from bn_keras.experiments.claims.speedups import speedup, target_of
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()
SECONDS = {"training_seconds": [float(place) for place in range(11)]}


def measurements(reached, *, diverged=()):
    """Curves that reach the target after a share of their steps, by arm; the best rates are 0.3 and 3, and 0.01."""

    def values_of(cell):
        name = cell.get("arm") or (
            "none" if cell["norm"] == "none" else "own" if cell["learning_rate"] == 3 else "same"
        )
        if cell["seed"] and name in diverged:
            return planted_curve(diverged=True, training_seconds=0)
        if name in ("none", "same", "own"):
            best = cell["learning_rate"] == (0.3 if name == "none" else 3)
        else:
            best = cell["learning_rate"] == 0.01
        accuracy = 0.9 if cell["seed"] or best else 0.5
        return planted_curve(accuracy, reached_at=reached.get(name, 0.8), length=cell["steps"], **SECONDS)

    return planted_measurements(CLAIM, FORM, values_of)


FAST = {"none": 0.8, "same": 0.4, "own": 0.2, "Inception": 0.8, "BN-Baseline": 0.4, "BN-x5": 0.2, "BN-x30": 0.2}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, HOLDS),
        ({"own": 0.8}, CONDITIONALLY),
        ({"BN-Baseline": 0.8}, CONDITIONALLY),
        ({"own": 0.8, "same": 0.8, "BN-Baseline": 0.9, "BN-x5": 0.8, "BN-x30": 0.8}, FAILS),
        ({"own": 1.0, "same": 1.0, "BN-Baseline": 1.0, "BN-x5": 1.0, "BN-x30": 1.0}, FAILS),
    ],
)
def test_the_rule(changes, verdict):
    assert CLAIM.judge(FORM, measurements(FAST | changes)).verdict == verdict


def test_the_speedups_of_both_parts_have_their_own_baseline():
    gains = speedups(FORM, measurements(FAST))
    assert gains[OWN, HARD].ratio == gains[OWN, EASY].ratio == pytest.approx(4)
    assert gains[SAME, HARD].ratio == pytest.approx(2)
    assert gains["BN-Baseline", HARD].ratio == pytest.approx(2)
    assert gains["BN-x5", HARD].crossings == [600] * 3


def test_an_arm_that_diverges_is_not_faster_and_is_named():
    finding = CLAIM.judge(FORM, measurements(FAST, diverged=("BN-x5", "Inception-x5")))
    assert finding.verdict == CONDITIONALLY
    assert any("BN-x5 at" in note and "seeds 1, 2, 3" in note for note in finding.notes)
    assert any("at 5 times its rate: 3 of 3 runs diverge" in note for note in finding.notes)
    assert any(row[0] == "BN-x5" and "never" in row[3] for row in finding.rows)


def runs(*reached, seconds=1.0):
    """Runs that reach an accuracy of 0.9 after a share of 100 steps; `None` diverges."""
    times = {"training_seconds": [seconds * place for place in range(11)]}
    return [
        planted_curve(diverged=True, training_seconds=0) if share is None else planted_curve(reached_at=share, **times)
        for share in reached
    ]


def test_the_range_of_a_speedup_pairs_the_extremes():
    gain = speedup(runs(0.6, 0.8, 1.0), runs(0.1, 0.2, 0.4, seconds=2.0), 0.9)
    assert (gain.ratio, gain.low, gain.high) == pytest.approx((4, 1.5, 10))
    assert gain.cost == pytest.approx(2)
    assert gain.clear


@pytest.mark.parametrize(
    ("without", "with_norm", "clear"),
    [
        ((0.6, 0.6, 0.6), (0.5, 0.5, 0.5), True),  # just 1.2
        ((0.8, 0.8, 0.8), (0.7, 0.7, 0.7), False),
        ((0.5, 0.8, 0.8), (0.1, 0.1, 0.5), False),  # a seed that is no faster
        ((0.5, 0.8, 0.8), (0.1, 0.1, None), False),
        ((0.5, None, None), (0.1, 0.1, 0.1), True),
    ],
)
def test_a_clear_speedup_needs_every_seed_and_a_margin(without, with_norm, clear):
    assert speedup(runs(*without), runs(*with_norm), 0.9).clear == clear


def test_arms_that_never_reach_the_target_have_no_ratio():
    gain = speedup(runs(0.5, 0.5), runs(0.5, 0.5), 0.95)
    assert math.isnan(gain.ratio)
    assert not gain.clear


def test_the_target_is_the_lower_median_of_the_best_accuracies():
    assert target_of([planted_curve(accuracy) for accuracy in (0.5, 0.7, 0.6, 0.8)]) == 0.6


@pytest.mark.parametrize("name", PAPER_ARMS)
def test_the_changes_of_section_4_2_reach_the_network_and_the_recipe(name):
    arm = PAPER_ARMS[name]
    cell = {"network": "mlp_relu_deep", "data": "mnist", "image_size": 8, "norm": arm.norm, "learning_rate": 0.1,
            "steps": 300, "seed": 1}  # fmt: skip
    recipe = recipe_of(cell, arm)
    assert recipe.weight_decay == pytest.approx(0.001 if arm.changed else 0.005)
    assert recipe.steps == (300 if arm.changed else 1800)
    assert ("contrast" in recipe.augment) == (not arm.changed)
    network = make_paper_network(recipe, load("digits"), sigmoid=arm.sigmoid, dropout=not arm.changed)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert ("Dropout" in kinds) == (not arm.changed)
    assert network.get_layer("hidden_1_relu").activation.__name__ == ("sigmoid" if arm.sigmoid else "relu")
    assert ("BatchNorm" in kinds) == (arm.norm == "batch")
    assert network.output_shape == (None, 10)


def test_a_run_of_an_arm_ends_before_its_slow_schedule():
    cell = paper_arm(Form(quick=True), "BN-Baseline") | {"learning_rate": 0.03, "seed": 1, "steps": 60}
    curve = CLAIM.measure(cell, lambda name, **options: load(name))
    assert curve["steps"][-1] == 60
    assert curve["training_seconds"][-1] > curve["training_seconds"][0] == 0


def test_the_figure_draws():
    CLAIM.draw(FORM, measurements(FAST, diverged=("BN-x30",))).canvas.draw()

"""C1: the rule on planted runs, the speed-up of seeds, and what an arm of section 4.2 trains."""

import math

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.c01_faster import (
    CLAIM,
    COST,
    MLP_OWN,
    MLP_SAME,
    cost_cell,
    measure_cost,
    paper_arm,
    speedups,
)
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.experiments.claims.paper_arms import CHANGED, PAPER_ARMS, TUNED, make_paper_network, recipe_of
from bn_keras.experiments.claims.speedups import LOWEST, MEDIAN, speedup, targets_of, words_of
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()
# The best rates of the arms that are tuned.
BEST = {"none": 0.3, "batch": 3.0, "Inception": 0.01, TUNED: 0.1}


def measurements(reached, *, diverged=(), best=BEST):
    """Curves that reach the target after a share of their steps, by arm."""

    def values_of(cell):
        if cell.get("part") == COST:
            return {"step_seconds": {"none": 1.0, "batch": 2.0}, "ratio": 2.0}
        arm = cell.get("arm") or cell["norm"]
        name = "same" if arm == "batch" and cell["learning_rate"] == best["none"] else arm
        if cell["seed"] == 0:
            return planted_curve(0.9 - abs(math.log10(cell["learning_rate"] / best[arm])) / 10)
        if name in diverged:
            return planted_curve(diverged=True)
        return planted_curve(0.9, reached_at=reached.get(name, 0.8), length=cell["steps"])

    return planted_measurements(CLAIM, FORM, values_of)


FAST = {"none": 0.8, "same": 0.4, "batch": 0.2, "Inception": 0.8, CHANGED: 0.8, "BN-Baseline": 0.4, TUNED: 0.4,
        "BN-x5": 0.2, "BN-x30": 0.2}  # fmt: skip
SLOW = dict.fromkeys(FAST, 0.8)


@pytest.mark.parametrize(
    ("changes", "verdict", "clear"),
    [
        ({}, HOLDS, "5 of 5"),
        ({"batch": 0.8}, CONDITIONALLY, "3 of 5"),
        ({"BN-Baseline": 0.8}, CONDITIONALLY, "4 of 5"),
        ({TUNED: 0.8}, CONDITIONALLY, "4 of 5"),
        ({CHANGED: 0.2}, CONDITIONALLY, "4 of 5"),  # the changes do it without batch norm
        (SLOW, FAILS, "0 of 5"),
        (SLOW | {"same": 0.1, "BN-x30": 0.1}, FAILS, "0 of 5"),  # arms that the rule does not read
    ],
)
def test_the_rule_counts_five_contrasts(changes, verdict, clear):
    finding = CLAIM.judge(FORM, measurements(FAST | changes))
    assert finding.verdict == verdict
    assert f"{clear} contrasts" in finding.because


def test_a_best_rate_at_an_edge_is_a_condition_after_the_sweep_has_grown_twice():
    found = measurements(FAST, best=BEST | {"batch": 100.0})
    rates = {
        cell["learning_rate"] for cell, _ in found.where(seed=0) if cell.get("norm") == "none" and "part" not in cell
    }
    assert max(rates) == 100.0
    finding = CLAIM.judge(FORM, found)
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions == "within the swept learning rates"
    assert CLAIM.judge(FORM, measurements(FAST, best=BEST | {"batch": 30.0})).verdict == HOLDS


def test_the_speedups_of_both_networks_have_their_own_baseline_and_steps_cost_time():
    found = measurements(FAST)
    gains = speedups(FORM, found)
    assert gains[MLP_OWN, LOWEST].ratio == gains[MLP_OWN, MEDIAN].ratio == pytest.approx(4)
    assert gains[MLP_SAME, LOWEST].ratio == pytest.approx(2)
    assert gains["BN-Baseline", LOWEST].ratio == pytest.approx(2)
    assert gains["BN-x5", LOWEST].crossings == (800,) * 5
    times = {(row[0], row[1].partition(",")[0]): row[5] for row in CLAIM.judge(FORM, found).rows}
    assert times[MLP_OWN, LOWEST] == "×2.0"
    assert times["without norm", LOWEST] == times[CHANGED, LOWEST] == ""


def test_an_arm_that_diverges_is_not_faster_and_is_named():
    finding = CLAIM.judge(FORM, measurements(FAST, diverged=("BN-x5", "Inception-x5")))
    assert finding.verdict == CONDITIONALLY
    assert any("BN-x5 at" in note and "seeds 1, 2, 3, 4, 5" in note for note in finding.notes)
    assert any("at 5 times its rate: 3 of 3 runs diverge" in note for note in finding.notes)
    assert any(row[0] == "BN-x5" and "never" in row[3] for row in finding.rows)


def runs(*reached):
    """Runs that reach an accuracy of 0.9 after a share of 100 steps; `None` diverges."""
    return [
        planted_curve(diverged=True) if share is None else planted_curve(reached_at=share) for share in reached
    ]  # fmt: skip


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


def test_a_speedup_is_printed_with_its_interval():
    gain = speedup(runs(0.6, 0.8, 1.0), runs(0.1, 0.2, 0.4), 0.9)
    low, high = gain.interval
    assert gain.ratio == pytest.approx(4)
    assert 1.49 < low < 4 < high < 10.01
    assert words_of(gain) == f"×4.0 (95 %: {low:.1f}–{high:.1f})"
    assert words_of(speedup(runs(0.5, 0.5), runs(None, None), 0.9)) == "the median seed never gets there"


def test_arms_that_never_reach_the_target_have_no_ratio():
    gain = speedup(runs(0.5, 0.5), runs(0.5, 0.5), 0.95)
    assert math.isnan(gain.ratio)
    assert not gain.clear


def test_every_seed_of_the_baseline_reaches_the_lowest_target_and_a_diverged_one_sets_none():
    baseline = [planted_curve(accuracy) for accuracy in (0.5, 0.7, 0.6, 0.8)]
    assert targets_of(baseline) == {LOWEST: 0.5, MEDIAN: 0.6}
    assert math.isfinite(max(speedup(baseline, baseline, 0.5).baseline))
    assert targets_of([*baseline, planted_curve(diverged=True)])[LOWEST] == 0.5
    assert targets_of([planted_curve(diverged=True)])[LOWEST] == math.inf


@pytest.mark.parametrize("name", PAPER_ARMS)
def test_the_changes_of_section_4_2_reach_the_network_and_the_recipe(name):
    arm = PAPER_ARMS[name]
    cell = {"network": "mlp_relu_deep", "data": "mnist", "image_size": 8, "norm": arm.norm, "learning_rate": 0.1,
            "steps": 400, "seed": 1}  # fmt: skip
    recipe = recipe_of(cell, arm)
    assert recipe.weight_decay == pytest.approx(0.001 if arm.changed else 0.005)
    assert recipe.steps == (400 if arm.changed else 2400)
    assert ("contrast" in recipe.augment) == (not arm.changed)
    network = make_paper_network(recipe, load("digits"), sigmoid=arm.sigmoid, dropout=not arm.changed)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert ("Dropout" in kinds) == (not arm.changed)
    assert network.get_layer("hidden_1_relu").activation.__name__ == ("sigmoid" if arm.sigmoid else "relu")
    assert ("BatchNorm" in kinds) == (arm.norm == "batch")
    assert network.output_shape == (None, 10)


@pytest.mark.slow
def test_a_run_of_an_arm_ends_before_its_slow_schedule():
    cell = paper_arm(Form(quick=True), "BN-Baseline") | {"learning_rate": 0.03, "seed": 1, "steps": 40}
    curve = CLAIM.measure(cell, lambda name, **options: load(name))
    assert curve["steps"][-1] == 40


def test_the_cost_of_a_step_compares_batch_norm_with_the_same_network_without(monkeypatch):
    asked = {}

    def record(recipes, data, watcher):
        asked.update(recipes)
        raise InterruptedError

    monkeypatch.setattr("bn_keras.experiments.claims.c01_faster.measure_costs", record)
    for network in ("mlp_sigmoid", "inception_small"):
        with pytest.raises(InterruptedError):
            measure_cost(cost_cell(FORM, network), lambda name, **options: None)
        assert {arm: recipe.norm and recipe.norm[0] for arm, recipe in asked.items()} == {
            "none": None,
            "batch": "batch",
        }
        assert {recipe.preset for recipe in asked.values()} == {network}


def test_the_figure_draws():
    CLAIM.draw(FORM, measurements(FAST, diverged=("BN-x30",))).canvas.draw()

"""What a comparison says, against numbers worked out by hand and by brute force."""

import dataclasses
import itertools
import math
import statistics

import numpy as np
import pytest

from bn_keras.experiments.comparison.analysis import Comparison, Group, probability_faster, ratio_of
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, SAME, Plan
from bn_keras.experiments.comparison.runs import Job, Run
from bn_keras.experiments.comparison.space import Trial
from bn_keras.experiments.comparison.step_cost import StepCost, StepCosts
from tests.experiments.comparison import made_up

TRIAL = Trial(1.0, 0.0, 0.0, 1.0)
NEVER, INFINITY = (0.1, 0.1, 0.1, 0.1, 0.1), math.inf
DIVERGED = (0.1, 0.99)


def run(arm, accuracy, seed, test=None):
    job = Job(arm, TRIAL, 40, seed)
    diverged_at = 10 * len(accuracy) if len(accuracy) < 5 else None
    return Run(job, 10 * np.arange(len(accuracy)), np.array(accuracy), diverged_at, test)


def comparison(none, batch, pools=None, same=None, costs=(1.0, 2.0)):
    """A comparison of runs that are given as lists of accuracies, after 0, 10, 20, 30 and 40 steps."""
    recipe = made_up.recipe(steps=40, seeds=len(none), validation_examples=100)
    seeds = {("none", role): none for role in (FASTEST, MOST_ACCURATE, SAME)}
    seeds |= {("batch", role): batch for role in (FASTEST, MOST_ACCURATE)} | {("batch", SAME): same or batch}
    seeds = {
        key: tuple(run(key[0], each, i + 1, 0.5 + i / 10) for i, each in enumerate(runs)) for key, runs in seeds.items()
    }
    found = {arm: tuple(run(arm, each, 0) for each in pool) for arm, pool in (pools or {}).items()}
    plan = Plan("done", 40, recipe.space, found, dict.fromkeys(seeds, TRIAL), (), (), ())
    arms = {arm: StepCost((cost, cost), 1.0, 10) for arm, cost in zip(("none", "batch"), costs, strict=True)}
    return Comparison(recipe, made_up.DATA, plan, seeds, StepCosts(arms, made_up.PROVENANCE))


BY_HAND = comparison(
    none=[(0.1, 0.3, 0.6, 0.8, 0.7), (0.1, 0.5, 0.8, 0.9, 0.9), (0.1, 0.2, 0.3, 0.7, 0.7)],  # best: 0.8, 0.9, 0.7
    batch=[(0.1, 0.8, 0.8, 0.8, 0.85), (0.1, 0.7, 0.9, 0.9, 0.9), (0.1, 0.9, 0.95, 0.9, 0.9)],  # best: 0.85, 0.9, 0.95
    same=[(0.1, 0.8, 0.9, 0.9, 0.9), (0.1, 0.1, 0.1, 0.8, 0.8), DIVERGED],
)


def test_targets_are_medians_of_the_best_accuracies_of_seeds():
    assert BY_HAND.target == 0.8
    assert BY_HAND.hard_target == 0.9
    assert BY_HAND.error == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
    assert (BY_HAND.accuracy("none"), BY_HAND.accuracy("batch")) == (0.8, 0.9)
    assert BY_HAND.test_accuracies("batch") == [0.5, 0.6, 0.7]
    assert BY_HAND.chance == 0.1
    assert BY_HAND.arms == ("batch",)


def test_each_seed_has_its_own_crossing():
    found = BY_HAND.speedup("batch")
    assert found.baseline_crossings == (30, 20, INFINITY)
    assert found.crossings == (10, 20, 10)
    assert found.ratio == 3.0
    assert (found.cost, found.time_ratio) == (2.0, 1.5)
    assert found.faster == pytest.approx(8.5 / 9)  # of nine pairs one is a tie
    hard = BY_HAND.speedup("batch", hard=True)
    assert (hard.target, hard.baseline_crossings, hard.crossings) == (0.9, (INFINITY, 30, INFINITY), (INFINITY, 20, 10))
    assert hard.ratio == INFINITY


def test_a_run_that_diverges_never_crosses_whatever_it_reached_before():
    assert BY_HAND.speedup("batch", SAME).crossings == (10, 30, INFINITY)
    assert Group([run("batch", DIVERGED, 1), run("batch", NEVER, 2)]).crossings(0.5).tolist() == [INFINITY, INFINITY]


def test_a_shifted_target_is_crossed_earlier_or_later():
    assert BY_HAND.speedup("batch", shift=-0.1).baseline_crossings == (30, 20, 30)
    assert BY_HAND.speedup("batch", shift=0.1).baseline_crossings == (INFINITY, 30, INFINITY)


def test_a_target_that_rounding_missed_is_reached():
    third = 0.1 + 0.2  # 0.30000000000000004
    assert Group([run("none", (0.1, 0.3, 0.3, 0.3, 0.3), 1)]).crossings(third).tolist() == [10]


@pytest.mark.parametrize(
    ("baseline", "arm", "ratio"),
    [
        (30, 10, 3),
        (10, 40, 0.25),
        (INFINITY, 10, INFINITY),
        (10, INFINITY, 0),
        (INFINITY, INFINITY, math.nan),
        (30, 0, INFINITY),
        (0, 10, 0),
        (0, 0, math.nan),
        (0, INFINITY, 0),
        (INFINITY, 0, INFINITY),
    ],
)
def test_the_ratio_is_infinite_zero_or_nan_where_arms_never_get_there(baseline, arm, ratio):
    assert ratio_of(baseline, arm) == pytest.approx(ratio, nan_ok=True)


def test_neither_arm_gets_anywhere():
    found = comparison(none=[NEVER] * 3, batch=[NEVER] * 3).speedup("batch", shift=0.5)
    assert math.isnan(found.ratio)
    assert math.isnan(found.time_ratio)
    assert found.faster == 0.5


@pytest.mark.parametrize("runs", [NEVER, DIVERGED])
def test_a_baseline_that_learns_nothing_sets_a_target_that_guessing_reaches(runs):
    """The target is then reached before the first step, which has no ratio."""
    found = comparison(none=[runs] * 3, batch=[(0.1, 0.9, 0.9, 0.9, 0.9)] * 3)
    assert found.target == 0.1
    assert found.speedup("batch").crossings == (0, 0, 0)
    assert not math.isfinite(found.speedup("batch").ratio)
    assert found.speedup("batch").guessed
    assert not BY_HAND.speedup("batch").guessed


def test_one_arm_never_gets_there():
    learning = [(0.1, 0.8, 0.8, 0.8, 0.8), (0.1, 0.1, 0.8, 0.8, 0.8)] * 2
    lost = comparison(none=learning, batch=[NEVER] * 4).speedup("batch")
    assert (lost.ratio, lost.low, lost.high, lost.faster) == (0, 0, 0, 0)
    won = comparison(none=[NEVER] * 4, batch=learning).speedup("batch", shift=0.3)
    assert (won.ratio, won.low, won.high, won.faster) == (INFINITY, INFINITY, INFINITY, 1)


def test_the_probability_is_the_share_of_pairs_with_ties_as_halves(random):
    for _ in range(20):
        baseline, arm = (random.choice([10.0, 20.0, 30.0, INFINITY], size=size) for size in (5, 7))
        pairs = [1.0 if a < b else 0.5 if a == b else 0.0 for b, a in itertools.product(baseline, arm)]
        assert probability_faster(baseline, arm) == pytest.approx(statistics.mean(pairs))


def test_one_seed_has_no_interval():
    found = comparison(none=[(0.1, 0.3, 0.5, 0.8, 0.8)], batch=[(0.1, 0.8, 0.8, 0.8, 0.8)]).speedup("batch")
    assert found.ratio == 3
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.slow
def test_the_interval_is_that_of_a_bootstrap_that_draws_its_target_too(random):
    """A bootstrap written in plain NumPy, with other random numbers."""
    found = made_up.comparison(seeds=10)
    none, batch = found.seeds["none", MOST_ACCURATE], found.seeds["batch", FASTEST]
    ratios = []
    for _ in range(4000):
        ours, theirs = ([runs[i] for i in random.integers(10, size=10)] for runs in (none, batch))
        target = sorted(each.best for each in ours)[4]
        medians = [np.median([each.crossing(target) for each in runs]) for runs in (ours, theirs)]
        ratios.append(medians[0] / medians[1])
    ends = np.quantile(ratios, [0.025, 0.975])
    speedup = found.speedup("batch")
    assert [speedup.low, speedup.high] == pytest.approx(ends, rel=0.1)
    assert speedup.low < speedup.ratio < speedup.high
    again = made_up.comparison(seeds=10).speedup("batch")
    assert (again.low, again.high) == (speedup.low, speedup.high), "the bootstrap has a fixed seed"


def test_identical_seeds_have_an_interval_without_width():
    found = comparison(none=[(0.1, 0.1, 0.1, 0.8, 0.8)] * 5, batch=[(0.1, 0.8, 0.8, 0.8, 0.8)] * 5).speedup("batch")
    assert (found.low, found.ratio, found.high) == pytest.approx((3, 3, 3))


@pytest.mark.slow
def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says(random):
    """Crossings are log-normal around 200 and 100 steps, and all runs end at the same accuracy."""

    def runs(arm, median):
        crossings = median * np.exp(random.normal(0, 0.3, size=10))
        steps = np.arange(0, 1001, 5)
        job = Job(arm, TRIAL, 1000, 1)
        return tuple(Run(job, steps, np.where(steps >= each, 0.9, 0.1), None, 0.9) for each in crossings)

    base, hits = comparison([NEVER] * 10, [NEVER] * 10), 0
    for _ in range(20):
        seeds = {(arm, role): runs(arm, {"none": 200, "batch": 100}[arm]) for arm, role in base.seeds}
        made = dataclasses.replace(base, seeds=seeds)
        found = made.speedup("batch")
        hits += found.low <= 2 <= found.high
    assert hits >= 16  # 19 of 20 are expected; a bootstrap over ten seeds is a little narrow


def test_a_fixed_level_has_the_crossings_of_that_level():
    low, high = BY_HAND.speedup_curve("batch", [0.3, 0.85])
    assert (low.target, low.baseline_crossings, low.crossings) == (0.3, (10, 10, 20), (10, 10, 10))
    assert (high.target, high.ratio) == (0.85, INFINITY)


POOLS = {
    "none": [(0.1, 0.1, 0.3, 0.75, 0.79), (0.1, 0.2, 0.2, 0.2, 0.2), NEVER, DIVERGED],
    "batch": [(0.1, 0.79, 0.8, 0.8, 0.8), (0.1, 0.1, 0.9, 0.9, 0.9), NEVER, (0.1, 0.3, 0.3, 0.3, 0.3)],
}


def test_pools_are_compared_by_the_best_trial_of_each_arm_for_the_level():
    found = comparison(none=[NEVER], batch=[NEVER], pools=POOLS)
    assert found.pool_speedup("batch", 0.7) == 3  # 30 over 10
    assert found.pool_speedup("batch", 0.2) == 1  # 10 over 10
    assert found.pool_speedup("batch", 0.85) == INFINITY
    assert math.isnan(found.pool_speedup("batch", 0.99))


def test_the_budget_of_all_trials_is_the_best_of_the_pool():
    runs = [(0.1, 0.1, 0.1, 0.8, 0.8)] * 3  # the target is 0.8, a standard error is 0.04
    found = comparison(none=runs, batch=runs, pools=POOLS).budgets(count=200)
    assert sorted(found) == [1, 2, 4]
    assert set(found[4]["none"].crossings) == {40}
    assert set(found[4]["none"].accuracies) == {0.79}
    assert set(found[4]["batch"].crossings) == {10}
    assert set(found[4]["batch"].accuracies) == {0.9}
    # One of four trials reaches 0.76 without norm; of two different trials one does with a probability of a half.
    assert found[1]["none"].reached == pytest.approx(1 / 4, abs=0.1)
    assert found[2]["none"].reached == pytest.approx(1 / 2, abs=0.1)
    assert found[1]["batch"].reached == pytest.approx(1 / 2, abs=0.1)


def test_more_trials_are_never_worse():
    found = made_up.comparison().budgets()
    assert sorted(found) == [1, 2, 4, 8, 16]
    for arm in ("none", "batch"):
        reached = [found[size][arm].reached for size in sorted(found)]
        accuracies = [found[size][arm].accuracies.mean() for size in sorted(found)]
        assert reached == sorted(reached)
        assert accuracies == sorted(accuracies)
    again = made_up.comparison().budgets()
    assert np.array_equal(again[4]["batch"].crossings, found[4]["batch"].crossings), "the subsets have a fixed seed"

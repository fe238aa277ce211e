"""The plan: which runs follow from the stored ones. No test trains anything."""

import math

import numpy as np
import pytest

from bn_keras.experiments import Recipe
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, SAME, fastest, most_accurate, plan
from bn_keras.experiments.comparison.runs import Job, Run
from bn_keras.experiments.comparison.space import Trial

EXAMPLES = 10_000  # the standard error of an accuracy of 0.9 is 0.003


def recipe(**changes):
    fields = {
        "preset": "mlp_sigmoid", "data": "digits", "norms": (None, "batch", "layer"), "steps": 400,
        "evaluate_every": 10, "validation_examples": EXAMPLES, "seeds": 3,
    }  # fmt: skip
    return Recipe(**fields | changes)


def reaching(best, step, late=0.0):
    """How a run goes: it guesses, reaches its best but for `late` at a step, and gains the rest with the last step."""
    return best, step, late


DIVERGING = None


def run_of(job, going):
    steps = np.arange(0, job.steps + 1, 10)
    if going is DIVERGING:
        return Run(job, steps[:2], np.array([0.1, 0.99]), 20, 0.1 if job.tests else None)
    best, step, late = going
    accuracy = np.where(steps >= step, best - late, 0.1)
    accuracy[-1] = best
    return Run(job, steps, accuracy, None, best if job.tests else None)


def middle_of(space):
    """A share of 1 away from all edges, less towards them; it tells trials apart by their rate."""

    def quality(trial):
        low, high = space.learning_rate
        return 1 - abs(math.log(trial.learning_rate / math.sqrt(low * high)) / math.log(high / low))

    return quality


class Stored:
    """Runs that appear when they are made; `going` tells how a job goes."""

    def __init__(self, going):
        self.going, self.runs = going, {}

    def find(self, job):
        return self.runs.get(job)

    def make(self, jobs):
        self.runs |= {job: run_of(job, self.going(job)) for job in jobs}

    def finish(self, made_up):
        """The plans of all stages up to the last one."""
        plans = [plan(made_up, self.find)]
        while plans[-1].missing:
            self.make(plans[-1].missing)
            plans.append(plan(made_up, self.find))
        return plans


def in_the_middle(best=0.9, step=100):
    """All trials are alike, so that no winner is at an edge without a rival."""
    return lambda job: reaching(best, step)


def stages(plans):
    return [found.stage for found in plans]


def test_the_baseline_is_tuned_first_then_all_arms_then_the_winners_run_with_new_seeds():
    made_up, stored = recipe(), Stored(in_the_middle())
    baseline, tuning, seeds, done = stored.finish(made_up)
    assert stages([baseline, tuning, seeds, done]) == ["baseline", "tuning", "seeds", "done"]
    trials = made_up.space.draw(16)
    assert [job.trial for job in baseline.jobs] == list(trials)
    assert {job.arm for job in baseline.jobs} == {"none"}
    assert {(job.arm, job.trial) for job in tuning.jobs} == {(arm, trial) for arm in made_up.arms for trial in trials}
    assert {job.arm for job in tuning.missing} == {"batch", "layer"}, "the baseline is not run again"
    assert {job.seed for job in [*baseline.jobs, *tuning.jobs]} == {0}
    assert {job.seed for job in seeds.jobs} == {1, 2, 3}
    assert (done.missing, done.notes) == ((), ())
    assert {arm: len(pool) for arm, pool in done.pools.items()} == {"none": 16, "batch": 16, "layer": 16}


def test_only_what_is_missing_is_asked_for_and_no_job_twice():
    made_up, stored = recipe(), Stored(in_the_middle())
    while (found := plan(made_up, stored.find)).missing:
        assert len(set(found.jobs)) == len(found.jobs)
        assert set(found.missing) == {job for job in found.jobs if stored.find(job) is None}
        stored.make(found.missing[1:3] or found.missing[:1])
    assert found.stage == "done"


def test_a_stored_run_never_changes_the_jobs_of_a_finished_stage():
    def going(job):
        return reaching(0.5 + 0.4 * middle_of(made_up.space)(job.trial), 100, late=0.1 if job.steps == 400 else 0.0)

    made_up, stored = recipe(), Stored(going)
    known = {}
    while (found := plan(made_up, stored.find)).missing:
        assert known.setdefault((found.stage, found.steps, len(found.jobs)), found.jobs) == found.jobs
        stored.make(found.missing[:1])
    assert {stage for stage, *_ in known} == {"baseline", "tuning", "seeds"}


def test_the_steps_of_all_arms_are_doubled_while_the_baseline_is_not_flat():
    late = {400: 0.01, 800: 0.0031, 1600: 0.0029}  # the standard error is 0.003
    made_up, stored = recipe(), Stored(lambda job: reaching(0.9, 100, late[job.steps] if job.arm == "none" else 0.05))
    plans = stored.finish(made_up)
    assert [(found.stage, found.steps) for found in plans] == [
        ("baseline", 400), ("baseline", 800), ("baseline", 1600), ("tuning", 1600), ("seeds", 1600), ("done", 1600),
    ]  # fmt: skip
    assert {job.steps for job in plans[-2].jobs} == {1600}, "the norms' own gains do not count"
    assert len(plans[-1].notes) == 2
    assert all("extended to" in note for note in plans[-1].notes)


@pytest.mark.parametrize(("extensions", "steps"), [(0, 400), (1, 800), (2, 1600)])
def test_the_steps_are_doubled_no_more_often_than_allowed_and_a_note_says_so(extensions, steps):
    plans = Stored(lambda job: reaching(0.9, 100, late=0.05)).finish(recipe(extensions=extensions))
    assert plans[-1].steps == steps
    assert len(plans[-1].notes) == extensions + 1
    assert "not extended further" in plans[-1].notes[-1]


EDGES = [
    ("learning_rate", "high", (10, 100)),
    ("learning_rate", "low", (1e-4, 1e-3)),
    ("initial_gain", "low", (0.25, 0.5)),
    ("initial_gain", "high", (2, 4)),
    ("warmup", "high", (0.5, 0.5)),
    ("weight_decay", "high", (2e-3, 2e-3)),
]


@pytest.mark.parametrize("arm", ["none", "layer"])
@pytest.mark.parametrize(("field", "end", "part"), EDGES)
def test_a_winner_at_an_edge_widens_the_space_there_for_all_arms(arm, field, end, part):
    def going(job):
        at_edge = job.arm == arm and (field, end) in made_up.space.edges_of(job.trial)
        return reaching(0.95 if at_edge and job.trial in made_up.space.draw(16) else 0.9, 100)

    made_up, stored = recipe(), Stored(going)
    found = stored.finish(made_up)[-1]
    widened = getattr(found.space, field)
    assert min(widened) <= min(part) <= max(part) <= max(widened)
    pools = [[run.job.trial for run in pool] for pool in found.pools.values()]
    assert pools[0] == pools[1] == pools[2], "all arms have the same trials"
    beyond = [trial for trial in pools[0] if part[0] <= getattr(trial, field) <= part[1]]
    assert len(beyond) >= 4
    assert any(field in note and "for all arms, with 4 more trials each" in note for note in found.notes)


def test_a_winner_that_stays_at_the_edge_is_followed_twice_and_then_noted():
    def going(job):
        return reaching(0.5 + 0.05 * math.log10(job.trial.learning_rate / 1e-3), 100)

    found = Stored(going).finish(recipe())[-1]
    assert found.space.learning_rate == pytest.approx((1e-3, 1e3))
    more, rest = divmod(len(found.pools["batch"]) - 16, 4)
    assert (more >= 2, rest) == (True, 0)
    assert "not widened further" in found.notes[-1]
    unwidened = Stored(going).finish(recipe(extensions=0))[-1]
    assert unwidened.space == recipe().space
    assert "Winners lie at the high end of learning_rate" in unwidened.notes[-1]


@pytest.mark.parametrize(("best", "widens"), [(0.9028, False), (0.9032, True)])
@pytest.mark.parametrize("arm", ["none", "layer"])
def test_a_rival_within_a_standard_error_keeps_the_space_as_it_is(arm, best, widens):
    def going(job):  # away from the edge the accuracy is 0.9; the standard error of the winner is 0.00296
        if job.arm != arm:
            return reaching(0.9, 100)
        return reaching(best if ("learning_rate", "high") in made_up.space.edges_of(job.trial) else 0.9, 100)

    made_up = recipe(extensions=1)
    found = Stored(going).finish(made_up)[-1]
    assert (found.space != made_up.space) == widens


@pytest.mark.parametrize(("step", "widens"), [(110, False), (120, True)])
def test_a_rival_at_most_a_tenth_later_keeps_the_space_as_it_is(step, widens):
    def going(job):  # all trials of an arm are equally accurate, so only the fastest can be at an edge
        if job.arm != "batch":
            return reaching(0.9, 50)
        return reaching(0.9, 100 if ("learning_rate", "high") in made_up.space.edges_of(job.trial) else step)

    made_up = recipe(extensions=1)
    found = Stored(going).finish(made_up)[-1]
    assert (found.space != made_up.space) == widens


def test_the_winners_are_the_fastest_the_most_accurate_and_that_of_the_baseline():
    made_up = recipe(extensions=0)
    first, second, third, *_ = made_up.space.draw(16)
    goings = {
        ("none", first): reaching(0.8, 200),
        ("batch", second): reaching(0.8, 50),  # the first to reach the accuracy of the baseline
        ("batch", third): reaching(0.9, 300),
        ("layer", second): reaching(0.79, 50),  # never gets there
        ("layer", third): reaching(0.78, 40),
    }
    stored = Stored(lambda job: goings.get((job.arm, job.trial), reaching(0.5, 10)))
    found = stored.finish(made_up)[-1]
    assert found.winners == {
        ("none", FASTEST): first, ("none", MOST_ACCURATE): first, ("none", SAME): first,
        ("batch", FASTEST): second, ("batch", MOST_ACCURATE): third, ("batch", SAME): first,
        ("layer", FASTEST): second, ("layer", MOST_ACCURATE): second, ("layer", SAME): first,
    }  # fmt: skip
    ran = {(job.arm, job.trial) for job in found.jobs}
    assert ran == {(arm, trial) for (arm, _), trial in found.winners.items()}
    assert len(found.jobs) == 3 * len(ran), "a trial that wins twice runs once per seed"


def pool_of(*goings):
    trials = recipe().space.draw(len(goings))
    return [run_of(Job("batch", trial, 400, 0), going) for trial, going in zip(trials, goings, strict=True)]


def test_of_equally_accurate_trials_the_faster_wins_and_of_equally_fast_ones_the_more_accurate():
    slow, fast = pool_of(reaching(0.9, 200), reaching(0.9, 100))
    assert most_accurate([slow, fast]) is most_accurate([fast, slow]) is fast
    low, high = pool_of(reaching(0.8, 100), reaching(0.9, 100))
    assert fastest([low, high], 0.8) is fastest([high, low], 0.8) is high


def test_where_no_trial_reaches_the_target_the_fastest_is_the_most_accurate():
    pool = pool_of(reaching(0.5, 20), reaching(0.7, 200), reaching(0.7, 100), DIVERGING)
    assert fastest(pool, 0.9) is most_accurate(pool) is pool[2]


def test_a_run_that_diverged_reaches_nothing_and_is_as_good_as_its_first_evaluation():
    diverged, poor = pool_of(DIVERGING, reaching(0.2, 400))
    assert (diverged.best, diverged.crossing(0.05), diverged.late_gain()) == (0.1, math.inf, 0.0)
    assert most_accurate([diverged, poor]) is fastest([diverged, poor], 0.15) is poor


def test_a_comparison_in_which_everything_diverges_comes_to_an_end():
    plans = Stored(lambda job: DIVERGING).finish(recipe())
    assert stages(plans) == ["baseline", "tuning", "seeds", "done"]
    assert plans[-1].space == recipe().space


def test_a_run_crosses_where_it_reaches_the_target_or_more_for_the_first_time():
    job = Job("batch", Trial(1.0, 0.0, 0.0, 1.0), 40, 1)
    run = Run(job, np.array([0, 10, 20, 30, 40]), np.array([0.1, 0.4, 0.3, 0.7, 0.6]), None, 0.6)
    assert [run.crossing(target) for target in (0.05, 0.35, 0.4, 0.41, 0.7, 0.71)] == [0, 10, 10, 30, 30, math.inf]
    assert run.late_gain() == 0.0
    assert run.running_best.tolist() == [0.1, 0.4, 0.4, 0.7, 0.7]


def test_the_late_gain_is_that_of_the_last_quarter():
    job = Job("batch", Trial(1.0, 0.0, 0.0, 1.0), 40, 1)
    run = Run(job, np.array([0, 10, 20, 30, 40]), np.array([0.1, 0.4, 0.5, 0.6, 0.7]), None, 0.6)
    assert run.late_gain() == pytest.approx(0.1)

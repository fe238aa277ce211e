"""What is to be run next: a function of the recipe and the stored runs alone."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from bn_keras.experiments.comparison.recipe import BASELINE, TUNING_SEED, Recipe
from bn_keras.experiments.comparison.runs import Job, Run
from bn_keras.experiments.comparison.space import Space, Trial

# A trial in the middle that needs at most a tenth more steps is as good as one at the edge.
AS_FAST = 1.1
FASTEST, MOST_ACCURATE, SAME = "fastest", "accurate", "same"

Find = Callable[[Job], Run | None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How far a comparison has come.

    Args:
        stage: `"baseline"`, `"tuning"`, `"seeds"` or `"done"`.
        steps: The optimizer steps of each run.
        space: The space that the trials are drawn from, as widened.
        pools: The finished trials of each arm.
        winners: The winning trial of each arm and role, once the tuning is done.
        jobs: All runs of the stage.
        missing: Those that are not stored yet.
        notes: What was extended or widened, and what could not be.
    """

    stage: str
    steps: int
    space: Space
    pools: dict[str, tuple[Run, ...]]
    winners: dict[tuple[str, str], Trial]
    jobs: tuple[Job, ...]
    missing: tuple[Job, ...]
    notes: tuple[str, ...]


def plan(recipe: Recipe, find: Find) -> Plan:
    """The next runs of a comparison.

    Args:
        recipe: The comparison.
        find: Returns the stored run of a job, or `None`.
    """
    tuning = Tuning(recipe, find)
    while True:
        for stage, arms in (("baseline", [BASELINE]), ("tuning", recipe.arms)):
            jobs = tuning.jobs(arms)
            missing = tuple(job for job in jobs if find(job) is None)
            if missing:
                return tuning.plan(stage, jobs, missing)
            if stage == "baseline" and tuning.extend_steps():
                break
        else:
            if not tuning.widen_space():
                break
    winners = tuning.winners()
    jobs = seed_jobs(recipe, winners, tuning.steps)
    missing = tuple(job for job in jobs if find(job) is None)
    return tuning.plan("seeds" if missing else "done", jobs, missing, winners)


class Tuning:
    """The tuning as it is replayed: its steps, its space and its trials grow until both rules hold."""

    def __init__(self, recipe: Recipe, find: Find):
        self.recipe, self.find = recipe, find
        self.steps, self.space = recipe.steps, recipe.space
        self.trials = list(recipe.space.draw(recipe.trials))
        self.extensions, self.widenings = 0, 0
        self.notes: dict[str, str] = {}

    def jobs(self, arms: Sequence[str]) -> tuple[Job, ...]:
        """The trials of arms, in turns."""
        return tuple(Job(arm, trial, self.steps, TUNING_SEED) for trial in self.trials for arm in arms)

    def pool(self, arm: str) -> tuple[Run, ...]:
        """The trials of an arm that are stored."""
        runs = (self.find(job) for job in self.jobs([arm]))
        return tuple(run for run in runs if run is not None)

    def extend_steps(self) -> bool:
        """Doubles the steps when the baseline is not flat, as often as the recipe allows."""
        winner = most_accurate(self.pool(BASELINE))
        error = standard_error(winner.best, self.recipe.validation_examples)
        gain = winner.late_gain()
        if gain < error:
            self.notes.pop("flat", None)
            return False
        found = (
            f"The baseline still gained {gain / error:.1f} standard errors in the last quarter of {self.steps:,} steps"
        )
        if self.extensions == self.recipe.extensions:
            self.notes["flat"] = f"{found}. The runs were not extended further: its best accuracy is not its limit."
            return False
        self.notes[f"steps {self.steps}"] = f"{found}, so all runs were extended to {2 * self.steps:,} steps."
        self.extensions, self.steps = self.extensions + 1, 2 * self.steps
        return True

    def widen_space(self) -> bool:
        """Widens the space for all arms where a winner lies at an end of it, as often as the recipe allows."""
        ends = {}
        for (arm, role), trial in self.winners().items():
            if role in own_roles(arm):
                for field, end in self.space.edges_of(trial):
                    if not self.rivalled(arm, role, field, end):
                        ends.setdefault((field, end), []).append(f"{arm} {role}")
        self.notes.pop("edge", None)
        if not ends:
            return False
        found = "; ".join(f"{end} end of {field} ({', '.join(who)})" for (field, end), who in ends.items())
        if self.widenings == self.recipe.extensions:
            self.notes["edge"] = f"Winners lie at the {found}. The search was not widened further."
            return False
        count = max(1, self.recipe.trials // 4)
        for field, end in ends:
            beyond, self.space = self.space.widened(field, end)
            self.trials += beyond.draw(count)
        self.widenings += 1
        self.notes[f"space {self.widenings}"] = (
            f"Winners were at the {found}, so the space was widened there for all arms, with {count} more trials each."
        )
        return True

    def rivalled(self, arm: str, role: str, field: str, end: str) -> bool:
        """Whether a trial away from the end is as good as the winner."""
        away = [run for run in self.pool(arm) if (field, end) not in self.space.edges_of(run.job.trial)]
        if not away:
            return False
        if role == MOST_ACCURATE:
            best = most_accurate(self.pool(arm)).best
            return most_accurate(away).best >= best - standard_error(best, self.recipe.validation_examples)
        first = min(run.crossing(self.target) for run in self.pool(arm))
        return min(run.crossing(self.target) for run in away) <= AS_FAST * first

    @property
    def target(self) -> float:
        """The best validation accuracy of all trials without norm."""
        return most_accurate(self.pool(BASELINE)).best

    def winners(self) -> dict[tuple[str, str], Trial]:
        """For each arm the fastest and the most accurate trial, and the baseline's own trial with the arm's norm.

        The fastest is the one that first reaches the best accuracy of the baseline; where none does, it is the most
        accurate. For the baseline all three are the same.
        """
        same = most_accurate(self.pool(BASELINE)).job.trial
        chosen = {}
        for arm in self.recipe.arms:
            pool = self.pool(arm)
            chosen[arm, FASTEST] = fastest(pool, self.target).job.trial
            chosen[arm, MOST_ACCURATE] = most_accurate(pool).job.trial
            chosen[arm, SAME] = same
        return chosen

    def plan(self, stage, jobs, missing, winners=None) -> Plan:
        """The plan as it stands."""
        pools = {arm: self.pool(arm) for arm in self.recipe.arms}
        notes = tuple(self.notes.values())
        return Plan(stage, self.steps, self.space, pools, winners or {}, tuple(jobs), missing, notes)


def own_roles(arm: str) -> tuple[str, ...]:
    """The roles in which an arm can have a winner of its own; the baseline's fastest trial is its most accurate one."""
    return (MOST_ACCURATE,) if arm == BASELINE else (FASTEST, MOST_ACCURATE)


def seed_jobs(recipe: Recipe, winners: dict[tuple[str, str], Trial], steps: int) -> tuple[Job, ...]:
    """The runs of all winners with new seeds, each once; a seed of all winners after the other."""
    seeds = range(TUNING_SEED + 1, TUNING_SEED + 1 + recipe.seeds)
    jobs = (Job(arm, trial, steps, seed) for seed in seeds for (arm, _), trial in winners.items())
    return tuple(dict.fromkeys(jobs))


def most_accurate(pool: Sequence[Run]) -> Run:
    """The run with the highest accuracy; of equals the one that gets there first."""
    return min(pool, key=lambda run: (-run.best, run.crossing(run.best)))


def fastest(pool: Sequence[Run], target: float) -> Run:
    """The run that first reaches a target; the most accurate where none does."""
    return min(pool, key=lambda run: (run.crossing(target), -run.best, run.crossing(run.best)))


def standard_error(accuracy: float, examples: int) -> float:
    """The standard error of an accuracy that is a share of examples; at least that of one example."""
    return max(math.sqrt(accuracy * (1 - accuracy) / examples), 1 / examples)

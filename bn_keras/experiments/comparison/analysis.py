"""What a comparison says: targets, crossings, speed-ups with intervals, and the worth of tuning."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import bootstrap, mannwhitneyu

from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, Plan, standard_error
from bn_keras.experiments.comparison.recipe import BASELINE, Recipe
from bn_keras.experiments.comparison.runs import Run
from bn_keras.experiments.comparison.step_cost import StepCosts

RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 0
# The logarithm of a ratio that is infinite, for percentiles, which cannot interpolate infinities.
INFINITE = 1e3


class Group:
    """The runs of one arm and role, over seeds."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = tuple(runs)
        longest = max((run.steps for run in runs), key=len)
        self.steps = longest
        self.running_best = np.full((len(runs), len(longest)), -np.inf)
        for row, run in zip(self.running_best, runs, strict=True):
            if not run.diverged_at:
                row[: len(run.steps)] = run.running_best
        self.best = np.array([run.best for run in runs])

    def crossings(self, target: float | np.ndarray, picks: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The step at which each run reaches a target; ∞ for a miss or a divergence.

        Args:
            target: A target, or an array with one for each resample.
            picks: The places of the runs; those of a resample along the last axis.
        """
        reached = self.running_best[picks] >= np.asarray(target)[..., None, None] - 1e-9
        return np.where(reached.any(axis=-1), self.steps[reached.argmax(axis=-1)], np.inf)


@dataclasses.dataclass(frozen=True)
class Speedup:
    """How many times fewer steps an arm needs than the baseline.

    Args:
        arm: The name of the arm.
        role: Which winner of the arm ran: `"fastest"`, `"accurate"`, or `"same"` for the baseline's settings.
        target: The validation accuracy to reach.
        baseline_crossings: The step at which each seed of the baseline reaches it; ∞ for a miss or a divergence.
        crossings: The same of the arm.
        low: The lower end of the interval of `ratio`.
        high: The upper end.
        faster: The probability that a run of the arm is faster than one of the baseline; ties count half.
        cost: The cost of a step of the arm, in steps of the baseline.
    """

    arm: str
    role: str
    target: float
    baseline_crossings: tuple[float, ...]
    crossings: tuple[float, ...]
    low: float
    high: float
    faster: float
    cost: float

    @property
    def ratio(self) -> float:
        """The ratio of the medians: steps of the baseline over steps of the arm; NaN where neither gets there."""
        return ratio_of(statistics.median(self.baseline_crossings), statistics.median(self.crossings))

    @property
    def guessed(self) -> bool:
        """Whether an arm is at the target before its first step, so that the ratio says nothing."""
        return 0 in (statistics.median(self.baseline_crossings), statistics.median(self.crossings))

    @property
    def time_ratio(self) -> float:
        """The same of the seconds."""
        return self.ratio / self.cost


def ratio_of(baseline: float, arm: float) -> float:
    """The baseline's steps over the arm's; ∞ where the arm alone gets there, 0 where the baseline alone does.

    NaN where neither gets there, and where both are there before the first step.
    """
    if baseline == arm and (baseline == 0 or math.isinf(baseline)):
        return math.nan
    if arm == 0 or math.isinf(arm):
        return 0.0 if arm else math.inf
    return baseline / arm


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A finished comparison; `compare` and `read_comparison` return it.

    Attributes:
        recipe: The `Recipe`.
        data: Dict of facts about the data: the shape and number of its examples, its classes.
        plan: The steps, the space, the pools of trials, the winners and the notes.
        seeds: Dict of the runs with new seeds, by a pair of arm and role.
        costs: The cost of a step of each arm.
    """

    recipe: Recipe
    data: Mapping[str, object]
    plan: Plan
    seeds: Mapping[tuple[str, str], tuple[Run, ...]]
    costs: StepCosts

    @functools.cached_property
    def groups(self) -> dict[tuple[str, str], Group]:
        """The seeds of each arm and role, for arithmetic."""
        return {key: Group(runs) for key, runs in self.seeds.items()}

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms with a norm."""
        return tuple(arm for arm in self.recipe.arms if arm != BASELINE)

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / self.data["classes"]

    @property
    def target(self) -> float:
        """The median over seeds of the baseline's best validation accuracy."""
        return statistics.median_low(self.groups[BASELINE, MOST_ACCURATE].best.tolist())

    @property
    def hard_target(self) -> float:
        """The best median of all arms."""
        return max(self.accuracy(arm) for arm in self.recipe.arms)

    @property
    def error(self) -> float:
        """The standard error of the target, as a share of the validation examples."""
        return standard_error(self.target, self.recipe.validation_examples)

    def accuracy(self, arm: str) -> float:
        """The median over seeds of the best validation accuracy of an arm's most accurate winner."""
        return statistics.median_low(self.groups[arm, MOST_ACCURATE].best.tolist())

    def test_accuracies(self, arm: str) -> list[float]:
        """The test accuracy of each seed of an arm's most accurate winner, at its best validation accuracy."""
        return [run.test_accuracy for run in self.seeds[arm, MOST_ACCURATE]]

    def speedup(self, arm: str, role: str = FASTEST, *, hard: bool = False, shift: float = 0.0) -> Speedup:
        """The speed-up of an arm.

        The interval is a percentile bootstrap over the seeds of all arms concerned. Each resample draws its own target,
        since the target depends on the seeds too.

        Args:
            arm: An arm with a norm.
            role: Which of its winners.
            hard: Whether the target is the best median of all arms.
            shift: Added to the target.
        """
        setters = [(name, MOST_ACCURATE) for name in (self.recipe.arms if hard else [BASELINE])]
        keys = list(dict.fromkeys([(BASELINE, MOST_ACCURATE), (arm, role), *setters]))

        def log_ratio(*picks, axis):
            of = dict(zip(keys, picks, strict=True))
            targets = np.max([median_low(self.groups[key].best[of[key]]) for key in setters], axis=0) + shift
            return log_of_ratio(*(np.median(self.groups[key].crossings(targets, of[key]), axis) for key in keys[:2]))

        target = (self.hard_target if hard else self.target) + shift
        crossings = [self.groups[key].crossings(target) for key in keys[:2]]
        low, high = interval([len(self.groups[key].runs) for key in keys], log_ratio)
        cost = self.costs.ratio(arm, BASELINE)
        own = [tuple(each.tolist()) for each in crossings]
        return Speedup(arm, role, target, *own, low, high, probability_faster(*crossings), cost)

    def speedup_curve(self, arm: str, levels: Sequence[float]) -> list[Speedup]:
        """The speed-up of an arm's fastest winner at each of several fixed targets."""
        groups = [self.groups[BASELINE, MOST_ACCURATE], self.groups[arm, FASTEST]]
        cost = self.costs.ratio(arm, BASELINE)
        curve = []
        for level in levels:
            crossings = [group.crossings(level) for group in groups]

            def log_ratio(*picks, axis, crossings=crossings):
                return log_of_ratio(*(np.median(each[own], axis) for each, own in zip(crossings, picks, strict=True)))

            low, high = interval([len(each) for each in crossings], log_ratio, resamples=500)
            own = [tuple(each.tolist()) for each in crossings]
            curve.append(Speedup(arm, FASTEST, level, *own, low, high, probability_faster(*crossings), cost))
        return curve

    def easier_targets(self) -> list[float]:
        """Targets with 4, 2, 1.5 and 1.2 times the errors of `target`, as far as they are well above chance."""
        targets = [1 - errors * (1 - self.target) for errors in (4, 2, 1.5, 1.2)]
        return [target for target in targets if target > (self.chance + self.target) / 2]

    def pool_speedup(self, arm: str, level: float) -> float:
        """The speed-up at a target where both arms take the trial that is best for this target; one seed."""
        first = [min(run.crossing(level) for run in self.plan.pools[name]) for name in (BASELINE, arm)]
        return ratio_of(*first)

    def budgets(self, count: int = 1_000) -> dict[int, dict[str, "Budget"]]:
        """What each arm gets out of fewer trials: subsets of the stored trials, drawn without replacement.

        Args:
            count: The number of subsets of each size.

        Returns:
            A `Budget` for each size and arm. The target is that of `target`, less a standard error.
        """
        generator = np.random.default_rng(SEED)
        size = min(len(pool) for pool in self.plan.pools.values())
        sizes = [2**power for power in range(size.bit_length()) if 2**power <= size]
        picks = {k: np.stack([generator.permutation(size)[:k] for _ in range(count)]) for k in sizes}
        return {k: {arm: self.budget(arm, picks[k]) for arm in self.recipe.arms} for k in sizes}

    def budget(self, arm: str, picks: np.ndarray) -> "Budget":
        """The best of each subset of an arm's trials."""
        target = self.target - self.error
        pool = self.plan.pools[arm]
        crossings = np.array([run.crossing(target) for run in pool])[picks].min(axis=1)
        return Budget(crossings, np.array([run.best for run in pool])[picks].max(axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class Budget:
    """What an arm gets out of a number of trials: the best of each resampled subset.

    Args:
        crossings: The fewest steps to the target; ∞ where no trial of the subset reaches it.
        accuracies: The best validation accuracy.
    """

    crossings: np.ndarray
    accuracies: np.ndarray

    @property
    def reached(self) -> float:
        """The share of subsets that reach the target."""
        return float(np.isfinite(self.crossings).mean())


def median_low(accuracies: np.ndarray) -> np.ndarray:
    """The median along the last axis; of an even number the lower of the two in the middle."""
    return np.sort(accuracies)[..., (accuracies.shape[-1] - 1) // 2]


def log_of_ratio(baseline: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """The logarithm of `ratio_of`, finite; 0 where neither arm gets there, which speaks for neither."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.log(baseline / arm), nan=0.0, posinf=INFINITE, neginf=-INFINITE)


def interval(
    sizes: Sequence[int], log_ratio: Callable[..., np.ndarray], resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The bootstrap interval of a ratio; its ends may be 0 and ∞, and are NaN for a single seed."""
    if min(sizes) < 2:
        return math.nan, math.nan
    found = bootstrap(
        [np.arange(size) for size in sizes],
        log_ratio,
        vectorized=True,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=SEED,
    ).confidence_interval
    return number_of(found.low), number_of(found.high)


def number_of(log_ratio: float) -> float:
    """The ratio of a logarithm. Half way to infinity an end of an interval lies between a number and infinity."""
    if abs(log_ratio) > 20:
        return math.inf if log_ratio > 0 else 0.0
    return math.exp(log_ratio)


def probability_faster(baseline: np.ndarray, arm: np.ndarray) -> float:
    """The share of pairs of runs in which the arm is faster; ties count half."""
    return float(mannwhitneyu(baseline, arm).statistic / (len(baseline) * len(arm)))

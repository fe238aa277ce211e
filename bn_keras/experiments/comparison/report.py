"""A comparison as rows of text, for the terminal and for the pages of the zoo."""

import math
import statistics

from bn_keras.choices.norm_text import text_of
from bn_keras.experiments.comparison.analysis import Comparison, Speedup
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, SAME
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.lab.markdown import counted, facts, size, three_digits

SPEED_COLUMNS = ("arm", "winner", "steps", "never", "fewer steps", "faster", "seconds", "less time")
SETTING_COLUMNS = ("arm", "winner", "learning rate", "warm-up", "weight decay", "gain")
ACCURACY_COLUMNS = ("arm", "validation", "test", "test, lowest to highest", "trials that diverged")
COST_COLUMNS = ("arm", "parameters", "ms per step", "lowest to highest", "cost", "compilation, s")
EASIER_COLUMNS = ("target", "arm", "fewer steps", "faster", "each arm's best trial for this target")
SENSITIVITY_COLUMNS = ("arm", "winner", "target − 1 standard error", "target", "target + 1 standard error")


def title(comparison: Comparison) -> str:
    """What was compared."""
    recipe = comparison.recipe
    sketch = " (a sketch: few trials and seeds)" if recipe.sketch else ""
    return f"{recipe.preset} on {recipe.data_in_words}{sketch}"


def target_line(comparison: Comparison) -> str:
    """The target, and where it comes from."""
    recipe = comparison.recipe
    return (
        f"Target: {comparison.target:.2%} validation accuracy (standard error {comparison.error:.2%}), the median best "
        f"of {counted(recipe.seeds, 'seed')} without norm. Harder target: {comparison.hard_target:.2%}, the highest "
        "median of all arms."
    )


def speed_rows(comparison: Comparison, hard: bool = False) -> list[tuple[str, ...]]:
    """A row for the baseline, and one for each arm and winner that runs for the target."""
    cost = comparison.costs.arms
    rows = []
    for arm in comparison.arms:
        for role in (MOST_ACCURATE,) if hard else (FASTEST, SAME):
            speedup = comparison.speedup(arm, role, hard=hard)
            if not rows:
                own = speedup.baseline_crossings
                rows.append(
                    (BASELINE, "the one", *steps_cells(own), "1×", "", seconds(own, cost[BASELINE].median), "1×")
                )
            own = speedup.crossings
            time = (seconds(own, cost[arm].median), less_time(speedup))
            rows.append((arm, role, *steps_cells(own), gain(speedup), f"{speedup.faster:.0%}", *time))
    return rows


def steps_cells(crossings: tuple[float, ...]) -> tuple[str, str]:
    """The median of crossings with their range, and the misses."""
    reached = [step for step in crossings if math.isfinite(step)]
    spread = f" ({min(reached):,.0f}–{max(reached):,.0f})" if reached else ""
    return steps(statistics.median(crossings)) + spread, f"{len(crossings) - len(reached)} of {len(crossings)}"


def seconds(crossings: tuple[float, ...], cost: float) -> str:
    """The median of crossings in seconds."""
    median = statistics.median(crossings)
    return "never" if math.isinf(median) else three_digits(median * cost)


def steps(count: float) -> str:
    """A number of steps, or "never"."""
    return "never" if math.isinf(count) else f"{count:,.0f}"


def times(ratio: float) -> str:
    """A ratio of two arms."""
    if math.isnan(ratio):
        return "neither gets there"
    if math.isinf(ratio):
        return "∞"
    if ratio == 0:
        return "misses"
    return f"{ratio:.2f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def interval(speedup: Speedup) -> str:
    """The interval of a ratio."""
    if math.isnan(speedup.low):
        return "one seed"
    low, high = ("0" if end == 0 else times(end) for end in (speedup.low, speedup.high))
    return f"{low.removesuffix('×')}–{high}"


def gain(speedup: Speedup) -> str:
    """A ratio with its interval; an arm that misses in every resample has none."""
    if speedup.guessed:
        return "–"
    ratio = times(speedup.ratio)
    never = ratio in ("misses", "neither gets there", "∞") and speedup.low == speedup.high
    return ratio if never else f"{ratio} ({interval(speedup)})"


def less_time(speedup: Speedup) -> str:
    """The ratio of the seconds."""
    return "–" if speedup.guessed else times(speedup.time_ratio)


def setting_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The settings of each winner."""
    rows = []
    for (arm, role), trial in comparison.plan.winners.items():
        if arm != BASELINE or role == FASTEST:
            name = "the one" if arm == BASELINE else role
            cells = (f"{trial.learning_rate:g}", f"{trial.warmup:.0%}", f"{trial.weight_decay:g}")
            rows.append((arm, name, *cells, f"{trial.initial_gain:g}"))
    return rows


def accuracy_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The accuracy of each arm's most accurate winner over seeds, and how many of its trials diverged."""
    rows = []
    for arm in comparison.recipe.arms:
        tests = comparison.test_accuracies(arm)
        pool = comparison.plan.pools[arm]
        diverged = sum(run.diverged_at is not None for run in pool)
        spread = f"{min(tests):.2%} to {max(tests):.2%}"
        test = f"{statistics.median(tests):.2%}"
        rows.append((arm, f"{comparison.accuracy(arm):.2%}", test, spread, f"{diverged} of {len(pool)}"))
    return rows


def cost_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cost of a step of each arm."""
    rows = []
    for arm in comparison.recipe.arms:
        cost = comparison.costs.arms[arm]
        spread = f"{three_digits(1000 * min(cost.seconds))} to {three_digits(1000 * max(cost.seconds))}"
        ratio = f"{comparison.costs.ratio(arm, BASELINE):.2f}×"
        cells = (f"{cost.parameters:,}", three_digits(1000 * cost.median), spread, ratio)
        rows.append((arm, *cells, f"{cost.compile_seconds:.1f}"))
    return rows


def sensitivity_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The speed-ups again with the target a standard error lower and higher."""
    shifts = (-comparison.error, 0.0, comparison.error)
    rows = []
    for arm in comparison.arms:
        for role in (FASTEST, SAME):
            speedups = [comparison.speedup(arm, role, shift=shift) for shift in shifts]
            rows.append((arm, role, *map(gain, speedups)))
    return rows


def easier_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The speed-ups at easier targets: of each arm's fastest winner, and of its best trial for that target."""
    rows = []
    for arm in comparison.arms:
        for speedup in comparison.speedup_curve(arm, [*comparison.easier_targets(), comparison.target]):
            pool = times(comparison.pool_speedup(arm, speedup.target))
            rows.append((f"{speedup.target:.2%}", arm, gain(speedup), f"{speedup.faster:.0%}", pool))
    return rows


def losses(comparison: Comparison) -> list[str]:
    """Where an arm is not clearly faster than the baseline: at the target, in time, and at easier targets."""
    lines = []
    for arm in comparison.arms:
        tuned = comparison.speedup(arm)
        if not (tuned.low > 1 and tuned.time_ratio > 1):
            lines.append(verdict(tuned))
        for speedup in comparison.speedup_curve(arm, comparison.easier_targets()):
            if not speedup.low > 1:
                lines.append(f"With {arm} at an easier target, {speedup.target:.2%}: speed-up {gain(speedup)}.")
    return lines


def verdict(speedup: Speedup) -> str:
    """What a speed-up says, by its interval."""
    settings = "at the same settings" if speedup.role == SAME else "each arm tuned"
    if speedup.guessed:
        return f"Guessing reaches the target, so it says nothing about {speedup.arm} ({settings})."
    if math.isnan(speedup.ratio):
        return f"Neither {speedup.arm} nor the baseline reaches the target ({settings})."
    if math.isinf(speedup.ratio):
        misses = steps_cells(speedup.baseline_crossings)[1]
        return f"Only {speedup.arm} reaches the target; {misses} seeds of the baseline miss it ({settings})."
    if speedup.ratio == 0:
        misses = steps_cells(speedup.crossings)[1]
        return f"With {speedup.arm}, {misses} seeds miss the target ({settings})."
    gain = f"{gained(speedup.ratio, 'fewer', 'more')} steps and {gained(speedup.time_ratio, 'less', 'more')} time"
    clear = speedup.low > 1 or speedup.high < 1
    doubt = "" if clear else ", which the seeds do not tell from 1×"
    return f"With {speedup.arm}, {gain}, {settings} (95 % interval of the steps: {interval(speedup)}){doubt}."


def gained(ratio: float, less: str, more: str) -> str:
    """A ratio in words."""
    size, word = (ratio, less) if ratio >= 1 else (1 / ratio, more)
    return f"{times(size)} {word}"


def verdicts(comparison: Comparison) -> list[str]:
    """A sentence for each arm, tuned and at the same settings."""
    return [verdict(comparison.speedup(arm, role)) for arm in comparison.arms for role in (FASTEST, SAME)]


def notes(comparison: Comparison) -> list[str]:
    """What was extended, and what a reader should doubt."""
    found = list(comparison.plan.notes)
    recipe = comparison.recipe
    if recipe.seeds < 5:
        found.append(f"Intervals of {counted(recipe.seeds, 'seed')} are wide. Take 5 seeds or more.")
    if comparison.target < 1.5 * comparison.chance:
        found.append("The baseline hardly learns anything, so its target says little.")
    gain = statistics.median(run.late_gain() for run in comparison.seeds[BASELINE, MOST_ACCURATE])
    if gain >= comparison.error:
        found.append(
            f"Over the new seeds the baseline still gained {gain / comparison.error:.1f} standard errors in the last "
            "quarter of the steps."
        )
    return found


def summarize(comparison: Comparison) -> str:
    """States a comparison in a few lines: the target, a verdict for each arm, and the doubts.

    Args:
        comparison: A `Comparison`.

    Returns:
        Str of several lines.

    >>> from bn_keras.experiments import read_comparison
    >>> print(summarize(read_comparison("models/mlp_sigmoid/mnist")).splitlines()[0][:25])
    mlp_sigmoid on mnist. Tar
    """
    doubts = [f"Note: {note}" for note in notes(comparison)]
    return "\n".join([f"{title(comparison)}. {target_line(comparison)}", *verdicts(comparison), *doubts])


def machine_text(provenance) -> str:
    """Where and with what the cost was measured."""
    machine, versions = facts(provenance["machine"]), facts(provenance["versions"])
    return f"Machine: {machine}. Versions: {versions}. {provenance['started'][:10]}."


def space_text(comparison: Comparison) -> str:
    """The searched space, as widened."""
    space = comparison.plan.space
    parts = (
        f"learning rate {space.learning_rate[0]:g} to {space.learning_rate[1]:g}",
        f"gain {space.initial_gain[0]:g} to {space.initial_gain[1]:g}",
        "warm-up " + ", ".join(f"{share:.0%}" for share in space.warmup),
        "weight decay " + ", ".join(f"{decay:g}" for decay in space.weight_decay),
    )
    return "; ".join(parts)


def data_text(comparison: Comparison) -> str:
    """The data and its splits."""
    data, held = comparison.data, comparison.recipe.validation_examples
    return (
        f"Data: {data['training_examples'] - held:,} training, {held:,} validation and {data['test_examples']:,} test "
        f"examples of {size(data['input_shape'])}, {data['classes']} classes."
    )


def value_text(value: object) -> str:
    """A field of a recipe."""
    if isinstance(value, (list, tuple)):
        is_norm = len(value) == 2 and isinstance(value[1], dict)
        return text_of(value) if is_norm else ", ".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)

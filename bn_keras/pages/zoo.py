"""The zoo: a card for each comparison, and the matrix of presets and norms, from the stored runs alone."""

import csv
import io
import json
import pathlib
import statistics

from bn_keras.experiments.comparison import report
from bn_keras.experiments.comparison.analysis import Comparison, Speedup
from bn_keras.experiments.comparison.compare import COMPARISON, read_comparison
from bn_keras.experiments.comparison.figures import FIGURES
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, SAME
from bn_keras.experiments.comparison.recipe import BASELINE, hash_of
from bn_keras.experiments.comparison.runs import Job
from bn_keras.experiments.comparison.zoo import ZOO, compare_command, place_of
from bn_keras.experiments.ship import command_of
from bn_keras.lab.markdown import facts, sentence, size, table
from bn_keras.lab.plot import png, svg
from bn_keras.lab.results import ResultsError
from bn_keras.models import preset
from bn_keras.pages.registry import Request

CARD, MATRIX, CSV, EARLIER = "README.md", "README.md", "results.csv", "earlier.json"
CAPTIONS = {
    "learning_curves": "Validation accuracy over steps: median and range over seeds, and where each seed reaches the target.",
    "speedup_over_target": "Speed-up over the target, from easy to hard.",
    "speedup_over_budget": "What each arm gets out of fewer trials: subsets of the stored trials, drawn 1,000 times.",
    "accuracy_over_rate": "The best accuracy of every trial over its learning rate.",
}
CSV_COLUMNS = (
    "preset", "data", "norm", "winner", "target", "validation_accuracy", "test_accuracy", "median_steps", "seeds",
    "never", "fewer_steps", "low", "high", "faster", "step_seconds", "seconds", "less_time", "recipe",
)  # fmt: skip


def files(request: Request) -> dict[str, str | bytes]:
    """The matrix of all comparisons, its CSV, a page for each preset, and a card with figures for each comparison.

    Raises:
        ResultsError: When there are no results, or unfinished ones, or when they were made with another recipe than
            `ZOO` has now.
    """
    comparisons = read_zoo(request.results)
    texts = {MATRIX: matrix_text(comparisons), CSV: csv_text(comparisons)}
    for place, comparison in comparisons.items():
        earlier = read_earlier(request.results / place / EARLIER)
        texts[f"{place}/{CARD}"] = card_text(comparison, earlier)
        for name, figure in FIGURES.items():
            drawn = figure(comparison)
            texts[f"{place}/{name}.svg"] = svg(drawn, f"drawn from the stored runs of recipe {recipe_hash(comparison)}")
            texts[f"{place}/{name}.png"] = png(drawn)
    for name in {place.parts[0] for place in comparisons}:
        own = {place: each for place, each in comparisons.items() if place.parts[0] == name}
        texts[f"{name}/{CARD}"] = preset_text(name, own)
    return texts


def read_zoo(folder: pathlib.Path) -> dict[pathlib.PurePosixPath, Comparison]:
    """The comparisons in a folder, in the order of `ZOO`; those that `ZOO` does not have come last."""
    order = {str(place_of(recipe)): recipe for recipe in ZOO}
    found = {str(path.parent.relative_to(folder).as_posix()) for path in folder.glob(f"*/*/{COMPARISON}")}
    if not found:
        raise ResultsError(f"There is no {folder}/PRESET/DATA/{COMPARISON}. Make one with `make zoo`.")
    comparisons = {}
    for name in [*(name for name in order if name in found), *sorted(found - set(order))]:
        comparison = read_comparison(folder / name)
        if name in order and comparison.recipe != order[name]:
            raise ResultsError(
                f"{folder / name} is stale: it was made with the recipe {recipe_hash(comparison)}, and the zoo's is "
                f"{hash_of(order[name].to_dict())} now. Move the folder away and run `make zoo`."
            )
        comparisons[pathlib.PurePosixPath(name)] = comparison
    return comparisons


def recipe_hash(comparison: Comparison) -> str:
    """The hash of a comparison's recipe."""
    return hash_of(comparison.recipe.to_dict())


def read_earlier(path: pathlib.Path) -> dict | None:
    """What an earlier protocol said of the same preset and data, where it is stored."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def card_text(comparison: Comparison, earlier: dict | None) -> str:
    """The card of a comparison."""
    recipe = comparison.recipe
    return f"""# {report.title(comparison)}

{report.target_line(comparison)} The [protocol](../../../docs/protocol.md) says how the arms are tuned and measured.

{bullets(report.verdicts(comparison) + report.notes(comparison))}

{figure_text("learning_curves")}

## Steps and seconds to the target
{table(report.SPEED_COLUMNS, report.speed_rows(comparison))}

Steps are the median over {recipe.seeds} seeds, with the lowest and the highest that got there. In brackets after the
speed-up is its 95 % interval. *Faster* is the probability that a run is faster than one without norm. *Same* is the
baseline's winner with the norm and nothing else changed.

## Steps and seconds to the harder target
{table(report.SPEED_COLUMNS, report.speed_rows(comparison, hard=True))}

## How much the answer depends on the target and the protocol
{table(report.SENSITIVITY_COLUMNS, report.sensitivity_rows(comparison))}

{earlier_text(comparison, earlier)}{paper_text(comparison)}
{figure_text("speedup_over_target")}

## What tuning is worth
{budget_text(comparison)}

{figure_text("speedup_over_budget")}

{figure_text("accuracy_over_rate")}

## Accuracy
{table(report.ACCURACY_COLUMNS, report.accuracy_rows(comparison))}

Medians over the seeds of the most accurate winner. The test images are used once, with the weights of the best
validation accuracy. *Diverged* counts trials whose loss stopped being finite.

## The winners
{table(report.SETTING_COLUMNS, report.setting_rows(comparison))}

Train a winner again, with the same curve on the same machine:

```
{commands_text(comparison)}
```

## Cost of a step
{table(report.COST_COLUMNS, report.cost_rows(comparison))}

Medians of {len(next(iter(comparison.costs.arms.values())).seconds)} rounds, all arms in turns, without evaluations.
{machine_text(comparison.costs.provenance)}

## Recipe
{table(("field", "value"), [(f"`{key}`", value_text(value)) for key, value in recipe.to_dict().items()])}

- Hash: `{recipe_hash(comparison)}`. Each run took {comparison.plan.steps:,} steps.
- Trials of each arm: {len(comparison.plan.pools[BASELINE])}. Space: {space_text(comparison)}.
- {data_text(comparison)}
- [results of all comparisons](../../results.csv) · stored runs in `runs/`

Run it again: `{compare_command(recipe)}`
"""


def bullets(lines: list[str]) -> str:
    """Lines as a list."""
    return "\n".join(f"- {sentence(line)}" for line in lines)


def figure_text(name: str) -> str:
    """A figure and its caption."""
    return f"![{CAPTIONS[name]}]({name}.svg)\n\n*{CAPTIONS[name]}* [PNG]({name}.png)"


def earlier_text(comparison: Comparison, earlier: dict | None) -> str:
    """The earlier protocol beside the present one."""
    if earlier is None:
        return ""
    recipe, rows = earlier["recipe"], []
    role = {"same": SAME, "own": FASTEST}
    for row in earlier["rows"]:
        rates = " and ".join(f"{rate:g}" for rate in row["learning_rates"])
        now = comparison.speedup("batch", role[row["question"]])
        was = [report.times(row[key]) if row[key] else "never" for key in ("fewer_steps", "fewer_steps_lowered")]
        rows.append(
            (f"batch, {role[row['question']]}", rates, *was, f"{report.times(now.ratio)} ({report.interval(now)})")
        )
    columns = ("arm", "rates of both arms", "earlier", "earlier, target − 1 standard error", "this protocol")
    return f"""An earlier protocol tuned the learning rate alone ({value_text(recipe["learning_rates"])}), on the test images,
with {len(recipe["seeds"])} seeds and {recipe["steps"]:,} steps (width {recipe["width"]:g}, batch {recipe["batch_size"]}),
and took the crossing of the mean curve:

{table(columns, rows)}

"""


def paper_text(comparison: Comparison) -> str:
    """The paper's speed-up of batch norm alone beside the present one."""
    if "batch" not in comparison.arms:
        return ""
    same = comparison.speedup("batch", SAME)
    return f"""The paper reports 2.3× fewer steps for batch norm alone at the same learning rate (Inception on ImageNet, one
run). Here it is {report.times(same.ratio)}, with a 95 % interval of {report.interval(same)}.

"""


def budget_text(comparison: Comparison) -> str:
    """The tuning budget as a table."""
    target = comparison.target - comparison.error
    rows = []
    for trials, budgets in comparison.budgets().items():
        cells = [
            f"{report.steps(statistics.median(each.crossings.tolist()))} ({each.reached:.0%})"
            for each in budgets.values()
        ]
        cells += [f"{statistics.median(each.accuracies.tolist()):.2%}" for each in budgets.values()]
        rows.append((trials, *cells))
    arms = comparison.recipe.arms
    columns = ("trials", *(f"steps, {arm}" for arm in arms), *(f"best accuracy, {arm}" for arm in arms))
    return (
        f"Median steps to {target:.2%}, a standard error under the target, and the share of budgets that get there; and "
        f"the median best validation accuracy.\n\n{table(columns, rows)}"
    )


def commands_text(comparison: Comparison) -> str:
    """The command of the first seed of each winner."""
    lines = []
    for (arm, role), trial in comparison.plan.winners.items():
        if arm == BASELINE and role != FASTEST:
            continue
        job = Job(arm, trial, comparison.plan.steps, 1)
        training = comparison.recipe.training(arm, trial, job.steps, job.seed)
        lines.append(f"# {arm}, {'the one' if arm == BASELINE else role}: runs/{job.key(comparison.recipe)}.json")
        lines.append(command_of(training))
    return "\n".join(lines)


def machine_text(provenance) -> str:
    """Where and with what the cost was measured."""
    return f"Machine: {facts(provenance['machine'])}. Versions: {facts(provenance['versions'])}. {provenance['started'][:10]}."


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
        return ", ".join(map(value_text, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def preset_text(name: str, comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """The page of a preset: what it is, and its comparisons."""
    entry = preset(name)
    parts = [f"# {name}\n\n{sentence(entry.summary)} Source: {sentence(entry.source)}"]
    for place, comparison in comparisons.items():
        parts.append(
            f"## [{comparison.recipe.data}]({place.parts[1]}/{CARD})\n{report.target_line(comparison)}\n\n"
            f"{bullets(report.verdicts(comparison))}\n\n![{CAPTIONS['learning_curves']}]({place.parts[1]}/learning_curves.svg)"
        )
    return "\n\n".join(parts) + "\n"


MATRIX_COLUMNS = (
    "preset", "data", "norm", "test accuracy", "steps to the target", "fewer steps", "at the same settings",
    "seconds", "less time",
)  # fmt: skip


def matrix_text(comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """The page of the whole zoo."""
    rows, verdicts = [], []
    for place, comparison in comparisons.items():
        rows += matrix_rows(place, comparison)
        for arm in comparison.arms:
            speedup = comparison.speedup(arm)
            if not (speedup.low > 1 and speedup.time_ratio > 1):
                verdicts.append(f"{comparison.recipe.preset} on {comparison.recipe.data}: {report.verdict(speedup)}")
    losses = bullets(verdicts) if verdicts else "Every norm is faster in all comparisons above, in steps and in time."
    return f"""# Model zoo

What does a norm do to the speed of training? Each row is one network with one norm: the steps and seconds that it needs
to reach the best validation accuracy of the same network without norm. All arms are tuned alike, the winners run with
new seeds, and the [protocol](../docs/protocol.md) was written down before the runs.

{table(MATRIX_COLUMNS, rows)}

- *Steps* and *seconds* are medians over seeds, with each arm's fastest settings. In brackets: 95 % intervals.
- *At the same settings* changes the norm alone, as the paper does for its 2.3×.
- *Test accuracy* is the median of each arm's most accurate settings.
- The numbers of this table, and more, are in [results.csv](results.csv).

## Where a norm does not win
Its interval reaches 1×, or its steps cost more time than they save.

{losses}

`make zoo` makes the runs that are missing and writes these pages from the stored runs.
"""


def matrix_rows(place: pathlib.PurePosixPath, comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of a comparison in the matrix."""
    cost = comparison.costs.arms
    rows = []
    for arm in comparison.recipe.arms:
        test = f"{statistics.median(comparison.test_accuracies(arm)):.2%}"
        start = (f"[{place.parts[0]}]({place}/{CARD})", comparison.recipe.data, arm, test)
        if arm == BASELINE:
            own = comparison.speedup(comparison.arms[0]).baseline_crossings
            cells = (report.steps(statistics.median(own)), "1×", "1×", report.seconds(own, cost[arm].median), "1×")
        else:
            tuned, same = comparison.speedup(arm), comparison.speedup(arm, SAME)
            ratios = [f"{report.times(each.ratio)} ({report.interval(each)})" for each in (tuned, same)]
            own = tuned.crossings
            seconds = report.seconds(own, cost[arm].median)
            cells = (report.steps(statistics.median(own)), *ratios, seconds, report.times(tuned.time_ratio))
        rows.append((*start, *cells))
    return rows


def csv_text(comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """Every speed-up of the zoo, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons.values():
        for arm in comparison.arms:
            for role, hard in ((FASTEST, False), (SAME, False), (MOST_ACCURATE, True)):
                speedup = comparison.speedup(arm, role, hard=hard)
                if arm == comparison.arms[0] and role != SAME:
                    writer.writerow(csv_row(comparison, BASELINE, speedup, speedup.baseline_crossings))
                writer.writerow(csv_row(comparison, arm, speedup, speedup.crossings))
    return text.getvalue()


def csv_row(comparison: Comparison, arm: str, speedup: Speedup, crossings: tuple[float, ...]) -> list:
    """A row of the CSV; the baseline has no ratios."""
    recipe, cost = comparison.recipe, comparison.costs.arms[arm].median
    median = statistics.median(crossings)
    numbers = (speedup.ratio, speedup.low, speedup.high, speedup.faster) if arm != BASELINE else ("",) * 4
    never = sum(step == float("inf") for step in crossings)
    return [
        recipe.preset, recipe.data, arm, speedup.role if arm != BASELINE else "", round(speedup.target, 6),
        round(comparison.accuracy(arm), 6), round(statistics.median(comparison.test_accuracies(arm)), 6), median,
        len(crossings), never, *(f"{number:.4g}" if number != "" else "" for number in numbers), f"{cost:.4g}",
        f"{median * cost:.4g}", f"{speedup.time_ratio:.4g}" if arm != BASELINE else "", recipe_hash(comparison),
    ]  # fmt: skip
